"""The forward passes of every other transformers model: groups of calls, padded on the left, over transformers' own cache.

A group begins together, loses rows as its calls end, and ends before the next one begins. Calls share a group only where padding is
known to change nothing; else each runs alone. No KV is kept from one call for another. Knows no queue, no thread and no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from llava.chat import Call
from llava.engines.local.answer import Answer
from llava.engines.local.memory import Stats
from llava.engines.local.scheduler import Admission
from llava.model.loaded import Loaded

Inputs = dict[str, Tensor]  # what the model's processor makes of one chat


class ForeignRunner:
    """Runs one model, one group at a time."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._text = loaded.model.config.get_text_config(decoder=True)
        takes = signature(loaded.model.forward).parameters
        # Only the last position's logits are wanted; a long prompt's would take much memory.
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
        self._batches = "position_ids" in takes and _pads(self._text)
        self._rows: list[Answer[Inputs]] = []  # the group, as it lies in the cache
        self._ended: set[Answer[Inputs]] = set()  # those of it that are gone by now
        self._cache: DynamicCache | None = None  # of a group that has begun
        self._mask = torch.empty(0)

    def prepare(self, call: Call) -> Inputs:
        """What the model takes for this call; raises `UserError`."""
        return self._loaded.encode(call.chat)

    def prompt_tokens(self, prompt: Inputs) -> int:
        """Length, image tokens included."""
        return prompt["input_ids"].shape[1]

    def start(self, answer: Answer[Inputs]) -> Admission:
        """Let the call into the group that is about to begin."""
        if self._rows and (self._cache is not None or not self._batches or not _alike(answer.prompt, self._rows[0].prompt)):
            return Admission.FULL
        self._rows.append(answer)
        return Admission.STARTED

    def stop(self, answer: Answer[Inputs]) -> None:
        """The call has ended; it may not have started. Its row goes in the next step: that takes memory, and may fail."""
        if answer in self._rows:
            self._ended.add(answer)
        if self._ended.issuperset(self._rows):
            self.free()
        elif self._cache is None:
            self._leave_out_ended()

    def _leave_out_ended(self) -> None:
        rest = [row for row in self._rows if row not in self._ended]
        if self._cache is not None and len(rest) < len(self._rows):
            kept = torch.tensor([self._rows.index(row) for row in rest], device=self._mask.device)
            self._cache.batch_select_indices(kept)
            self._mask = self._mask[kept]
        self._rows = rest
        self._ended.clear()

    def stats(self) -> Stats:
        """Nothing is kept."""
        return Stats()

    def free(self) -> None:
        """Give all KV memory back; nothing runs any more."""
        self._rows, self._cache = [], None
        self._ended.clear()

    @torch.inference_mode()
    def prefill(self, group: Sequence[tuple[Answer[Inputs], int]]) -> Tensor:
        """Read the prompts of the whole group; logits (N, vocabulary) behind them."""
        prompts = [answer.prompt for answer, _ in group]
        longest = max(map(self.prompt_tokens, prompts))
        inputs = {key: torch.cat([prompt[key] for prompt in prompts]) for key in prompts[0] if key not in ("input_ids", "attention_mask")}
        inputs["input_ids"] = torch.cat([_padded(prompt["input_ids"], longest) for prompt in prompts])
        self._mask = torch.cat([_padded(prompt["attention_mask"], longest) for prompt in prompts])
        self._cache = DynamicCache(config=self._text)
        for answer, count in group:
            answer.filled += count
        return self._forward(inputs)

    @torch.inference_mode()
    def decode(self) -> tuple[list[Answer[Inputs]], Tensor]:
        """Read the last token of all answers; logits (N, vocabulary) behind it."""
        self._leave_out_ended()
        rows = list(self._rows)
        for answer in rows:
            answer.filled += 1
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(rows), 1)], dim=1)
        return rows, self._forward({"input_ids": torch.tensor([[answer.tokens[-1]] for answer in rows], device=self._mask.device)})

    def _forward(self, inputs: dict[str, Tensor]) -> Tensor:
        padding: dict[str, Any] = {"attention_mask": self._mask}
        if self._batches:
            positions = (self._mask.cumsum(-1) - 1).clamp_(min=0)
            padding["position_ids"] = positions[:, -inputs["input_ids"].shape[1] :]
        output = self._loaded.model(**inputs, **padding, past_key_values=self._cache, use_cache=True, **self._last_only)
        logits: Tensor = output.logits[:, -1]
        return logits


def _pads(text: Any) -> bool:
    """Whether rows of different lengths may share a batch: plain attention in all layers, one position a token."""
    kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
    rope = getattr(text, "rope_parameters", None) or {}
    plain_positions = rope.get("rope_type", "default") == "default" and "mrope_section" not in rope
    return kinds == {"full_attention"} and getattr(text, "sliding_window", None) is None and plain_positions


def _alike(one: Inputs, other: Inputs) -> bool:
    """Whether all that is not text has the same shape."""
    shapes = [{key: value.shape for key, value in prompt.items() if key not in ("input_ids", "attention_mask")} for prompt in (one, other)]
    return shapes[0] == shapes[1]


def _padded(ids: Tensor, length: int) -> Tensor:
    return torch.nn.functional.pad(ids, (length - ids.shape[1], 0))
