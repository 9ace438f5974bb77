"""Where the KV of running calls lies: one preallocated tensor a layer, one row a call.

Rows are kept compact: calls that decode lie in rows 0, 1, ..., those that still read their prompts behind them, so that the decode
batch is a view and not a copy. Keys and values of grouped heads are stored once. A row keeps what lies in it when its call ends, and
knows what that was: the next call there may begin alike. Knows no text and no schedule.
"""

import math
from collections.abc import Hashable, Iterable
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from llava.engines.local.scripted import scripted

_STEP = 128  # lengths grow in steps of so many positions
_ALIGNED = 64  # bytes that a processor reads at once


class Owner(Protocol):
    """Whose row it is; `filled` positions of it hold something."""

    @property
    def filled(self) -> int: ...


W = TypeVar("W", bound=Owner)


class Slots(Generic[W]):
    """KV rows of one model. `owners[i]` is whose row i is; the first `decoding` of them decode."""

    def __init__(self, config: Any, dtype: torch.dtype, device: torch.device) -> None:
        heads = config.num_attention_heads
        self._heads = int(getattr(config, "num_key_value_heads", None) or heads)
        self._dim = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
        self._memory = partial(_memory, dtype=dtype, device=device)
        self.layers = [self._empty(0, 0) for _ in range(config.num_hidden_layers)]
        self.rows = self.length = 0  # what every layer has: rows, positions of a row
        self.moves = 0  # how often layers have been allocated anew
        self.owners: list[W] = []
        self.decoding = 0
        self._held: dict[int, frozenset[Hashable]] = {}  # by row
        self.position_bytes: int = 2 * self._heads * self._dim * dtype.itemsize * config.num_hidden_layers

    def _empty(self, rows: int, length: int) -> Tensor:
        # Zeros: what lies behind a row's end is masked, and masked garbage could still be NaN.
        return self._memory((2, rows, self._heads, length, self._dim), zeros=True)

    @property
    def bytes(self) -> int:
        """What is allocated."""
        return sum(kv.nbytes for kv in self.layers)

    def needed(self, rows: int, length: int) -> int:
        """Bytes of so many rows of at least this length."""
        return rows * _rounded(length) * self.position_bytes

    def plan(self, length: int, share: int, budget: int) -> tuple[int, int] | None:
        """Rows and their length that hold one call more, each call up to `length`, in `share` bytes; a call that is alone may take all of
        the `budget`, which holds for the way there too. None where they cannot be had while those run that run now.
        """
        rows, length = len(self.owners) + 1, _rounded(length)
        if rows <= self.rows and length <= self.length and self.bytes <= share:
            return self.rows, self.length
        generous = 1 << (rows - 1).bit_length(), max(length, self.length)  # rows double: few copies
        for shape, most in ((generous, share), ((rows, length), share if self.owners else budget)):
            if self.needed(*shape) <= most and self.peak(*shape) <= budget:
                return shape
        return None

    def peak(self, rows: int, length: int) -> int:
        """The most bytes that are allocated at any time while `resize` goes there."""
        old = [kv.nbytes if self.owners else 0 for kv in self.layers]  # where nobody runs they go first
        new = self.needed(rows, length) // len(old)
        now = most = sum(old)
        for size in old:
            most = max(most, now + new)
            now += new - size
        return most

    def resize(self, rows: int, length: int) -> None:
        """Allocate anew, unless it is so already: a layer at a time, so that old and new hardly lie side by side. When memory runs out on
        the way, all that is held stays, and the next try goes on from there.
        """
        if (rows, length) == (self.rows, self.length):
            return
        if not self.owners:
            self.free()
        self.forget_free_rows()
        self.moves += 1
        self.rows, self.length = min(self.rows, rows), min(self.length, length)
        for i, old in enumerate(self.layers):
            if (old.shape[1], old.shape[3]) != (rows, length):
                new = self._empty(rows, length)
                for row, owner in enumerate(self.owners):
                    _copy(owner.filled, [old], (row, 0), [new], (row, 0))
                self.layers[i] = new
        self.rows, self.length = rows, length

    def free(self) -> None:
        """Give the memory back, and all rows with it."""
        self.owners.clear()
        self.decoding = self.rows = self.length = 0
        self.layers = [self._empty(0, 0) for _ in self.layers]
        self.moves += 1
        self.forget_free_rows()

    def take(self, owner: W) -> None:
        """A row for a call that begins to read its prompt; there is room."""
        self.owners.append(owner)

    def promote(self, owner: W) -> None:
        """The call's prompt is read; it decodes from now on."""
        row, first = self.owners.index(owner), self.decoding
        if row != first:
            other, held = self.owners[first], self.held(self.owners[first])
            aside = self.snapshot(other, 0, other.filled)  # the only part that takes memory: nothing has changed when it fails
            self._move(row, first)
            self.owners[row] = other
            self.load(other, aside, 0)
            self.hold(other, held)
        self.decoding += 1

    def release(self, owner: W) -> None:
        """The call's row is free; the last row of its kind moves there."""
        row = self.owners.index(owner)
        if row < self.decoding:
            self.decoding -= 1
            self._move(self.decoding, row)
            row = self.decoding
        self._move(len(self.owners) - 1, row)
        self.owners.pop()

    def wipe(self) -> None:
        """Zero all that is not filled, for when something else than numbers may lie there: a mask does not silence a NaN."""
        for kv in self.layers:
            kv[:, len(self.owners) :].zero_()
            for row, owner in enumerate(self.owners):
                kv[:, row, :, owner.filled :].zero_()
        self.forget_free_rows()

    def forget_free_rows(self) -> None:
        """Whatever lay in rows without an owner is gone."""
        self._held = {row: keys for row, keys in self._held.items() if row < len(self.owners)}

    def held(self, owner: W) -> frozenset[Hashable]:
        """What the beginning of the row holds, each by a name that stands for all before it too: its own, or what another call has left."""
        return self._held.get(self.owners.index(owner), frozenset())

    def hold(self, owner: W, keys: frozenset[Hashable]) -> None:
        """From now on the row holds these; who writes over what it held says so first."""
        self._held[self.owners.index(owner)] = keys

    def _move(self, source: int, target: int) -> None:
        if source == target:
            return
        filled = self.owners[source].filled
        _copy(filled, self.layers, (source, 0), self.layers, (target, 0))
        self._held[target] = self._held.get(source, frozenset())
        self.owners[target] = self.owners[source]

    def snapshot(self, owner: W, start: int, end: int, spare: Iterable[Tensor] = ()) -> Tensor:
        """A copy of the row's positions `start` to `end`: (layers, keys and values, kv_heads, positions, head_dim). One of `spare` that is
        as large is written over: new memory may cost a system far more than the copy does."""
        row, shape = self.owners.index(owner), (len(self.layers), 2, self._heads, end - start, self._dim)
        made = next((old for old in spare if old.shape == shape), None)
        if made is None:
            made = self._memory(shape)
        _copy(end - start, self.layers, (row, start), _rows_of(made), (0, 0))
        return made

    def load(self, owner: W, snapshot: Tensor, start: int, count: int | None = None) -> None:
        """Put a snapshot (of it, the first `count` positions) into the row, from position `start` on."""
        row = self.owners.index(owner)
        _copy(snapshot.shape[3] if count is None else count, _rows_of(snapshot), (0, 0), self.layers, (row, start))


@scripted
def _copy(count: int, sources: list[Tensor], source: tuple[int, int], targets: list[Tensor], target: tuple[int, int]) -> None:
    """Copy `count` positions, in all layers; `source` and `target`: a row, and the first position in it."""
    row, begin = source
    into, start = target
    for some, others in zip(sources, targets):  # noqa: B905 - TorchScript knows no `strict`
        others[:, into, :, start : start + count] = some[:, row, :, begin : begin + count]


def _rows_of(snapshot: Tensor) -> list[Tensor]:
    """Layers with one row, over a snapshot's memory."""
    return list(snapshot[:, :, None])


def _memory(shape: tuple[int, ...], *, dtype: torch.dtype, device: torch.device, zeros: bool = False) -> Tensor:
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device) if zeros else torch.empty(shape, dtype=dtype, device=device)
    # numpy asks for large pages, and its zeros are memory that the system hands out when it is written to: a row costs what is filled.
    size = math.prod(shape) * dtype.itemsize
    memory = torch.from_numpy((np.zeros if zeros else np.empty)(size + _ALIGNED, np.uint8))
    first = -memory.data_ptr() % _ALIGNED
    return memory[first : first + size].view(dtype).view(shape)


def _rounded(length: int) -> int:
    return -(-length // _STEP) * _STEP
