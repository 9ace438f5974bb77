"""A request's messages as a `Chat`, its settings as sampling, under limits; nothing is dropped. Decodes images: not for an event loop."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from llava.chat import Chat, Image, Message
from llava.errors import ImageError, UserError
from llava.image import data_url_bytes
from llava.serve.gateway import schema
from llava.serve.refusal import Refusal

S = TypeVar("S")
T = TypeVar("T")
DATA_URL = "data:image/(?:png|jpeg|jpg|webp|gif);base64,"
_DATA_URL = re.compile(DATA_URL, re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps on one request; each is the most that is still taken. Images have their own in `llava.image`, bodies in the HTTP layer."""

    messages: int = 128
    text: int = 256 * 1024  # characters of all messages, and of an answer to check
    images: int = 8
    pixels: int = 50_000_000  # of all images together
    n: int = 4
    max_tokens: int = 4096
    stops: int = 4
    stop_characters: int = 64
    inputs: int = 16  # of one moderation
    remote_bytes: int = 20 * 2**20  # of all images that are fetched, where that is allowed
    remote_seconds: float = 10.0  # for fetching them


def to_chat(messages: Sequence[schema.Message], limits: Limits, fetched: Mapping[str, bytes] | None = None) -> Chat:
    """The conversation; raises `Refusal` (400) that names the message. `fetched` has the bytes of images that were given by address.

    A turn's text parts are joined with line breaks, its images stand before them.
    """
    sent = _sent(messages, limits)
    texts = [_text(message) for message in messages]
    if sum(map(len, texts)) > limits.text:
        raise _too_much("messages", f"all texts together may have at most {limits.text} characters")
    pictures = _decode(sent, limits, fetched or {})
    try:
        return Chat(tuple(_message(m.role, texts[at], pictures.get(at, [])) for at, m in enumerate(messages)))
    except UserError as error:
        raise Refusal(400, str(error), code="invalid_value", param="messages") from None


def addresses(messages: Sequence[schema.Message], limits: Limits) -> list[tuple[str, str]]:
    """Images that are given by address: the address, and where it stands. Raises `Refusal` (400) for too many images or messages."""
    return [(part.image_url.url, f"messages[{at}]") for at, part in _sent(messages, limits) if not _is_data(part.image_url.url)]


def has_images(messages: Sequence[schema.Message]) -> bool:
    """Whether there is anything to decode."""
    return any(map(_images, messages))


def sampling(request: schema.ChatRequest, limits: Limits) -> dict[str, Any]:
    """The fields of `Sampling` that the request sets; raises `Refusal` (400)."""
    stop = [request.stop] if isinstance(request.stop, str) else request.stop or []
    if len(stop) > limits.stops or any(not 1 <= len(word) <= limits.stop_characters for word in stop):
        raise _too_much("stop", f"at most {limits.stops} texts of 1 to {limits.stop_characters} characters are taken")
    name = "max_tokens" if request.max_completion_tokens is None else "max_completion_tokens"
    tokens = getattr(request, name)
    if tokens is not None and tokens > limits.max_tokens:
        raise _too_much(name, f"at most {limits.max_tokens} are given")
    if (request.n or 1) > limits.n:
        raise _too_much("n", f"at most {limits.n} answers are given")
    for given, needed in (("top_logprobs", "logprobs"), ("stream_options", "stream")):
        if getattr(request, given) and not getattr(request, needed):
            raise Refusal(400, f"'{given}' needs '{needed}' to be true.", code="invalid_value", param=given)
    wanted = {
        "stop": tuple(stop) or None,
        "max_tokens": tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "seed": request.seed,
        "logprobs": (request.top_logprobs or 0) if request.logprobs else None,
    }
    return {field: value for field, value in wanted.items() if value is not None}


def judged(request: schema.ModerationRequest, limits: Limits) -> tuple[list[str], Sequence[schema.Message]]:
    """The texts to judge, and the conversation in which they are answers; raises `Refusal` (400)."""
    given = [request.input] if isinstance(request.input, str) else request.input
    texts = [part for part in given if isinstance(part, str)]
    images = [part for part in given if isinstance(part, schema.ImagePart)]
    if parts := [part.text for part in given if isinstance(part, schema.TextPart)]:
        texts = ["\n".join(parts)]
    if not 1 <= len(texts) <= limits.inputs:
        raise Refusal(400, f"Give 1 to {limits.inputs} texts.", code="invalid_value", param="input")
    check_length("input", "".join(texts), limits)
    if request.messages is None:
        return texts, [schema.UserMessage(role="user", content=[*images, schema.TextPart(type="text", text="(no question)")])]
    if images:
        raise Refusal(400, "The images belong into 'messages', where these are given.", code="invalid_value", param="input")
    return texts, request.messages


def check_length(name: str, text: str, limits: Limits) -> None:
    """Raises `Refusal` (400) for a text that is too long to judge."""
    if len(text) > limits.text:
        raise _too_much(name, f"at most {limits.text} characters are taken")


def _message(role: str, text: str, images: list[Image]) -> Message:
    return Message("system" if role == "developer" else role, text, tuple(images))  # type: ignore[arg-type]


def _text(message: schema.Message) -> str:
    """All texts of a message; a refusal of ours stands in two of its fields and is said once."""
    content = message.content or ""
    if not isinstance(content, str):
        content = "\n".join(part.refusal if part.type == "refusal" else part.text for part in content if part.type != "image_url")
    refusal = message.refusal if isinstance(message, schema.AssistantMessage) else None
    return content if refusal in (None, content) else "\n".join(filter(None, (content, refusal)))


def _sent(messages: Sequence[schema.Message], limits: Limits) -> list[tuple[int, schema.ImagePart]]:
    """All images, with the number of their message."""
    if len(messages) > limits.messages:
        raise _too_much("messages", f"at most {limits.messages} messages are taken")
    sent = [(at, part) for at, message in enumerate(messages) for part in _images(message)]
    if len(sent) > limits.images:
        raise _too_much("messages", f"at most {limits.images} images are taken")
    return sent


def _images(message: schema.Message) -> list[schema.ImagePart]:
    if not isinstance(message, schema.UserMessage) or isinstance(message.content, str):
        return []
    return [part for part in message.content if isinstance(part, schema.ImagePart)]


def _decode(sent: list[tuple[int, schema.ImagePart]], limits: Limits, fetched: Mapping[str, bytes]) -> dict[int, list[Image]]:
    """Message number -> its images. Their headers are added up first: what is too much together is refused before any is decoded."""
    files = [(at, _file(part.image_url.url, f"messages[{at}]", fetched)) for at, part in sent]
    pixels = 0
    for at, file in files:
        width, height = _read(Image.measure, file, f"messages[{at}]")
        pixels += width * height
        if pixels > limits.pixels:
            raise _too_much("messages", f"all images together may have at most {limits.pixels / 1e6:g} megapixels")
    found: dict[int, list[Image]] = {}
    for at, file in files:
        found.setdefault(at, []).append(_read(Image.open, file, f"messages[{at}]"))
    return found


def _is_data(url: str) -> bool:
    return url[:5].lower() == "data:"


def _file(url: str, where: str, fetched: Mapping[str, bytes]) -> bytes:
    """An image's bytes, where it may be read; raises `Refusal` (400)."""
    if not _is_data(url) and url not in fetched:
        said = (
            "Images are not fetched from addresses: send the image itself, as data:image/png;base64,... "
            "(The operator of this gateway can name hosts with --allow-remote-images.)"
        )
        raise Refusal(400, said, code="image_url_not_allowed", param=where)
    if _is_data(url) and not _DATA_URL.match(url):
        said = "An image must be a data URL of a PNG, JPEG, WebP or GIF: data:image/png;base64,..."
        raise Refusal(400, said, code="unsupported_image_format", param=where)
    return fetched[url] if url in fetched else _read(data_url_bytes, url, where)


def _read(read: Callable[[S], T], source: S, where: str) -> T:
    """What `read` makes of it; raises `Refusal` (400) for what is no image."""
    try:
        return read(source)
    except ImageError as error:
        raise Refusal(400, str(error), code="invalid_image", param=where) from None


def _too_much(param: str, said: str) -> Refusal:
    return Refusal(400, f"Invalid value for '{param}': {said}.", code="invalid_value", param=param)
