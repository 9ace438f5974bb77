"""Attention of many positions of a prompt at once, for float32 on a CPU.

There torch's own kernel multiplies with MKL, and where `packed` does not, oneDNN takes half of the time. Knows no call and no layer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llava.engines.local.packed import multiplied

# Sizes are few, since oneDNN makes a kernel for each and keeps it.
_KEYS = 64
_QUERIES = (16, 32, 48, 64, 80, 96, 128)
_LEAST = 45_000  # pairs of positions from which on it pays


def pays(start: int, count: int) -> bool:
    """Whether `count` positions from `start` on are enough for it."""
    return count * (start + count) >= _LEAST


class Seen:
    """What `count` positions from `start` on in a row see: each itself and all before it."""

    def __init__(self, start: int, count: int) -> None:
        self._blocks = [_Block(start, begin, min(begin + _QUERIES[-1], count)) for begin in range(0, count, _QUERIES[-1])]

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
        """(count, heads * dim) of queries (count, heads, dim) and the whole row's keys and values (kv_heads, length, dim)."""
        count, heads, dim = queries.shape
        grouped = (queries * scaling).view(count, len(keys), -1, dim)
        found = torch.empty_like(grouped)
        for block in self._blocks:
            for head, (some_keys, some_values) in enumerate(zip(keys, values, strict=True)):
                found[block.begin : block.end, head] = block.attend(grouped[block.begin : block.end, head], some_keys, some_values)
        return found.view(count, heads * dim)


class _Block:
    """Neighbours that ask together, the same keys."""

    def __init__(self, start: int, begin: int, end: int) -> None:
        self.begin, self.end = begin, end
        self._first = start + begin
        self._size = next(size for size in _QUERIES if size >= end - begin)
        self._length = -(-(start + end) // _KEYS) * _KEYS
        late = torch.arange(self._length - self._first) > torch.arange(self._size)[:, None]
        self._late = torch.zeros(late.shape).masked_fill_(late, -torch.inf)[:, None]

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """(N, group, dim) of scaled queries (N, group, dim), of all heads that share these keys and values (length, dim)."""
        count, group, dim = queries.shape
        asked = queries.new_zeros(self._size, group, dim)
        asked[:count] = queries
        scores = multiplied(asked.view(-1, dim), keys[: self._length])
        scores.view(self._size, group, -1)[..., self._first :] += self._late
        seen = multiplied(scores.softmax(-1), values[: self._length].t())
        return seen.view(self._size, group, dim)[:count]
