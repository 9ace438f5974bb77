"""A trace as JSON and back. Messages name images by hash; the pixels themselves are kept once, and only when wanted.

`from_dict(to_dict(trace)) == trace` holds with and without pixels, but for `error`, of which kind and sentence are kept.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, get_args

import llava.errors
from llava.chat import Call, Chat, FinishReason, Image, Message, Reply, Sampling, Token
from llava.ecso.defences import Method
from llava.ecso.policy import Policy
from llava.ecso.prompts import Prompts
from llava.ecso.steps import Outcome, Released
from llava.ecso.trace import Step, Trace
from llava.ecso.verdict import Verdict
from llava.errors import ContextTooLong, ImageError, LlavaError, UserError

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

FORMAT = 1
MOST = 2**53  # no number of a trace is larger; what is may be no float either, and cannot be shown
Json = dict[str, Any]

# The types that a record may have where nothing behind it checks them. A record may come from anywhere, and is printed and drawn.
_NUMBER, _NONE = (int, float), type(None)
_TRACE = {"engine": (str,), "given": (str, _NONE), "harmful": (bool, _NONE), "steps": (list,)}
_STEP = {"step": (str,), "top_logprobs": (int,), "sought": (list,), "seconds": _NUMBER, "edited": (bool,)}
_REPLY = {
    "text": (str,),
    "prompt_tokens": (int, _NONE),
    "completion_tokens": (int, _NONE),
    "first_logprobs": (dict, _NONE),
    "seconds": _NUMBER,
}
_VERDICT = {"harmful": (bool,), "p_harmful": (*_NUMBER, _NONE), "reason": (str,), "open": (bool,)}
_ERROR = {"kind": (str,), "text": (str,)}


class KnownByHash(Image):
    """An image of which a record kept only hash and size; equal to the real one, but without pixels."""

    __slots__ = ()

    def __init__(self, sha256: str, size: tuple[int, int]) -> None:
        self.sha256 = sha256
        self._size = size

    def pil(self) -> PILImage:
        """Raises `ImageError`: there are no pixels."""
        raise ImageError("This trace was saved without its images. Save it with to_dict(embed=True) to keep them.")

    def png(self) -> bytes:
        """Raises `ImageError`: there are no pixels."""
        self.pil()
        return b""

    def file(self) -> bytes:
        """Raises `ImageError`: there are no pixels."""
        return self.png()


def to_dict(trace: Trace, embed: bool) -> Json:
    """JSON-able data: a summary for readers first, then everything."""
    images = {image.sha256: _image(image, embed) for image in _all_images(trace)}
    method = {"defence": trace.method.defence, "policy": asdict(trace.method.policy), "prompts": asdict(trace.method.prompts)}
    return {
        "format": FORMAT,
        "question": trace.question,
        "answer": trace.answer,
        "harmful": trace.harmful,
        "released": trace.released,
        "p_harmful": trace.p_harmful,
        "seconds": trace.seconds,
        "given": trace.given,
        "error": trace.error and {"kind": type(trace.error).__name__, "text": str(trace.error)},
        "engine": trace.engine,
        "chat": _messages(trace.ask) if trace.ask else None,
        "steps": [_step(step) for step in trace.steps],
        "method": method,
        "images": images,
    }


def from_dict(data: Mapping[str, Any]) -> Trace:
    """The trace that `to_dict` was given; raises `UserError` when `data` is not such a record, or its pixels are not those it names."""
    if not isinstance(data, Mapping) or data.get("format") != FORMAT:
        found = f"its format is {data.get('format')!r:.100}" if isinstance(data, Mapping) else f"it is a {type(data).__name__}"
        raise UserError(f"This is no trace of format {FORMAT}: {found}.")
    try:
        return _trace(data)
    except LlavaError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"The trace is damaged: {type(error).__name__} at {error}.") from None


def _trace(data: Mapping[str, Any]) -> Trace:
    _check(data, _TRACE)
    images = {sha: Image.reopen(i["data_url"], sha) if "data_url" in i else _known(sha, i["size"]) for sha, i in data["images"].items()}
    released = data["released"]
    if released and not (released in get_args(Released) and isinstance(data["answer"], str)):
        raise ValueError("released")
    return Trace(
        ask=_chat(data["chat"], images) if data["chat"] else None,
        method=_method(data["method"]),
        engine=data["engine"],
        steps=tuple(_step_back(step, images) for step in data["steps"]),
        outcome=Outcome(data["answer"], data["harmful"], released) if released else None,
        given=data["given"],
        error=_error(data["error"]) if data["error"] else None,
    )


def _check(data: Mapping[str, Any], types: Mapping[str, tuple[type, ...]]) -> None:
    for name, allowed in types.items():
        value = data.get(name)
        if name in data and type(value) not in allowed:  # a truth is no number here
            raise TypeError(name)
        if type(value) is int and abs(value) > MOST:
            raise ValueError(name)


def _known(sha256: str, size: Any) -> KnownByHash:
    width, height = size
    if not re.fullmatch("[0-9a-f]{64}", sha256) or not all(type(side) is int and 0 < side < MOST for side in (width, height)):
        raise ValueError("images")
    return KnownByHash(sha256, (width, height))


def _all_images(trace: Trace) -> list[Image]:
    chats = [step.call.chat for step in trace.steps]
    return [image for chat in ([trace.ask] if trace.ask else []) + chats for image in chat.images]


def _image(image: Image, embed: bool) -> Json:
    return {"size": list(image.size)} | ({"data_url": image.data_url()} if embed else {})


def _messages(chat: Chat) -> list[Json]:
    return [{"role": m.role, "text": m.text, "images": [image.sha256 for image in m.images]} for m in chat.messages]


def _chat(messages: list[Json], images: Mapping[str, Image]) -> Chat:
    return Chat(tuple(Message(m["role"], m["text"], tuple(images[sha] for sha in m["images"])) for m in messages))


def _step(step: Step) -> Json:
    reply = {field.name: getattr(step.reply, field.name) for field in fields(Reply)}
    if step.reply.first_logprobs is not None:  # JSON has no infinity; a token of probability 0 says nothing
        reply["first_logprobs"] = {token: p for token, p in step.reply.first_logprobs.items() if math.isfinite(p)}
    reply["tokens"] = None if step.reply.tokens is None else [token.row() for token in step.reply.tokens]
    return {
        "step": step.name,
        "chat": _messages(step.call.chat),
        "sampling": asdict(step.call.sampling),
        "top_logprobs": step.call.top_logprobs,
        "sought": list(step.call.sought),
        "reply": reply,
        "seconds": step.seconds,
        "verdict": asdict(step.verdict) if step.verdict else None,
        "edited": step.edited,
    }


def _step_back(data: Json, images: Mapping[str, Image]) -> Step:
    _check(data, _STEP)
    call = Call(data["step"], _chat(data["chat"], images), _sampling(data["sampling"]), data["top_logprobs"], tuple(data.get("sought", ())))
    _check(data["reply"], _REPLY)
    if data["reply"]["finish_reason"] not in get_args(FinishReason):
        raise ValueError("finish_reason")
    _check(data["reply"].get("first_logprobs") or {}, dict.fromkeys(data["reply"].get("first_logprobs") or {}, _NUMBER))
    tokens = data["reply"].get("tokens")
    reply = Reply(**data["reply"] | {"tokens": None if tokens is None else tuple(map(Token.of_row, tokens))})
    _check(data["verdict"] or {}, _VERDICT)
    verdict = Verdict(**data["verdict"]) if data["verdict"] else None
    return Step(call, reply, data["seconds"], verdict, data.get("edited", False))


def _sampling(data: Json) -> Sampling:
    return Sampling(**(data | {"stop": tuple(data["stop"])}))


def _method(data: Json) -> Method:
    policy = Policy(**(data["policy"] | {"answer": _sampling(data["policy"]["answer"])}))
    return Method(data["defence"], policy, Prompts(**data["prompts"]))


def _error(data: Json) -> Exception:
    _check(data, _ERROR)
    kind = getattr(llava.errors, data["kind"], None)
    known = kind if isinstance(kind, type) and issubclass(kind, LlavaError) else LlavaError
    if known is not ContextTooLong:
        return known(data["text"])
    too_long = ContextTooLong()  # it writes its text itself, from numbers that a record does not have
    too_long.args = (data["text"],)
    return too_long
