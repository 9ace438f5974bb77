"""The words of controller, workers and their clients: LLaVA's and FastChat's JSON, and what travels beside it between our own processes.

A stream is JSON objects, each followed by a NUL byte. A foreign client gets `{"text": <prompt and all text so far>, "error_code": 0}`
again and again (LLaVA's form). Our own engine sends the chat under `"llava"` beside the prompt string, so that no user's text becomes a
control token or an image slot, and gets `{"delta": <new text>, "error_code": 0}`; the last object of an answer has a `finish_reason`.
Errors are objects too: a sentence, LLaVA's number, and a code by which the other end knows which error it was. Knows no socket.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from llava.chat import Call, Chat, Image, Message, Reply, Sampling, Token
from llava.conversation import Conversation
from llava.errors import (
    ContextTooLong,
    EngineClosed,
    EngineError,
    EngineTimeout,
    ImageError,
    LlavaError,
    Misconfigured,
    NoLogprobs,
    Overloaded,
    Unavailable,
    UnknownModel,
    UserError,
)
from llava.recent import Recent

END = b"\0"
FAILED, NO_SUCH_MODEL, UNREACHABLE = 1, 2, 3  # LLaVA's `error_code`; 0 is none
MAX_EVENT = 16 * 2**20  # bytes of one object of a stream
MAX_SOUGHT = 16

# An error <-> its code. The first row that fits names an error; a code comes back as the class of its first row.
CODES: tuple[tuple[type[LlavaError], str], ...] = (
    (ContextTooLong, "context_length_exceeded"),
    (ImageError, "invalid_image"),
    (NoLogprobs, "logprobs_unavailable"),
    (UnknownModel, "model_not_found"),
    (Misconfigured, "misconfigured"),
    (UserError, "invalid_request"),
    (Overloaded, "overloaded"),
    (EngineTimeout, "timeout"),
    (Unavailable, "unavailable"),
    (EngineClosed, "unavailable"),  # the other end's engine is closed; ours is not
    (EngineError, "engine_failed"),
)
Turn = tuple[str, str, int]  # role, text, number of images
# The steps of one question send the same picture in turn, and a photo that stands upright by a tag only has to be written anew.
_sent: Recent[str, str] = Recent(64 * 2**20, len)


@dataclass(frozen=True, slots=True)
class Status:
    """What a worker says of itself. `speed` is relative to other workers, `queue_length` counts calls that wait or run."""

    model_names: tuple[str, ...]
    speed: float = 1
    queue_length: int = 0

    @classmethod
    def read(cls, value: object) -> Status:
        """From JSON; raises `UserError` for what no worker would say."""
        if not isinstance(value, dict):
            raise UserError("A worker's status is an object with model_names, speed and queue_length.")
        names = value.get("model_names")
        if not isinstance(names, list) or not 1 <= len(names) <= 100 or not all(isinstance(n, str) and _is_name(n) for n in names):
            raise UserError("A worker's model_names are 1 to 100 names of 1 to 200 printable characters.")
        speed = value.get("speed", 1)
        if not _is_number(speed) or not 0 < speed <= 1e6:
            raise UserError("A worker's speed is a number above 0.")
        return cls(tuple(names), speed, queue_length(value.get("queue_length", 0)))

    def json(self) -> dict[str, object]:
        """In LLaVA's form."""
        return {"model_names": list(self.model_names), "speed": self.speed, "queue_length": self.queue_length}


def queue_length(value: object) -> int:
    """A number of calls; raises `UserError`."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 10**6:
        raise UserError("A queue_length is a whole number, at least 0.")
    return value


def event(fields: Mapping[str, object]) -> bytes:
    """One object of a stream."""
    return json.dumps(fields).encode() + END


def code_of(error: Exception) -> str:
    """The code by which the other end knows `error`."""
    return next((code for kind, code in CODES if isinstance(error, kind)), "internal_error")


def error_event(error: Exception, number: int = FAILED) -> bytes:
    """`error` as the last object of a stream. Only errors of ours are quoted: their text is a sentence without the user's words."""
    said = str(error) if isinstance(error, LlavaError) else "The worker failed; its log tells more."
    detail: dict[str, object] = {"code": code_of(error)}
    if isinstance(error, ContextTooLong):
        detail |= {"prompt_tokens": error.prompt_tokens, "max_tokens": error.max_tokens, "context": error.context}
    return event({"text": said, "error_code": number, "error": detail})


def error_from(fields: Mapping[str, Any]) -> LlavaError:
    """The error that an object of a stream tells of; what an original worker says is not repeated."""
    detail = fields.get("error")
    if not isinstance(detail, dict) or not isinstance(fields.get("text"), str):
        return EngineError(f"The worker failed (error_code {str(fields.get('error_code'))[:20]}).")
    kind = next((kind for kind, code in CODES if code == detail.get("code")), EngineError)
    if kind is ContextTooLong:
        numbers = [detail.get(name) for name in ("prompt_tokens", "max_tokens", "context")]
        return ContextTooLong(*(n if isinstance(n, int) else None for n in numbers))
    return kind(fields["text"][:1000])


class Splitter:
    """Bytes as they come, objects as they are complete."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []  # joined once, when its end comes: a large object arrives in very many pieces
        self._size = 0

    def add(self, data: bytes) -> list[bytes]:
        """The objects that `data` completes, without their NUL; raises `EngineError` for one that has no end."""
        *whole, rest = data.split(END)
        if whole:
            whole[0] = b"".join([*self._rest, whole[0]])
            self._rest, self._size = [], 0
        self._rest.append(rest)
        self._size += len(rest)
        if self._size > MAX_EVENT:
            raise EngineError("The worker sends an object without an end.")
        return [part for part in whole if part]

    @property
    def empty(self) -> bool:
        """Whether nothing is left over."""
        return not self._size


def read_event(raw: bytes) -> dict[str, Any]:
    """One object of a stream; raises `EngineError` for anything else and for the error that it tells of."""
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError):
        raise EngineError("The worker sends something else than JSON objects.") from None
    if not isinstance(fields, dict) or "error_code" not in fields:
        raise EngineError("The worker sends objects of an unknown form.")
    if fields["error_code"] != 0:
        raise error_from(fields)
    return fields


def request_of(call: Call, model: str, template: Conversation) -> dict[str, Any]:
    """The body of `/worker_generate_stream`: LLaVA's fields for an original worker, the call itself under `llava` for ours.

    Encodes images: not for an event loop.
    """
    sampling = call.sampling
    return {
        "model": model,
        "prompt": prompt_of(call.chat, template),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_new_tokens": sampling.max_tokens,
        "stop": sampling.stop[0] if sampling.stop else template.stop or "</s>",
        "images": [_sent.get(image.sha256, partial(_base64, image)) for image in call.chat.images],
        "llava": {
            "step": call.step,
            "messages": [{"role": m.role, "text": m.text, "images": len(m.images)} for m in call.chat.messages],
            "sampling": asdict(sampling),
            "top_logprobs": call.top_logprobs,
            "sought": list(call.sought),
            "whole": call.whole,
        },
    }


def _base64(image: Image) -> str:
    return base64.b64encode(image.file()).decode("ascii")


def prompt_of(chat: Chat, template: Conversation) -> str:
    """The prompt string that LLaVA's own clients would send."""
    messages = list(chat.messages)
    system = messages.pop(0).text if messages[0].role == "system" else None
    turns: list[tuple[str, str | None]] = [
        (template.roles[i % 2], "<image>\n" * len(message.images) + message.text) for i, message in enumerate(messages)
    ]
    return "".join(template.layout([*turns, (template.roles[1], None)], system))


def call_of(fields: Mapping[str, Any], images: Sequence[Image]) -> Call:
    """The call that stands under `llava`; raises `UserError`. What another version says beside it does not count."""
    messages, sampling = fields.get("messages"), fields.get("sampling")
    step, top = fields.get("step"), fields.get("top_logprobs", 0)
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages) or not isinstance(sampling, dict):
        raise UserError("A call has messages and sampling.")
    if not isinstance(step, str) or not _is_name(step) or not isinstance(top, int) or not 0 <= top <= 100:
        raise UserError("A call has the name of its step, and a number of top_logprobs up to 100.")
    sought = fields.get("sought", [])
    if not isinstance(sought, list) or len(sought) > MAX_SOUGHT or not all(isinstance(word, str) and len(word) <= 256 for word in sought):
        raise UserError(f"What a call seeks are at most {MAX_SOUGHT} texts of at most 256 characters.")
    turns = [(message.get("role"), message.get("text"), message.get("images", 0)) for message in messages]
    if not all(isinstance(count, int) and count >= 0 for _, _, count in turns):
        raise UserError("A message says how many images it has.")
    try:
        settings = Sampling(**{**sampling, "stop": tuple(sampling.get("stop", ()))})
    except TypeError:
        raise UserError("A call has sampling settings that are not known here.") from None
    return Call(step, chat_of(turns, images), settings, top, tuple(sought), whole=fields.get("whole") is True)


def chat_of(turns: Iterable[tuple[Any, Any, int]], images: Sequence[Image]) -> Chat:
    """The chat whose turns take `images` in order; raises `UserError` when the counts differ."""
    turns = list(turns)
    slots = sum(count for _, _, count in turns)
    if slots != len(images):
        raise UserError(f"The prompt has {slots} <image> and {len(images)} images were given: give one image for each <image>.")
    rest = iter(images)
    return Chat(tuple(Message(role, text, tuple(next(rest) for _ in range(count))) for role, text, count in turns))


def last_fields(reply: Reply) -> dict[str, object]:
    """What the last object of an answer has beside its text."""
    usage = None
    if reply.prompt_tokens is not None and reply.completion_tokens is not None:
        total = reply.prompt_tokens + reply.completion_tokens
        usage = {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.completion_tokens, "total_tokens": total}
    return {"finish_reason": reply.finish_reason, "usage": usage}


def last_logprobs(reply: Reply) -> dict[str, object]:
    """Log-probabilities for our own engine, of the first token and of all; JSON has no minus infinity."""
    fields: dict[str, object] = {}
    if reply.first_logprobs is not None:
        fields["first_logprobs"] = {text: max(value, -1e9) for text, value in reply.first_logprobs.items()}
    if reply.tokens is not None:
        fields["tokens"] = [token.row() for token in reply.tokens]
    return fields


def reply_of(fields: Mapping[str, Any], text: str) -> Reply:
    """The reply that the last object of our own form tells of; raises `EngineError`."""
    reason, usage, first = fields.get("finish_reason"), fields.get("usage"), fields.get("first_logprobs")
    if reason not in ("stop", "length"):
        raise EngineError("The worker broke its answer off: it is not used.")
    reply = Reply(text, finish_reason=reason)
    if isinstance(usage, dict):
        read, written = (_count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens"))
        reply = replace(reply, prompt_tokens=read, completion_tokens=written)
    if isinstance(first, dict):
        if not all(_is_number(value) for value in first.values()):
            raise EngineError("The worker sends log-probabilities that are no numbers.")
        reply = replace(reply, first_logprobs=first)
    if isinstance(tokens := fields.get("tokens"), list):
        try:
            reply = replace(reply, tokens=tuple(map(Token.of_row, tokens)))
        except UserError:
            raise EngineError("The worker sends tokens that are no tokens.") from None
    return reply


def _is_name(text: str) -> bool:
    return 1 <= len(text) <= 200 and text.isprintable()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e18  # false for NaN and infinities too


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9 else None
