"""Image features for prompts: the new images of calls that are read together go through tower and projector in one pass.

Knows no KV and no schedule; what was computed before is asked of `prefixes`, which keeps what is computed now.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration

from llava.chat import Image
from llava.engines.local.eyes import Eyes
from llava.engines.local.packed import Kernel
from llava.engines.local.pixels import Pixels
from llava.engines.local.prefixes import Prefixes
from llava.engines.local.prompt import Prompt
from llava.model.loaded import Loaded

_TOGETHER = 4  # images a pass: more take memory and save nothing


class Vision:
    """The eyes of one LLaVA model. `kernel` as in `packed`."""

    def __init__(self, loaded: Loaded, pixels: Pixels, prefixes: Prefixes, kernel: Kernel) -> None:
        self._loaded = loaded
        self.eyes = Eyes(loaded.model.model, kernel) if isinstance(loaded.model, LlavaForConditionalGeneration) else None
        self._pixels = pixels
        self._prefixes = prefixes

    def see(self, wanted: Iterable[tuple[Prompt, Image]]) -> None:
        """Put the features of each image into the prompt's `features`; what nobody knows yet is computed once."""
        new: dict[str, Tensor] = {}
        waiting: list[tuple[Prompt, str]] = []
        for prompt, image in wanted:
            key = image.sha256
            if key in prompt.features:
                continue
            if (known := self._prefixes.features(key)) is not None:
                prompt.features[key] = known
                continue
            waiting.append((prompt, key))
            if key not in new:
                pixels = prompt.pixels.get(key)
                # None: the image was known when the call came, and has had to go since.
                new[key] = self._pixels.of(image) if pixels is None else pixels
        found = self._encoded(new)
        for prompt, key in waiting:
            prompt.features[key] = found[key]

    def _encoded(self, pixels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Features (positions, width) from pixels (1, 3, H, W), by hash."""
        keys, found = list(pixels), dict[str, Tensor]()
        if self.eyes is None:
            return found  # and no prompt has images
        for begin in range(0, len(keys), _TOGETHER):
            some = keys[begin : begin + _TOGETHER]
            batch = torch.cat([pixels[key] for key in some])
            seen = self.eyes(batch.to(self._loaded.device, self._loaded.dtype))
            for key, features in zip(some, seen, strict=True):
                found[key] = features.clone()  # a view would keep the whole batch alive
                self._prefixes.keep_features(key, found[key])
        return found
