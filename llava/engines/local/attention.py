"""What positions see of rows of keys and values: torch's attention, and for many positions at once, in float32 on a CPU, oneDNN.

There torch's own kernel multiplies with MKL, and where `packed` does not, oneDNN takes half of the time. All of it is TorchScript, too
(see `scripted`). Knows no call and no layer.
"""

# Without `from __future__ import annotations`: TorchScript cannot read the fields of a NamedTuple that are only text.
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from llava.engines.local.packed import multiplied

# Sizes are few, since oneDNN makes a kernel for each and keeps it.
_KEYS = 64
_QUERIES = (16, 32, 48, 64, 80, 96, 128)
_LEAST = 45_000  # pairs of positions from which on it pays


def attention(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, causal: bool, scaling: float) -> Tensor:
    """(N, Q, heads * dim) of queries (N, heads, Q, dim), keys and values (N, kv_heads, L, dim), and a mask (N, 1, Q, L) that is added.
    `causal`: each of as many queries as keys sees its own key and those before it."""
    count, heads, asking, dim = queries.shape
    group = heads // keys.shape[1]
    if asking == 1:  # heads that share keys ask as if they were positions: no key is copied for them
        queries, causal = queries.reshape(count, keys.shape[1], group, dim), False
    elif group > 1 and mask is not None and queries.device.type != "cpu":  # elsewhere torch's quick ways take a mask or shared keys
        keys, values = keys.repeat_interleave(group, 1), values.repeat_interleave(group, 1)
    grouped = queries.shape[1] != keys.shape[1]
    seen = F.scaled_dot_product_attention(queries, keys, values, mask, 0.0, causal, scale=scaling, enable_gqa=grouped)
    return seen.reshape(count, heads, asking, dim).transpose(1, 2).reshape(count, asking, heads * dim)


def pays(start: int, count: int) -> bool:
    """Whether `count` positions from `start` on are enough for oneDNN."""
    return count * (start + count) >= _LEAST


class Block(NamedTuple):
    """Neighbours in a row, from `begin` to `end` of those that ask: they are filled up to `size`, and look at the first `length` keys.
    `late` (size, 1, keys from `first` on) hides from each what comes behind it."""

    begin: int
    end: int
    size: int
    first: int
    length: int
    late: Tensor


def blocks(start: int, count: int) -> list[Block]:
    """Of `count` positions from `start` on in a row, of which each sees itself and all before it."""
    return [_block(start, begin, min(begin + _QUERIES[-1], count)) for begin in range(0, count, _QUERIES[-1])]


def _block(start: int, begin: int, end: int) -> Block:
    size = next(size for size in _QUERIES if size >= end - begin)
    first, length = start + begin, -(-(start + end) // _KEYS) * _KEYS
    late = torch.arange(length - first) > torch.arange(size)[:, None]
    return Block(begin, end, size, first, length, torch.zeros(late.shape).masked_fill_(late, -torch.inf)[:, None])


def seen_by(parts: list[Block], queries: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
    """(count, heads * dim) of queries (count, heads, dim) and the whole row's keys and values (kv_heads, length, dim)."""
    count, heads, dim = queries.shape
    grouped = (queries * scaling).view(count, len(keys), -1, dim)
    found = torch.empty_like(grouped)
    for part in parts:
        for head in range(len(keys)):
            asked = grouped[part.begin : part.end, head]
            found[part.begin : part.end, head] = _seen(part, asked, keys[head, : part.length], values[head, : part.length])
    return found.view(count, heads * dim)


def _seen(part: Block, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """(N, group, dim) of scaled queries (N, group, dim), of all heads that share these keys and values (length, dim)."""
    count, group, dim = queries.shape
    asked = queries.new_zeros([part.size, group, dim])
    asked[:count] = queries
    scores = multiplied(asked.view(-1, dim), keys, None)
    scores.view(part.size, group, -1)[:, :, part.first :] += part.late
    seen = multiplied(scores.softmax(-1), values.t(), None)
    return seen.view(part.size, group, dim)[:count]
