"""What one forward pass writes into the KV slots and how far it reads: new positions of some prompts, or one of every answer that decodes.

Positions of all calls lie one behind another (T). What layers do with a window is TorchScript, too (see `scripted`). Knows no call and no
weights.
"""

# Without `from __future__ import annotations`: TorchScript cannot read the fields of a NamedTuple that are only text.
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from llava.engines.local.attention import Block, attention, blocks, pays, seen_by


class Part(NamedTuple):
    """Of a prompt: `new` positions from `start` on in row `row`. `mask` (1, 1, new, start + new), where torch's causal kernel does not do:
    from the beginning on it is faster than any. `blocks`: where oneDNN pays."""

    row: int
    start: int
    new: int
    mask: Tensor | None
    blocks: list[Block]


class Window(NamedTuple):
    """New positions of prompts, `parts`, with `last` (N,), the indices of each part's last; or of answers, one in each of `rows` (N,), the
    first ones, which are read up to `length` under `mask` (N, 1, 1, length). `positions` (T,) are the new ones' places in their rows."""

    positions: Tensor
    parts: list[Part]
    last: Tensor | None = None
    rows: Tensor | None = None
    length: int = 0
    mask: Tensor | None = None


def chunks(rows: Sequence[int], starts: Sequence[int], counts: Sequence[int], like: Tensor, *, onednn: bool = False) -> Window:
    """Of prompts: `counts[i]` new positions from `starts[i]` on in row `rows[i]`. With `onednn`, long ones see by it."""
    places = [torch.arange(start, start + count, device=like.device) for start, count in zip(starts, counts, strict=True)]
    parts = [_part(row, start, positions, like.dtype, onednn=onednn) for row, start, positions in zip(rows, starts, places, strict=True)]
    return Window(torch.cat(places), parts, last=torch.tensor(counts, device=like.device).cumsum(0) - 1)


def _part(row: int, start: int, positions: Tensor, dtype: torch.dtype, *, onednn: bool) -> Part:
    count = len(positions)
    if onednn and pays(start, count):
        return Part(row, start, count, None, blocks(start, count))
    return Part(row, start, count, mask(positions[None, None], start + count, dtype) if start else None, [])


def step(positions: Tensor, length: int, dtype: torch.dtype) -> Window:
    """Of answers: one new position in each of the first rows: `positions` (N,), of which the largest is `length` - 1 at most."""
    rows = torch.arange(len(positions), device=positions.device)
    return Window(positions, [], rows=rows, length=length, mask=mask(positions[:, None, None], length, dtype))


def mask(positions: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """Additive mask (..., 1, Q, length), for `positions` (..., Q): each sees itself and those before it."""
    seen = torch.arange(length, device=positions.device) <= positions[..., None]
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, -torch.inf)


def attended(window: Window, queries: Tensor, new: Tensor, kv: Tensor, scaling: float) -> Tensor:
    """What positions see, (T or N, heads * dim), from queries (T or N, heads, dim), of all of them or of the last ones; `new`
    (T, 2, kv_heads, dim), the keys and values of all, go into `kv`, a layer of the slots."""
    rows = window.rows
    if rows is not None:
        kv[:, rows, :, window.positions] = new
        known = kv[:, : len(queries), :, : window.length]
        return attention(queries[:, :, None], known[0], known[1], window.mask, False, scaling)[:, 0]
    found: list[Tensor] = []
    begin = 0
    for i, part in enumerate(window.parts):
        end = begin + part.new
        kv[:, part.row, :, part.start : part.start + part.new] = new[begin:end].permute(1, 2, 0, 3)
        asking = queries[begin:end] if len(queries) == len(new) else queries[i : i + 1]
        found.append(_seen(part, asking, kv[:, part.row], scaling))
        begin = end
    return torch.cat(found)


def _seen(part: Part, queries: Tensor, row: Tensor, scaling: float) -> Tensor:
    """(Q, heads * dim) of queries (Q, heads, dim), of the part's new positions or its last, and the row's keys and values
    (2, kv_heads, length, dim)."""
    all_ask = len(queries) == part.new
    if all_ask and len(part.blocks) > 0:
        return seen_by(part.blocks, queries, row[0], row[1], scaling)
    known = row[:, None, :, : part.start + part.new]
    shown = part.mask if all_ask else None  # the last position sees all
    return attention(queries.transpose(0, 1)[None], known[0], known[1], shown, all_ask and part.start == 0, scaling)[0]
