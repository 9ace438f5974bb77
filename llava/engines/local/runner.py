"""The forward passes of LLaVA models, and of text-only models like their language models, over KV slots.

Joins what computes: `vision` for images, `decoder` for the language model's layers. Knows no queue and no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration

from llava.chat import Call
from llava.engines.local.answer import Answer
from llava.engines.local.decoder import Decoder
from llava.engines.local.graphs import DecodeStep, Graphs
from llava.engines.local.memory import GIB, Stats, enough, is_out_of_memory
from llava.engines.local.packed import Kernel, joined, kernel_for
from llava.engines.local.pixels import Pixels
from llava.engines.local.prefixes import Prefixes
from llava.engines.local.prompt import Prompt, Prompts
from llava.engines.local.scheduler import Admission
from llava.engines.local.slots import Slots
from llava.engines.local.vision import Vision
from llava.engines.local.windows import Window, chunks, step
from llava.errors import UserError
from llava.model.loaded import Loaded

FAMILIES = ("llama", "mistral", "qwen2")  # language models whose layers are those of `decoder`
_FIXED_ROPE = ("default", "linear", "llama3", "yarn")  # others rescale positions by the longest row of the batch
ROWS = 0.75  # of the budget, for rows when several calls run: the rest stays for prefixes
_SMALL = 32 * 2**20  # bytes of weights that a processor keeps close to each core
_LIGHT = 256 * 2**20  # bytes of weights whose way to the cores costs less, in each step, than what cores lose when they share operations
Group = Sequence[tuple[Answer[Prompt], int]]


def fits(loaded: Loaded) -> bool:
    """Whether this runner serves the model; `foreign.ForeignRunner` serves all others."""
    model = loaded.model
    text = model.config.get_text_config(decoder=True)
    window = getattr(text, "sliding_window", None)
    rope = (getattr(text, "rope_parameters", None) or {}).get("rope_type", "default")
    sees = isinstance(model, LlavaForConditionalGeneration)
    return (
        text.model_type in FAMILIES
        and (loaded.template is not None if sees else model.config is text)  # of another template it is not known where images stand
        and (window is None or window >= loaded.context_len)
        and rope in _FIXED_ROPE
        and text._attn_implementation == "sdpa"
    )


def slots_for(loaded: Loaded) -> Slots[Answer[Prompt]]:
    """Rows for the model's calls, none yet."""
    return Slots(loaded.model.config.get_text_config(decoder=True), loaded.dtype, loaded.device)


@dataclass(frozen=True, slots=True)
class Shared:
    """What all lanes of a model share. `kernel` as in `packed`. `small`: its operations are too short for cores to share; `light`: cores
    that have calls of their own do more than cores that share them."""

    loaded: Loaded
    embed: Any
    decoder: Decoder
    head: nn.Module
    prompts: Prompts
    pixels: Pixels
    prefixes: Prefixes
    vision: Vision
    kernel: Kernel
    small: bool
    light: bool

    @classmethod
    def of(cls, loaded: Loaded, budget: int) -> Shared:
        """`budget`: bytes of KV, of all rows and prefixes together."""
        model, kernel = loaded.model, kernel_for(loaded)
        layers, head = model.get_decoder(), joined([model.get_output_embeddings()], kernel)
        pixels, prefixes = Pixels(loaded), Prefixes(budget)
        vision = Vision(loaded, pixels, prefixes, kernel)
        size = sum(weight.nbytes for weight in layers.parameters())
        small, light = (loaded.device.type == "cpu" and size <= most for most in (_SMALL, _LIGHT))
        embed, decoder = model.get_input_embeddings(), Decoder(layers, kernel)
        return cls(loaded, embed, decoder, head, Prompts(loaded), pixels, prefixes, vision, kernel, small, light)


class SlotRunner:
    """Runs the calls of one lane. All but `prepare` is for its model thread. `budget`: bytes of KV that its calls may take."""

    def __init__(self, shared: Shared, budget: int) -> None:
        loaded = shared.loaded
        self._shared = shared
        self._loaded = loaded
        self._budget = budget
        self._embed = shared.embed
        self.slots = slots_for(loaded)
        self._onednn = shared.kernel is Kernel.ONEDNN
        self.small = shared.small
        self.prefixes = shared.prefixes
        self.vision = shared.vision
        self._unclean = False  # what a call has left in the rows may be no number
        self._decode_step: DecodeStep = Graphs(self._decode, self.slots) if loaded.device.type == "cuda" else self._decode

    def prepare(self, call: Call) -> Prompt:
        """The call's prompt, with pixels of images that are not known yet. For one thread at a time; raises `UserError`."""
        prompt = self._shared.prompts.of(call.chat)
        for span in prompt.spans:
            if not self.prefixes.has_pixels_of(span):
                prompt.pixels[span.image.sha256] = self._shared.pixels.of(span.image)
        return prompt

    def prompt_tokens(self, prompt: Prompt) -> int:
        """Length, images included."""
        return prompt.tokens

    def start(self, answer: Answer[Prompt]) -> Admission:
        """Give the call a row, and in it what is known of its prompt. Raises `UserError` where the budget can never hold it."""
        slots = self.slots
        least = slots.needed(1, answer.positions)
        if least > self._budget:
            raise UserError(
                f"The call needs {answer.positions} positions of KV cache and kv_cache_gb is {self._budget / GIB:.4g}: "
                f"give at least {enough(least)}, or lower max_tokens."
            )
        if not self.prefixes.claim(answer):
            return Admission.BLOCKED
        longest = max(owner.positions for owner in (answer, *slots.owners))
        shape = slots.plan(longest, int(self._budget * ROWS), self._budget)
        if shape is None or not self._resized(*shape):
            self.prefixes.give_up(answer)
            return Admission.FULL
        slots.take(answer)
        answer.filled = self.prefixes.begin(answer, slots)
        return Admission.STARTED

    def _resized(self, rows: int, length: int) -> bool:
        """Whether the slots have this shape now. Where calls run, memory that is short may come back when they end."""
        slots = self.slots
        if (rows, length) != (slots.rows, slots.length):
            self.prefixes.make_room(slots, slots.peak(rows, length))
        try:
            slots.resize(rows, length)
        except (RuntimeError, MemoryError) as failure:
            if not (slots.owners and is_out_of_memory(failure)):
                raise
            return False
        finally:
            self.prefixes.make_room(slots, slots.bytes)
        return True

    def stop(self, answer: Answer[Prompt]) -> None:
        """The call has ended; it may not have started."""
        self.prefixes.give_up(answer)
        if answer in self.slots.owners:
            self.slots.release(answer)
            # In float16 large values run over, and whoever left may have done so before anybody looked at the numbers.
            known = answer.job.cancelled and self._loaded.dtype != torch.float16 and not answer.odd
            self._unclean |= answer.reply is None and not known

    def _clean(self) -> None:
        if self._unclean:
            self.slots.wipe()
            self._unclean = False

    def stats(self) -> Stats:
        """Of the memory: rows and prefixes, of all lanes."""
        prefixes = self.prefixes
        return Stats(
            image_hits=prefixes.hits,
            image_misses=prefixes.misses,
            reused_tokens=prefixes.reused_tokens,
            evictions=prefixes.evictions,
            slot_bytes=prefixes.row_bytes,
            kept_bytes=prefixes.bytes,
        )

    def free(self) -> None:
        """Give all KV memory back; nothing runs any more."""
        self.slots.free()
        self.prefixes.free(self.slots)

    @torch.inference_mode()
    def prefill(self, group: Group) -> Tensor:
        """Read so many more positions of each prompt; logits (N, vocabulary) behind the last of them."""
        self._clean()
        answers, counts = [answer for answer, _ in group], [count for _, count in group]
        hidden = self._embedded(group)
        rows, starts = [self.slots.owners.index(answer) for answer in answers], [answer.filled for answer in answers]
        logits = self._logits(hidden, chunks(rows, starts, counts, hidden, onednn=self._onednn))
        for answer, count in group:
            answer.filled += count
        numbers = logits.amax(-1).isfinite().tolist()
        for answer, good in zip(answers, numbers, strict=True):  # rows move from here on, with as much as is filled
            if good:  # the last position has seen all before it: others may have that
                self.prefixes.store(answer, self.slots)
            else:
                answer.odd = True
            if answer.filled == answer.prompt_tokens:
                self.slots.promote(answer)
                answer.prompt.forget_images()
        return logits

    @torch.inference_mode()
    def decode(self) -> tuple[list[Answer[Prompt]], Tensor]:
        """Read the last token of all answers that decode; logits (N, vocabulary) behind it."""
        self._clean()
        answers = self.slots.owners[: self.slots.decoding]
        device = self._loaded.device
        tokens = torch.tensor([[answer.tokens[-1]] for answer in answers], device=device)
        positions = torch.tensor([[answer.filled] for answer in answers], device=device)
        logits = self._decode_step(tokens, positions, max(answer.filled for answer in answers) + 1)
        for answer in answers:
            answer.filled += 1
        return answers, logits

    def _decode(self, tokens: Tensor, positions: Tensor, length: int) -> Tensor:
        """Logits (N, vocabulary) behind tokens (N, 1) at positions (N, 1) of the first rows; reads up to `length`."""
        return self._logits(self._embed(tokens[:, 0]), step(positions[:, 0], length, self._loaded.dtype))

    def _logits(self, hidden: Tensor, window: Window) -> Tensor:
        logits: Tensor = self._shared.head(self._shared.decoder(hidden, window, self.slots.layers))
        return logits

    def _embedded(self, group: Group) -> Tensor:
        """Embeddings (T, width) of the next prompt positions of each call, one call's behind another's."""
        parts = [(answer.prompt, answer.filled, answer.filled + count) for answer, count in group]
        seen = [(i, span) for i, (prompt, begin, end) in enumerate(parts) for span in prompt.spans if span.start < end and span.end > begin]
        self.vision.see((parts[i][0], span.image) for i, span in seen)
        ids = [token for prompt, begin, end in parts for token in prompt.ids[begin:end]]
        words: Tensor = self._embed(torch.tensor(ids, device=self._loaded.device))
        calls = torch.split(words, [count for _, count in group])
        for i, span in seen:
            prompt, begin, end = parts[i]
            first, last = max(span.start, begin), min(span.end, end)
            calls[i][first - begin : last - begin] = prompt.features[span.image.sha256][first - span.start : last - span.start]
        return words
