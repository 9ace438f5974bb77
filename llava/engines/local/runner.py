"""One call after another on a transformers model: prefill, then token by token over its own KV cache.

The loop is `model(...)` itself and not `generate`, so that text streams, stop strings and cancellation work within one token and
the first logits can be read; greedy tokens equal those of `generate`. Knows no thread and no queue.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from inspect import signature
from typing import Any

import torch
from transformers import DynamicCache

from llava.chat import Call, Delta, FinishReason, Reply
from llava.engines.local.sampling import Sampler, first_logprobs
from llava.engines.local.text import TextStream
from llava.errors import ContextTooLong, EngineError
from llava.model.loaded import Loaded


class Runner:
    """Answers calls with `loaded`, one at a time."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded

    @property
    def name(self) -> str:
        return self.loaded.name

    def answer(self, call: Call) -> Iterator[Delta]:
        """One `Delta` a token (its text may be empty), and last the one with the reply. Closing the iterator frees the cache.

        Raises `UserError` for input that the model cannot take, `EngineError` when memory runs out.
        """
        try:
            yield from self._answer(call)
        except (torch.OutOfMemoryError, MemoryError):
            self._free()
        except RuntimeError as error:
            if "not enough memory" not in str(error):  # how torch's CPU allocator says it
                raise
            self._free()
        else:
            return
        # Raised out here: the handled error's traceback would keep the tensors alive.
        raise EngineError(f"Out of memory on {self.loaded.device}: ask for less (fewer or smaller images, a shorter text).")

    def _answer(self, call: Call) -> Iterator[Delta]:
        start = time.monotonic()
        loaded, sampler = self.loaded, Sampler(call.sampling)
        text = TextStream(loaded.decode, (*call.sampling.stop, *loaded.stop))
        decoding = Decoding(loaded.model, loaded.encode(call.chat))
        room = loaded.context_len - decoding.prompt_tokens
        if room < 1:
            raise ContextTooLong(decoding.prompt_tokens, 1, loaded.context_len)
        limit = min(call.sampling.max_tokens, room)
        logits = decoding.prefill()
        logprobs = first_logprobs(logits, call.top_logprobs, loaded.decode) if call.top_logprobs else None
        pieces: list[str] = []
        finish_reason: FinishReason = "length"
        for count in range(1, limit + 1):
            token = sampler.pick(logits)
            if token in loaded.eos_ids:
                finish_reason = "stop"
                break
            pieces.append(text.add(token))
            yield Delta(pieces[-1])
            if text.stopped:
                finish_reason = "stop"
                break
            if count < limit:
                logits = decoding.step(token)
        pieces.append(text.finish())
        reply = Reply("".join(pieces), decoding.prompt_tokens, count, finish_reason, logprobs, time.monotonic() - start)
        yield Delta(pieces[-1], reply)

    def _free(self) -> None:
        if self.loaded.device.type == "cuda":
            torch.cuda.empty_cache()


class Decoding:
    """The state of one sequence: its prompt, then its KV cache. `inputs` are the model's keyword arguments, batch size 1."""

    def __init__(self, model: Any, inputs: dict[str, torch.Tensor]) -> None:
        self._model = model
        self._inputs = inputs
        self._cache = DynamicCache(config=model.config.get_text_config(decoder=True))
        # Only the last position's logits are wanted; a long prompt's would take much memory.
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in signature(model.forward).parameters else {}
        self.prompt_tokens = inputs["input_ids"].shape[1]

    def prefill(self) -> torch.Tensor:
        """Logits (vocabulary,) after the prompt."""
        return self._forward(**self._inputs)

    def step(self, token: int) -> torch.Tensor:
        """Logits (vocabulary,) after one more token."""
        return self._forward(input_ids=torch.tensor([[token]], device=self._inputs["input_ids"].device))

    @torch.inference_mode()
    def _forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        output = self._model(**inputs, past_key_values=self._cache, use_cache=True, **self._last_only)
        logits: torch.Tensor = output.logits[0, -1]
        return logits
