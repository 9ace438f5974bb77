"""What one forward pass writes into the KV slots and how far it reads: new positions of some prompts, or one of every answer that decodes.

Positions of all calls lie one behind another (T). Knows no call and no weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from llava.engines.local.attention import Seen, pays

# Transformers' attention: module, queries (N, heads, Q, dim), keys and values (N, kv_heads, L, dim), mask -> (N, Q, heads, dim)
Attend = Callable[..., tuple[Tensor, Any]]


class Window(Protocol):
    """`positions` (T,) are the new ones' places in their rows; `last` (N,) the indices of each call's last, None where none has more."""

    @property
    def positions(self) -> Tensor: ...

    @property
    def last(self) -> Tensor | None: ...

    def attend(self, attend: Attend, module: Any, queries: Tensor, new: Tensor, kv: Tensor) -> Tensor:
        """What positions see, (T or N, heads * dim), from queries (T or N, heads, dim), of all of them or of the last ones; `new`
        (T, 2, kv_heads, dim), the keys and values of all, go into `kv`, a layer of the slots."""
        ...


class Chunks:
    """Of prompts: `counts[i]` new positions from `starts[i]` on in row `rows[i]`. With `onednn`, long ones see by `attention`."""

    def __init__(
        self, rows: Sequence[int], starts: Sequence[int], counts: Sequence[int], like: Tensor, *, causal: bool, onednn: bool = False
    ) -> None:
        self._rows = list(zip(rows, starts, counts, strict=True))
        self._counts = list(counts)
        self.positions = torch.cat([torch.arange(start, start + count, device=like.device) for _, start, count in self._rows])
        self.last = torch.tensor(counts, device=like.device).cumsum(0) - 1
        self._seen = [Seen(start, count) if onednn and pays(start, count) else None for _, start, count in self._rows]
        # From the beginning on, torch's own causal kernel is faster than any mask.
        self._masks = [
            None if seen or (causal and start == 0) else mask(part[None, None], start + count, like.dtype)
            for (_, start, count), part, seen in zip(self._rows, torch.split(self.positions, self._counts), self._seen, strict=True)
        ]

    def attend(self, attend: Attend, module: Any, queries: Tensor, new: Tensor, kv: Tensor) -> Tensor:
        """See `Window`."""
        found, all_ask = [], len(queries) == len(new)
        asking = torch.split(queries, self._counts if all_ask else 1)
        parts = zip(self._rows, self._masks, self._seen, asking, torch.split(new, self._counts), strict=True)
        for (row, start, count), hidden, seen, asked, added in parts:
            kv[:, row, :, start : start + count].copy_(added.permute(1, 2, 0, 3))
            if seen is not None and all_ask:
                found.append(seen.attend(asked, kv[0, row], kv[1, row], module.scaling))
                continue
            keys, values = kv[:, row, None, :, : start + count]
            shown = hidden if all_ask else None  # the last position sees all
            answer: Tensor = attend(module, asked.transpose(0, 1)[None], keys, values, shown, scaling=module.scaling)[0]
            found.append(answer.reshape(len(asked), -1))
        return torch.cat(found)


class Step:
    """Of answers: one new position in each of the first rows: `positions` (N,), of which the largest is `length` - 1 at most."""

    last = None

    def __init__(self, positions: Tensor, length: int, dtype: torch.dtype) -> None:
        self.positions = positions
        self._rows = torch.arange(len(positions), device=positions.device)
        self._length = length
        self._mask = mask(positions[:, None, None], length, dtype)

    def attend(self, attend: Attend, module: Any, queries: Tensor, new: Tensor, kv: Tensor) -> Tensor:
        """See `Window`."""
        kv[:, self._rows, :, self.positions] = new
        keys, values = kv[:, : len(queries), :, : self._length]
        return attend(module, queries[:, :, None], keys, values, self._mask, scaling=module.scaling)[0].view(len(queries), -1)


def mask(positions: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """Additive mask (..., 1, Q, length), for `positions` (..., Q): each sees itself and those before it."""
    seen = torch.arange(length, device=positions.device) <= positions[..., None]
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, -torch.inf)
