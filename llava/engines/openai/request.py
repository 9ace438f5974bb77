"""What a server is asked, and what it means when it refuses. Data to data: knows no server, address or key.

Servers differ in what they take. What carries no meaning is left out where it is refused (log-probabilities, usage in streams, a
top_p of 1), and `max_tokens` has a newer name; but what would change the answer is never dropped: a check that was meant to be greedy
must not be sampled in silence.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any, Protocol

from llava.chat import MAX_TOP_LOGPROBS, Call, Sampling
from llava.engines.openai.wire import to_messages
from llava.errors import ContextTooLong, NoLogprobs, UserError

EXTRAS = ("stream_options", "logprobs")
SETTINGS = ("temperature", "top_p", "seed", "stop")
_TOO_LONG = re.compile(
    r"context.{0,20}(length|window|size)|maximum.{0,20}(length|tokens)|(prompt|input).{0,20}too long|too many tokens", re.I
)
# Of the model, and not of a picture that it "could not read".
_NO_IMAGES = re.compile(
    r"(not|n't) (a |an )?(multimodal|vision)|(not|n't) (currently )?(support|accept|take|allow|have)\w*.{0,20}(multimodal|vision|image)"
    r"|image.{0,40}not (supported|allowed|accepted)|at most 0 image",
    re.I,
)
# How OpenAI, vLLM, SGLang and llama.cpp count in their refusals.
_CONTEXT = re.compile(r"(?:context|model) (?:length|size|window)\D{0,12}(\d+)", re.I)
_PROMPT = re.compile(
    r"(\d+) (?:tokens )?(?:in|from) the (?:messages|prompt|input)|(\d+) (?:input|prompt) tokens|resulted in (\d+) tokens"
    r"|prompt \(length (\d+)\)|request \((\d+) tokens\)",
    re.I,
)


class No(Protocol):
    """A server's refusal: its status, its whole body as text, and what OpenAI's error object says."""

    status_code: int
    message: str
    code: Any
    type: Any
    param: Any


def to_request(model: str, call: Call, left_out: Collection[str]) -> dict[str, Any]:
    """The body of a chat completion request without what is `left_out`; `max_tokens` there means its newer name.

    Raises `UserError` when a setting is left out that would change the answer, `NoLogprobs` when log-probabilities are that must be told,
    and `ImageError` for an image too large to send.
    """
    sampling = call.sampling
    request: dict[str, Any] = {
        "model": model,
        "messages": to_messages(call.chat),
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_completion_tokens" if "max_tokens" in left_out else "max_tokens": sampling.max_tokens,
    }
    if sampling.stop:
        request["stop"] = list(sampling.stop)
    if sampling.seed is not None:
        request["seed"] = sampling.seed
    top = max(call.top_logprobs, sampling.logprobs or 0)
    if sampling.logprobs is not None and "logprobs" in left_out:
        raise NoLogprobs
    if (top or sampling.logprobs is not None) and "logprobs" not in left_out:
        request |= {"logprobs": True, "top_logprobs": min(MAX_TOP_LOGPROBS, top)}
    for name in left_out:
        if name in SETTINGS and name in request and not _changes_nothing(name, sampling):
            shown = name if name == "stop" else f"{name} {request[name]!r}"  # stop strings are words of a user, and errors are logged
            raise UserError(f"The model {model} does not take {shown}: choose another value or another model.")
    return {name: value for name, value in request.items() if name not in left_out}


def _changes_nothing(name: str, sampling: Sampling) -> bool:
    """Whether a server that is not told this setting does what it says."""
    return {"temperature": sampling.temperature == 1, "top_p": sampling.top_p == 1, "seed": sampling.temperature == 0}.get(name, False)


def refused(error: No, request: Collection[str], needed: Collection[str] = ()) -> set[str]:
    """Which parts of `request` (names) to leave out after this refusal; empty when it is about something else.

    What is `needed` is left out only where the refusal names it.
    """
    if _too_long(error):
        return set()
    named = {name for name in EXTRAS if name in request and name in error.message}
    named |= {name for name in SETTINGS if name in request and _is_about(error, name)}
    if "max_tokens" in request and ("max_completion_tokens" in error.message or _is_about(error, "max_tokens")):
        named.add("max_tokens")
    return named or {name for name in EXTRAS if name in request and name not in needed}


def _is_about(error: No, name: str) -> bool:
    """Whether the parameter itself is refused, in OpenAI's form; a message may quote a prompt that holds the same word."""
    if error.code in ("unsupported_parameter", "unsupported_value") and error.param == name:
        return True
    return re.search(rf"unsupported (parameter|value):? ['\"`]?{name}\b", error.message, re.I) is not None


def explain(error: No, model: str, address: str, sampling: Sampling) -> UserError:
    """A refused request (400, 413, 422) as an error of ours; never the server's message, which may quote the prompt."""
    if _too_long(error):
        return _context_too_long(error.message, sampling)
    if _NO_IMAGES.search(error.message):
        return UserError(f"The model {model} does not take images.")
    codes = _identifiers(error.type, error.code, error.param)
    return UserError(f"The server at {address} refused the request ({', '.join([str(error.status_code), *codes])}).")


def _too_long(error: No) -> bool:
    return error.code == "context_length_exceeded" or _TOO_LONG.search(error.message) is not None


def _context_too_long(message: str, sampling: Sampling) -> ContextTooLong:
    context, prompt = _CONTEXT.search(message), _PROMPT.search(message)
    if context and prompt:
        tokens, room = int(next(filter(None, prompt.groups()))), int(context[1])
        if tokens + sampling.max_tokens > room:  # else the numbers mean something else
            return ContextTooLong(tokens, sampling.max_tokens, room)
    return ContextTooLong()


def _identifiers(*words: object) -> Iterable[str]:
    return (word for word in words if isinstance(word, str) and re.fullmatch(r"[\w.\-]{1,64}", word))
