"""Chats and answers in the form of OpenAI's chat completions. Data to data: knows no server, address or key."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from openai.types.chat import ChatCompletionChunk

from llava.chat import Chat, FinishReason, Image, Message, Reply
from llava.engines.base import merge_logprobs

FINISH_REASONS: Mapping[str, FinishReason] = {"length": "length"}  # every other reason ended the answer by itself


class Answer:
    """Gathers the chunks of one streamed answer."""

    def __init__(self) -> None:
        self.finished = False
        self._pieces: list[str] = []
        self._finish_reason: FinishReason = "stop"
        self._usage: Any = None
        self._first_logprobs: Mapping[str, float] | None = None

    def add(self, chunk: ChatCompletionChunk) -> str:
        """Take in one chunk; returns its text."""
        self._usage = chunk.usage or self._usage
        if not chunk.choices:
            return ""
        choice = chunk.choices[0]
        if choice.finish_reason:
            self.finished = True
            self._finish_reason = FINISH_REASONS.get(choice.finish_reason, "stop")
        if self._first_logprobs is None and choice.logprobs and choice.logprobs.content:
            first = choice.logprobs.content[0]
            candidates = [(top.token, top.logprob) for top in first.top_logprobs] or [(first.token, first.logprob)]
            self._first_logprobs = merge_logprobs(candidates)
        piece = choice.delta.content or choice.delta.refusal or ""
        self._pieces.append(piece)
        return piece

    def reply(self, seconds: float) -> Reply:
        """The whole answer, after the last chunk."""
        return Reply(
            "".join(self._pieces),
            prompt_tokens=self._usage and self._usage.prompt_tokens,
            completion_tokens=self._usage and self._usage.completion_tokens,
            finish_reason=self._finish_reason,
            first_logprobs=self._first_logprobs,
            seconds=seconds,
        )


def to_messages(chat: Chat) -> list[dict[str, Any]]:
    """The chat in OpenAI's form; a turn's images stand before its text, as PNG data URLs whose bytes are always the same."""
    return [{"role": message.role, "content": _content(message)} for message in chat.messages]


def _content(message: Message) -> str | list[dict[str, Any]]:
    if not message.images:
        return message.text
    images = [{"type": "image_url", "image_url": {"url": _data_url(image)}} for image in message.images]
    return [*images, {"type": "text", "text": message.text}]


@lru_cache(maxsize=8)  # the steps of one question send the same image in turn
def _data_url(image: Image) -> str:
    return image.data_url()
