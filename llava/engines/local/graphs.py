"""The decode step as CUDA graphs: one launch instead of hundreds, which cost more than the weights' traffic at small batch.

Used on CUDA only. A graph is recorded for each batch size (rounded up to a power of two) and read length (rounded up) when it is first
needed, and again when the slots have moved. Knows no text and no schedule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from llava.engines.local.slots import Slots

_STEP = 256  # read lengths grow in steps of so many positions

DecodeStep = Callable[[Tensor, Tensor, int], Tensor]  # tokens (N, 1), positions (N, 1), read length -> logits (N, vocabulary)


class _Recorded(NamedTuple):
    graph: torch.cuda.CUDAGraph
    tokens: Tensor
    positions: Tensor
    logits: Tensor


class Graphs:
    """Calls like `step`, replayed."""

    def __init__(self, step: DecodeStep, slots: Slots[Any]) -> None:
        self._step = step
        self._slots = slots
        self._moves = slots.moves  # the graphs write to where the slots were then
        self._recorded: dict[tuple[int, int], _Recorded] = {}

    def __call__(self, tokens: Tensor, positions: Tensor, length: int) -> Tensor:
        """Logits (N, vocabulary); valid until the next call."""
        slots, count = self._slots, len(tokens)
        if self._moves != slots.moves:
            self._recorded.clear()
            self._moves = slots.moves
        rows = min(1 << (count - 1).bit_length(), slots.rows)
        length = min(-(-length // _STEP) * _STEP, slots.length)
        # Rows that only fill the batch up write where their owner writes next, before it is ever read; those of nobody, at their beginning.
        if rows > len(slots.owners):
            slots.forget_free_rows()
        ends = [owner.filled for owner in slots.owners[count:rows]]
        spare = positions.new_tensor(ends + [0] * (rows - count - len(ends)))[:, None]
        tokens, positions = torch.cat([tokens, torch.zeros_like(spare)]), torch.cat([positions, spare])
        recorded = self._recorded.get((rows, length))
        if recorded is None:
            recorded = self._recorded[rows, length] = self._record(tokens, positions, length)
        recorded.tokens.copy_(tokens)
        recorded.positions.copy_(positions)
        recorded.graph.replay()
        return recorded.logits[:count]

    def _record(self, tokens: Tensor, positions: Tensor, length: int) -> _Recorded:
        # Libraries set themselves up in a first run, which must not be recorded. It writes what the replay writes again.
        side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self._step(tokens, positions, length)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # One runs at a time, and its logits are read before the next: all compute in the memory of the first that is still there.
        pool = next((other.graph.pool() for other in self._recorded.values()), None)
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            logits = self._step(tokens, positions, length)
        return _Recorded(graph, tokens, positions, logits)
