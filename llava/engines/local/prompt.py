"""A LLaVA chat as token ids and images, and what of it other calls may share. Knows no KV and no features."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

from torch import Tensor

from llava.chat import Chat, Image
from llava.constants import IMAGE_TOKEN_INDEX
from llava.model.loaded import Loaded


@dataclass(frozen=True, eq=False)
class Span:
    """An image's positions `start` to `end`. `key` stands for everything up to `end`, by content: earlier text and images, and this one."""

    image: Image
    start: int
    end: int
    key: Hashable


@dataclass(eq=False)
class Prompt:
    """Token ids, with the image token at each position of an image.

    While it is read: `pixels` of images that may have to be encoded, and `features` of those that were, by hash.
    """

    ids: list[int]
    spans: list[Span] = field(default_factory=list)
    pixels: dict[str, Tensor] = field(default_factory=dict)
    features: dict[str, Tensor] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """Length."""
        return len(self.ids)

    def forget_images(self) -> None:
        """It is read: only its ids are of use."""
        self.pixels.clear()
        self.features.clear()

    @property
    def head(self) -> list[int]:
        """The text before the first image."""
        return self.ids[: self.spans[0].start] if self.spans else self.ids


class Prompts:
    """Makes prompts for one model."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded

    def of(self, chat: Chat) -> Prompt:
        """The chat's prompt, without pixels."""
        if self._loaded.template is None:
            ids: list[int] = self._loaded.encode(chat)["input_ids"][0].tolist()
            return Prompt(ids)
        slots = self._loaded.prompt_ids(chat)
        prompt, begin = Prompt([]), 0
        key: Hashable = None
        images = iter(chat.images)
        for part in _parts(slots):
            if part:
                prompt.ids += part
                continue
            image, start = next(images), len(prompt.ids)
            prompt.ids += [self._loaded.model.config.image_token_id] * self._loaded.image_tokens
            key = key, tuple(prompt.ids[begin:start]), image.sha256
            begin = len(prompt.ids)
            prompt.spans.append(Span(image, start, begin, key))
        return prompt


def _parts(ids: list[int]) -> Iterator[list[int]]:
    """Runs of text, and an empty list for each image between them."""
    begin = 0
    for i, token in enumerate(ids):
        if token == IMAGE_TOKEN_INDEX:
            if i > begin:
                yield ids[begin:i]
            yield []
            begin = i + 1
    if begin < len(ids):
        yield ids[begin:]
