"""What one forward pass writes into the KV slots and how far it reads: new positions of some prompts, or one of every answer that decodes.

Positions of all calls lie one behind another (T). Knows no call and no weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

# Transformers' attention: module, queries (N, heads, Q, dim), keys and values (N, kv_heads, L, dim), mask -> (N, Q, heads, dim)
Attend = Callable[..., tuple[Tensor, Any]]


class Window(Protocol):
    """`positions` (T,) are the new ones' places in their rows; `last` the indices of those whose logits are wanted, None for all."""

    @property
    def positions(self) -> Tensor: ...

    @property
    def last(self) -> Tensor | None: ...

    def attend(self, attend: Attend, module: Any, queries: Tensor, new: Tensor, kv: Tensor) -> Tensor:
        """What the new positions see, (T, heads * dim), from queries (T, heads, dim); `new` (T, 2, kv_heads, dim), their keys and values,
        go into `kv`, a layer of the slots."""
        ...


class Chunks:
    """Of prompts: `counts[i]` new positions from `starts[i]` on in row `rows[i]`."""

    def __init__(self, rows: Sequence[int], starts: Sequence[int], counts: Sequence[int], like: Tensor, *, causal: bool) -> None:
        self._rows = list(zip(rows, starts, counts, strict=True))
        self._counts = list(counts)
        self.positions = torch.cat([torch.arange(start, start + count, device=like.device) for _, start, count in self._rows])
        self.last = torch.tensor(counts, device=like.device).cumsum(0) - 1
        # From the beginning on, torch's own causal kernel is faster than any mask.
        self._masks = [
            None if causal and start == 0 else mask(part[None, None], start + count, like.dtype)
            for (_, start, count), part in zip(self._rows, torch.split(self.positions, self._counts), strict=True)
        ]

    def attend(self, attend: Attend, module: Any, queries: Tensor, new: Tensor, kv: Tensor) -> Tensor:
        """See `Window`."""
        seen = []
        parts = zip(self._rows, self._masks, torch.split(queries, self._counts), torch.split(new, self._counts), strict=True)
        for (row, start, count), hidden, asked, added in parts:
            kv[:, row, :, start : start + count].copy_(added.permute(1, 2, 0, 3))
            keys, values = kv[:, row, None, :, : start + count]
            seen.append(attend(module, asked.transpose(0, 1)[None], keys, values, hidden, scaling=module.scaling)[0])
        return torch.cat(seen, 1).view(len(queries), -1)


class Step:
    """Of answers: one new position a row, from row `first` on: `positions` (N,), of which the largest is `length` - 1 at most."""

    last = None

    def __init__(self, positions: Tensor, first: int, length: int, dtype: torch.dtype) -> None:
        self.positions = positions
        self._part = slice(first, first + len(positions))
        self._rows = torch.arange(self._part.start, self._part.stop, device=positions.device)
        self._length = length
        self._mask = mask(positions[:, None, None], length, dtype)

    def attend(self, attend: Attend, module: Any, queries: Tensor, new: Tensor, kv: Tensor) -> Tensor:
        """See `Window`."""
        kv[:, self._rows, :, self.positions] = new
        keys, values = kv[:, self._part, :, : self._length]
        return attend(module, queries[:, :, None], keys, values, self._mask, scaling=module.scaling)[0].view(len(queries), -1)


def mask(positions: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """Additive mask (..., 1, Q, length), for `positions` (..., Q): each sees itself and those before it."""
    seen = torch.arange(length, device=positions.device) <= positions[..., None]
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, -torch.inf)
