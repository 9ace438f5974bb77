"""A model ready to answer: weights, tokenizer and image processor as one typed thing.

`Loaded.encode` turns a chat into what transformers' `model.generate(**inputs)` takes, and `decode` turns ids into text. Nothing here
knows where the weights came from, how tokens are picked or who asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from llava.chat import Chat
from llava.constants import IMAGE_TOKEN_INDEX
from llava.conversation import Conversation
from llava.errors import UserError
from llava.mm_utils import process_images
from llava.model.prompt import Piece, inline_token_ids, render, token_ids
from llava.model.tokenizer import PlainText


@dataclass(frozen=True, eq=False)
class Loaded:
    """A LLaVA model (`template` set), or another one that brings its own `processor`.

    `model` is a transformers model in eval mode, for LLaVA a `LlavaForConditionalGeneration`; `context_len` counts tokens, image
    tokens included. `image_token` is the token that the tokenizer itself has for an image (Hugging Face-format checkpoints), else None.
    """

    model: Any
    tokenizer: Any
    image_processor: Any
    context_len: int
    name: str
    template: Conversation | None = None
    processor: Any = None
    image_token: str | None = None

    @property
    def device(self) -> torch.device:
        """Where inputs must be."""
        return torch.device(self.model.device)

    @property
    def dtype(self) -> torch.dtype:
        """The pixels' and weights' dtype."""
        dtype: torch.dtype = self.model.dtype
        return dtype

    @cached_property
    def plain(self) -> PlainText:
        """The tokenizer for text in which nothing is a control token."""
        return PlainText(self.tokenizer)

    @property
    def image_tokens(self) -> int:
        """Positions that one image takes."""
        return image_tokens(self.model.config)

    @cached_property
    def eos_ids(self) -> frozenset[int]:
        """Tokens that end an answer: the tokenizer's and those of the generation config."""
        configured = self.model.generation_config.eos_token_id
        ids = configured if isinstance(configured, list | tuple) else [configured]
        return frozenset(int(i) for i in (*ids, self.tokenizer.eos_token_id) if i is not None)

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings that end an answer because the template puts them after each; they are not part of it."""
        stop = self.template.stop if self.template else None
        return (stop,) if stop else ()

    def pieces(self, chat: Chat) -> list[Piece]:
        """The chat's prompt as words, image slots and control tokens."""
        if self.template is None:
            raise UserError(f"{self.name} has no conversation template of ours; its processor renders its prompts.")
        start_end = bool(getattr(self.model.config, "mm_use_im_start_end", False))
        return render(chat, self.template, self.plain.parse, start_end=start_end)

    def encode(self, chat: Chat) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask` (1, N) int64 and, with images, `pixel_values` (n_images, 3, H, W) in the model's dtype.

        Each image slot is the image token's id repeated `image_tokens` times; all tensors are on the model's device.
        """
        return self.inputs(self.prompt_ids(chat), self.pixels(chat) if chat.images else None)

    def prompt_ids(self, chat: Chat) -> list[int]:
        """The prompt's token ids, with one `IMAGE_TOKEN_INDEX` per image."""
        pieces = self.pieces(chat)
        return inline_token_ids(pieces, self.plain, self.image_token) if self.image_token else token_ids(pieces, self.plain)

    def inputs(self, ids: Sequence[int], pixel_values: Tensor | None) -> dict[str, Tensor]:
        """Model inputs from ids with one `IMAGE_TOKEN_INDEX` per image; raises `UserError` when the counts differ."""
        input_ids = expand_image_slots(ids, pixel_values, self.model.config).to(self.device)
        inputs = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}
        if pixel_values is not None and len(pixel_values):
            inputs["pixel_values"] = pixel_values.to(self.device, self.dtype)
        return inputs

    def pixels(self, chat: Chat) -> Tensor:
        """Pixels (n_images, 3, H, W) float32 of all images of the chat, in order."""
        return process_images([image.pil() for image in chat.images], self.image_processor, self.model.config)

    def decode(self, ids: Sequence[int] | Tensor) -> str:
        """The text of new tokens (N,), without control tokens."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text


def image_tokens(config: Any) -> int:
    """Positions that one image takes in a LLaVA model: patches, and the class token where the config keeps it."""
    vision = config.vision_config
    patches = (vision.image_size // vision.patch_size) ** 2
    return int(patches + (config.vision_feature_select_strategy == "full"))


def expand_image_slots(ids: Sequence[int], pixel_values: Tensor | None, config: Any) -> Tensor:
    """Ids (1, N) with every `IMAGE_TOKEN_INDEX` replaced by as many image tokens as an image has positions."""
    slots, images = sum(i == IMAGE_TOKEN_INDEX for i in ids), 0 if pixel_values is None else len(pixel_values)
    if slots != images:
        raise UserError(f"The prompt has {slots} <image> and {images} images were given: give one image for each <image>.")
    run = [config.image_token_id] * image_tokens(config)
    expanded = [token for i in ids for token in (run if i == IMAGE_TOKEN_INDEX else (i,))]
    return torch.tensor([expanded], dtype=torch.long)
