"""Linear layers over copies of their weights, in the layout that the processor multiplies fastest, for float32 on a CPU.

torch multiplies matrices with MKL there, and arranges the weights anew in every call. On Intel's processors a transposed copy spares it
most of that. On those of other makers MKL leaves half of their vector units idle, and oneDNN, which torch brings along, does the same
sums in about half the time, over a copy that was arranged once; where few rows meet a small matrix, finding its kernel takes oneDNN
longer than the sums, and there a transposed copy is multiplied, too. All of it is TorchScript, too (see `scripted`). Knows no model's
shape and no KV.
"""

from collections.abc import Iterable
from enum import Enum, auto
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
_SMALL = 2 * 2**20  # bytes of weights that oneDNN has a transposed copy of
_NEAR = 2**20  # bytes between two linear layers that stay close to a core, and for which memory need not be asked of the system
_SHARE = 0.25  # of the memory that is free: what the copy may take


class Kernel(Enum):
    """What multiplies a model's matrices."""

    TORCH = auto()  # the layers as they are
    MKL = auto()  # torch's own, over transposed copies
    ONEDNN = auto()


class Packed(nn.Module):
    """A linear layer on oneDNN: `weight` (outputs, inputs), `bias` (outputs,)."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self._width = len(weight)
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight)
        self._transposed = _transposed(weight) if weight.nbytes <= _SMALL else None
        self._bias = bias
        self._sizes, self._block, self._few = list(_SIZES), _BLOCK, _FEW

    def forward(self, rows: Tensor) -> Tensor:
        """(..., outputs) of rows (..., inputs)."""
        flat = rows.reshape(-1, rows.shape[-1])
        transposed = self._transposed
        if transposed is not None and len(flat) <= self._few:
            return F.linear(rows, transposed, self._bias)
        found = self._multiplied(flat) if len(flat) <= self._block else self._in_blocks(flat)
        return torch.unflatten(found, 0, rows.shape[:-1])

    def _in_blocks(self, rows: Tensor) -> Tensor:
        found = rows.new_empty([len(rows), self._width])
        for begin in range(0, len(rows), self._block):
            found[begin : begin + self._block] = self._multiplied(rows[begin : begin + self._block])
        return found

    def _multiplied(self, rows: Tensor) -> Tensor:
        count = len(rows)
        for size in self._sizes:
            if size >= count:
                rows = F.pad(rows, [0, 0, 0, size - count]) if size > count else rows
                break
        return multiplied(rows, self._weight, self._bias)[:count]


class Transposed(nn.Module):
    """A linear layer over a transposed copy of its weight (outputs, inputs)."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self._weight, self._bias = _transposed(weight), bias

    def forward(self, rows: Tensor) -> Tensor:
        """(..., outputs) of rows (..., inputs)."""
        return F.linear(rows, self._weight, self._bias)


class SideBySide(nn.Module):
    """What several layers give of the same input."""

    def __init__(self, parts: Iterable[nn.Module]) -> None:
        super().__init__()
        self._parts = nn.ModuleList(parts)

    def forward(self, rows: Tensor) -> Tensor:
        """(..., all outputs) of rows (..., inputs)."""
        return torch.cat([part(rows) for part in self._parts], -1)


def multiplied(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A linear layer on oneDNN: (N, outputs) of rows (N, inputs) and a weight (outputs, inputs), in its layout or as it is."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return product


def fastest(device: torch.device, dtype: torch.dtype) -> Kernel:
    """What multiplies fastest there."""
    if device.type != "cpu" or dtype != torch.float32:
        return Kernel.TORCH
    if _is_intels() and torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        return Kernel.MKL
    return Kernel.ONEDNN if _works() else Kernel.TORCH


def kernel_for(loaded: Loaded) -> Kernel:
    """The fastest for the model of those for whose copies there is memory."""
    kernel = fastest(loaded.device, loaded.dtype)
    sizes = [module.weight.nbytes for module in loaded.model.modules() if _plain(module)]
    copied: int = sum(2 * size if kernel is Kernel.ONEDNN and size <= _SMALL else size for size in sizes)
    return kernel if kernel is Kernel.TORCH or copied <= _SHARE * free_bytes() else Kernel.TORCH


def rows_near(width: int, kernel: Kernel) -> int:
    """Rows that go together through a pair of linear layers with `width` numbers between them: few over copies, else all."""
    return torch.iinfo(torch.int64).max if kernel is Kernel.TORCH else min(max(_NEAR // (4 * width), 128), _BLOCK)


def joined(linears: Iterable[nn.Module], kernel: Kernel) -> nn.Module:
    """What `linears` give of the same input, side by side; over copies from one multiplication."""
    parts = list(linears)
    if kernel is Kernel.TORCH or not all(map(_plain, parts)) or len({part.bias is None for part in parts}) > 1:
        return parts[0] if len(parts) == 1 else SideBySide(parts)
    plain = cast("list[nn.Linear]", parts)
    weight = torch.cat([part.weight.detach() for part in plain])
    biases = [part.bias.detach() for part in plain if part.bias is not None]
    bias = torch.cat(biases) if biases else None
    return (Transposed if kernel is Kernel.MKL else Packed)(weight, bias)


def _plain(module: nn.Module) -> bool:
    return type(module) is nn.Linear


def _transposed(weight: Tensor) -> Tensor:
    """The same weight (outputs, inputs), all numbers of one input side by side."""
    return weight.t().contiguous().t()


@cache
def _is_intels() -> bool:
    """Whether the processor is one of which MKL uses all that there is; an older torch does not tell."""
    known: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return str(known.get("cpu_name")).startswith("Intel")


@cache
def _works() -> bool:
    """Whether this torch has oneDNN's two operations, and they do what a linear layer does."""
    linear = nn.Linear(24, 40)
    rows = torch.linspace(-1, 1, (_FEW + 1) * 24).view(-1, 24)  # fewer go another way
    try:
        return torch.allclose(joined([linear], Kernel.ONEDNN)(rows), linear(rows), atol=1e-5)
    except (AttributeError, RuntimeError):  # built without oneDNN, or another torch
        return False
