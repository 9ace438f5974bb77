"""Chats and answers in the form of OpenAI's chat completions. Data to data: knows no server, address or key."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from llava.chat import Chat, FinishReason, Image, Message, Reply, Token
from llava.engines.base import merge_logprobs
from llava.errors import EngineError, ImageError, NoLogprobs
from llava.image import MAX_BYTES
from llava.recent import Recent

# With any other reason (content_filter, abort, error, tool_calls, ...) the text is not what the model wanted to say: a "No" that a
# filter cut off must not pass for one.
FINISH_REASONS: Mapping[str, FinishReason] = {"stop": "stop", "length": "length"}

# The steps of one question send the same image in turn, and those of many questions at once. To write a PNG takes as long as a small step.
_sent: Recent[str, str] = Recent(64 * 2**20, len)


class Answer:
    """Gathers the chunks of one streamed answer; `logprobs`: whether every token's log-probability is wanted."""

    def __init__(self, logprobs: bool = False) -> None:
        self.finished = False
        self.logprobs = logprobs
        self.ignored = False  # the wish for them, by a server that did not refuse it either
        self._tokens: list[Token] = []
        self._pieces: list[str] = []
        self._finish_reason: FinishReason = "stop"
        self._usage: Any = None
        self._first_logprobs: Mapping[str, float] | None = None

    def add(self, chunk: Any) -> str:
        """Take in one chunk, as JSON; returns its text.

        Raises `EngineError` when the server ended the answer in no proper way or sends something else, `NoLogprobs` for text without the
        tokens that are wanted.
        """
        try:
            return self._add(chunk)
        except (AttributeError, TypeError, LookupError, ValueError) as error:  # nobody has checked types yet: a chunk may be anything
            raise EngineError("The server sends chunks that are not of OpenAI's format.") from error

    def _add(self, chunk: Any) -> str:
        self._usage = chunk.get("usage") or self._usage
        if not chunk.get("choices"):
            return ""
        choice = chunk["choices"][0]
        if reason := choice.get("finish_reason"):
            self.finished = True
            self._finish_reason = _finish_reason(reason)
        logprobs = choice.get("logprobs") or {}
        if self._first_logprobs is None and logprobs.get("content"):
            first = _token(logprobs["content"][0])
            self._first_logprobs = merge_logprobs((token.text, token.logprob) for token in first.top or (first,))
        delta = choice.get("delta") or {}  # some servers send null in the last chunk
        piece = delta.get("content") or delta.get("refusal") or ""
        if not isinstance(piece, str):
            raise TypeError("a text that is no text")
        if self.logprobs:
            self._tokens += map(_token, [*(logprobs.get("content") or ()), *(logprobs.get("refusal") or ())])
            if piece and not self._tokens:
                self.ignored = True
                raise NoLogprobs
        self._pieces.append(piece)
        return piece

    def reply(self, seconds: float) -> Reply:
        """The whole answer, after the last chunk."""
        return Reply(
            "".join(self._pieces),
            prompt_tokens=_count(self._usage, "prompt_tokens"),
            completion_tokens=_count(self._usage, "completion_tokens"),
            finish_reason=self._finish_reason,
            first_logprobs=self._first_logprobs,
            seconds=seconds,
            tokens=tuple(self._tokens) if self.logprobs else None,
        )


def _token(entry: Any) -> Token:
    """Raises `ValueError` for what is no token."""
    text, logprob, numbers = entry["token"], entry["logprob"], entry.get("bytes")
    if not isinstance(numbers, list | None):  # of a number, bytes() would make so many
        raise ValueError("the bytes of a token are no bytes")
    raw = None if numbers is None else bytes(numbers)
    if not isinstance(text, str) or not isinstance(logprob, int | float) or math.isnan(logprob):
        raise ValueError("a token is a text with a log-probability")
    return Token(text, min(logprob, 0.0), raw, tuple(map(_token, entry.get("top_logprobs") or ())))


def _count(usage: object, name: str) -> int | None:
    """A number of tokens, where the server tells one."""
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _finish_reason(sent: object) -> FinishReason:
    if isinstance(sent, str) and sent in FINISH_REASONS:
        return FINISH_REASONS[sent]
    shown = sent if isinstance(sent, str) and re.fullmatch(r"[\w.\-]{1,64}", sent) else "unknown reason"
    raise EngineError(f"The server broke its answer off ({shown}): it is not used.")


def to_messages(chat: Chat) -> list[dict[str, Any]]:
    """The chat in OpenAI's form; a turn's images stand before its text, as data URLs whose bytes are the same in every step.

    Raises `ImageError` for an image that is too large to send.
    """
    return [{"role": message.role, "content": _content(message)} for message in chat.messages]


def _content(message: Message) -> str | list[dict[str, Any]]:
    if not message.images:
        return message.text
    images = [{"type": "image_url", "image_url": {"url": _sent.get(image.sha256, partial(_data_url, image))}} for image in message.images]
    return [*images, {"type": "text", "text": message.text}]


def _data_url(image: Image) -> str:
    """The exact pixels as PNG or, where servers (ours too) would refuse so large a file, as the best JPEG."""
    kind, data = "png", image.png()
    if len(data) > MAX_BYTES:
        buffer = io.BytesIO()
        image.pil().save(buffer, "JPEG", quality=95, subsampling=0)
        kind, data = "jpeg", buffer.getvalue()
    if len(data) > MAX_BYTES:
        width, height = image.size
        raise ImageError(f"The image ({width} x {height} pixels) has more than {MAX_BYTES // 2**20} MiB even as JPEG: scale it down.")
    return f"data:image/{kind};base64," + base64.b64encode(data).decode("ascii")
