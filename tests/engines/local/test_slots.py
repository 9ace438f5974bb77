"""Rows of keys and values: compact, growing within a budget, moved with what they hold."""

from dataclasses import dataclass

import pytest
import torch
from transformers import LlamaConfig

from llava.engines.local.slots import Slots

CONFIG = LlamaConfig(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, hidden_size=32)
ROOM = 10**9


@dataclass(eq=False)
class Call:
    mark: float
    filled: int = 5


def reserve(slots: Slots[Call], length: int, budget: int) -> bool:
    """Make room for one more call, if that is possible."""
    shape = slots.plan(length, budget)
    if shape is not None:
        slots.resize(*shape)
    return shape is not None


def made(*owners: Call) -> Slots[Call]:
    slots: Slots[Call] = Slots(CONFIG, torch.float32, torch.device("cpu"))
    for owner in owners:
        assert reserve(slots, 10, ROOM)
        slots.take(owner)
        fill(slots, owner)
    return slots


def fill(slots: Slots[Call], owner: Call) -> None:
    row = slots.owners.index(owner)
    for i, kv in enumerate(slots.layers):
        kv[:, row, :, : owner.filled] = owner.mark + i


def holds(slots: Slots[Call]) -> bool:
    """Whether every row holds what its owner has put there."""
    return all(
        bool((kv[:, row, :, : owner.filled] == owner.mark + i).all())
        for row, owner in enumerate(slots.owners)
        for i, kv in enumerate(slots.layers)
    )


def test_keys_and_values_of_grouped_heads_are_stored_once() -> None:
    slots = made(Call(1.0))
    assert slots.layers[0].shape == (2, 1, 2, 128, 8)
    assert slots.position_bytes == 2 * 2 * 8 * 4 * 2
    assert slots.bytes == sum(kv.nbytes for kv in slots.layers)


def test_those_that_decode_lie_first_whoever_comes_and_goes() -> None:
    calls = [Call(float(10 * i), filled=3 + i) for i in range(6)]
    slots = made(*calls)
    for call in (calls[4], calls[1], calls[0]):
        slots.promote(call)
        assert holds(slots)
    assert slots.owners[: slots.decoding] == [calls[4], calls[1], calls[0]]
    for call in (calls[4], calls[3], calls[0], calls[2]):
        slots.release(call)
        assert holds(slots)
    assert slots.owners == [calls[1], calls[5]]
    assert slots.decoding == 1


def test_growing_keeps_what_is_there() -> None:
    calls = [Call(float(10 * i)) for i in range(5)]
    slots = made(*calls)
    assert slots.rows == 8
    assert reserve(slots, 300, ROOM)
    assert slots.length == 384
    assert holds(slots)


def test_rows_double_only_within_the_budget_and_a_smaller_need_shrinks_what_is_over_it() -> None:
    calls = [Call(float(10 * i)) for i in range(2)]
    slots = made(*calls)
    three = slots.needed(3, 100)
    assert not reserve(slots, 100, three - 1)
    assert slots.rows == 2
    assert reserve(slots, 100, three)
    assert slots.rows == 3
    assert reserve(slots, 1000, ROOM)
    assert slots.length == 1024
    slots.release(calls[1])
    assert reserve(slots, 100, three)
    assert (slots.rows, slots.length) == (2, 128)
    assert holds(slots)


def test_a_failed_growth_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    call = Call(1.0)
    slots = made(call)
    before, empty = list(slots.layers), slots._empty

    def full(rows: int, length: int) -> torch.Tensor:
        monkeypatch.setattr(slots, "_empty", fail)
        return empty(rows, length)

    def fail(*_: int) -> torch.Tensor:
        raise MemoryError

    monkeypatch.setattr(slots, "_empty", full)
    with pytest.raises(MemoryError):
        reserve(slots, 1000, ROOM)
    assert all(one is other for one, other in zip(before, slots.layers, strict=True))


def test_memory_that_runs_out_while_a_row_begins_to_decode_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reads, done = Call(1.0), Call(7.0)
    slots = made(reads, done)

    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(slots, "snapshot", full)
    with pytest.raises(MemoryError):
        slots.promote(done)
    assert (slots.owners, slots.decoding) == ([reads, done], 0)
    slots.release(done)
    assert (slots.owners, slots.decoding) == ([reads], 0)
    assert holds(slots)


def test_wiping_leaves_what_is_filled_and_nothing_else() -> None:
    calls = [Call(float(10 * i + 1), filled=3 + i) for i in range(3)]
    slots = made(*calls)
    for kv in slots.layers:
        kv[kv == 0] = torch.nan
    slots.release(calls[1])
    slots.wipe()
    assert holds(slots)
    assert not any(kv.isnan().any() for kv in slots.layers)
    assert all(int((kv != 0).sum()) == 2 * 2 * 8 * (3 + 5) for kv in slots.layers)


def test_a_snapshot_is_a_copy_and_loads_where_it_is_wanted() -> None:
    one, other = Call(1.0, filled=9), Call(7.0, filled=2)
    slots = made(one, other)
    saved = slots.snapshot(one, 2, 6)
    assert saved[0].shape == (2, 2, 4, 8)
    slots.load(other, saved, 2, count=3)
    other.filled = 5
    row = [float(value) for value in slots.layers[1][1, 1, 0, :6, 0]]
    assert row == [8.0, 8.0, 2.0, 2.0, 2.0, 0.0]


def test_a_row_knows_what_it_holds_wherever_its_call_moves_and_after_it() -> None:
    calls = [Call(float(10 * i), filled=3 + i) for i in range(4)]
    slots = made(*calls)
    for call in calls:
        slots.hold(call, frozenset({call.mark}))
    slots.promote(calls[2])
    slots.promote(calls[1])
    assert all(slots.held(call) == {call.mark} for call in calls)
    for call in (calls[2], calls[0]):
        slots.release(call)
    assert all(slots.held(call) == {call.mark} for call in slots.owners)
    late = Call(7.0)
    slots.take(late)
    (left,) = [call.mark for call in calls if slots.held(late) == {call.mark}]
    assert all(bool((kv[:, 2, :, :3] == left + i).all()) for i, kv in enumerate(slots.layers))
    slots.release(late)
    slots.wipe()
    slots.take(late)
    assert not slots.held(late)
