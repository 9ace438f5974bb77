"""Linear layers with weights in the layout of oneDNN, for float32 on a CPU.

There torch multiplies matrices with MKL, which arranges the weights anew in every call and, on processors of other makers, leaves half
of their vector units idle. oneDNN, which torch brings along, does the same sums in about half the time, over a copy of the weights that
was arranged once. Where few rows meet a small matrix, finding its kernel takes oneDNN longer than the sums: there a transposed copy is
multiplied as it is. Knows no model's shape and no KV.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from functools import cache
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llava.engines.local.memory import free_bytes
from llava.model.loaded import Loaded

# oneDNN makes a kernel for each number of rows and keeps it, at about half a megabyte: rows come in few sizes, many of them in blocks.
_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256)
_BLOCK = _SIZES[-1]
_FEW = 16  # rows for which the transposed copy is faster
_SMALL = 2 * 2**20  # bytes of weights that have one
_NEAR = 2**20  # bytes between two linear layers that stay close to a core, and for which memory need not be asked of the system
_SHARE = 0.25  # of the memory that is free: what the copy may take

Linear = Callable[[Tensor], Tensor]  # (..., inputs) -> (..., outputs)


class Packed:
    """What `linears` give, side by side, from one multiplication."""

    def __init__(self, *linears: nn.Linear) -> None:
        weight = torch.cat([linear.weight.detach() for linear in linears])
        biases = [linear.bias for linear in linears if linear.bias is not None]
        self._width = len(weight)
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight)
        self._transposed = weight.t().contiguous() if weight.nbytes <= _SMALL else None
        self._bias = torch.cat([bias.detach() for bias in biases]) if biases else None

    def __call__(self, rows: Tensor) -> Tensor:
        """(..., outputs) of rows (..., inputs)."""
        flat = rows.reshape(-1, rows.shape[-1])
        if self._transposed is not None and len(flat) <= _FEW:
            few = flat @ self._transposed if self._bias is None else torch.addmm(self._bias, flat, self._transposed)
            return few.view(*rows.shape[:-1], self._width)
        if len(flat) <= _BLOCK:
            return self._multiplied(flat).view(*rows.shape[:-1], self._width)
        found = flat.new_empty(len(flat), self._width)
        for part, into in zip(torch.split(flat, _BLOCK), torch.split(found, _BLOCK), strict=True):
            into.copy_(self._multiplied(part))
        return found.view(*rows.shape[:-1], self._width)

    def _multiplied(self, rows: Tensor) -> Tensor:
        padding = _SIZES[bisect_left(_SIZES, len(rows))] - len(rows)
        padded = F.pad(rows, (0, 0, 0, padding)) if padding else rows
        return multiplied(padded, self._weight, self._bias)[: len(rows)]


def multiplied(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear layer on oneDNN: (N, outputs) of rows (N, inputs) and a weight (outputs, inputs), in its layout or as it is."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise.default(rows, weight, bias, "none", [], "")
    return product


def packable(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether weights can be packed there."""
    return device.type == "cpu" and dtype == torch.float32 and _works()


def rows_near(width: int, pack: bool) -> int:
    """Rows that go together through a pair of linear layers with `width` numbers between them: few of packed ones, else all."""
    return min(max(_NEAR // (4 * width), 128), _BLOCK) if pack else torch.iinfo(torch.int64).max


def packs(loaded: Loaded) -> bool:
    """Whether the model's linear layers gain by it, and memory holds the copy."""
    if not packable(loaded.device, loaded.dtype):
        return False
    sizes = [module.weight.nbytes for module in loaded.model.modules() if _plain(module)]
    copied: int = sum(size if size > _SMALL else 2 * size for size in sizes)
    return copied <= _SHARE * free_bytes()


def joined(linears: Iterable[nn.Module], pack: bool) -> Linear:
    """What `linears` give of the same input, side by side."""
    parts = list(linears)
    if pack and all(map(_plain, parts)) and len({part.bias is None for part in parts}) == 1:
        return Packed(*cast("list[nn.Linear]", parts))
    return parts[0] if len(parts) == 1 else lambda rows: torch.cat([part(rows) for part in parts], -1)


def _plain(module: nn.Module) -> bool:
    return type(module) is nn.Linear


@cache
def _works() -> bool:
    """Whether this torch has the two operations, and they do what a linear layer does."""
    linear = nn.Linear(24, 40)
    rows = torch.linspace(-1, 1, (_FEW + 1) * 24).view(-1, 24)  # fewer go another way
    try:
        return torch.allclose(Packed(linear)(rows), linear(rows), atol=1e-5)
    except (AttributeError, RuntimeError):  # built without oneDNN, or another torch
        return False
