"""Rows of keys and values: compact, growing within a budget, moved with what they hold."""

import weakref
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
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
    shape = slots.plan(length, budget, ROOM)
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


def test_a_growth_that_runs_out_of_memory_keeps_what_is_held_and_the_next_one_goes_on_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    call, late = Call(1.0), Call(7.0)
    slots = made(call)
    empty = slots._empty

    def full(rows: int, length: int) -> torch.Tensor:
        monkeypatch.setattr(slots, "_empty", fail)
        return empty(rows, length)

    def fail(*_: int) -> torch.Tensor:
        raise MemoryError

    monkeypatch.setattr(slots, "_empty", full)
    with pytest.raises(MemoryError):
        reserve(slots, 1000, ROOM)
    assert (slots.rows, slots.length) == (1, 128)
    assert holds(slots)
    grown = slots.layers[0]
    monkeypatch.setattr(slots, "_empty", empty)
    assert reserve(slots, 1000, ROOM)
    assert slots.layers[0] is grown
    slots.take(late)
    fill(slots, late)
    assert (slots.rows, slots.length, {kv.shape[3] for kv in slots.layers}) == (2, 1024, {1024})
    assert holds(slots)


def test_what_could_not_be_had_for_nobody_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    slots = made()
    made_before, empty = list[torch.Tensor](), slots._empty

    def full(rows: int, length: int) -> torch.Tensor:
        if made_before and rows:
            raise MemoryError
        made_before.append(empty(rows, length))
        return made_before[-1]

    monkeypatch.setattr(slots, "_empty", full)
    slots.resize(0, 0)
    with pytest.raises(MemoryError):
        reserve(slots, 1000, ROOM)
    slots.free()
    assert slots.bytes == 0


@given(data=st.data())
def test_rows_take_no_more_than_the_budget_at_any_time(data: st.DataObject) -> None:
    slots: Slots[Call] = Slots(CONFIG, torch.float32, torch.device("cpu"))
    budget = data.draw(st.integers(1, 30)) * slots.needed(1, 128)
    share, empty, living = int(0.75 * budget), slots._empty, list[weakref.ref[torch.Tensor]]()
    longest = budget // slots.position_bytes

    def held() -> int:
        return sum(kv.nbytes for ref in living if (kv := ref()) is not None)

    def counted(rows: int, length: int) -> torch.Tensor:
        kv = empty(rows, length)
        living.append(weakref.ref(kv))
        assert held() <= peak <= budget or not rows
        return kv

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slots, "_empty", counted)
        for i in range(data.draw(st.integers(1, 25))):
            leaves: bool = data.draw(st.booleans())
            if slots.owners and leaves:
                slots.release(data.draw(st.sampled_from(slots.owners)))
                continue
            shape = slots.plan(data.draw(st.integers(1, longest)), share, budget)
            assert shape is not None or slots.owners  # who is alone can always run
            if shape is None:
                continue
            peak = slots.peak(*shape)
            slots.resize(*shape)
            call = Call(float(10 * i))
            slots.take(call)
            fill(slots, call)
            if data.draw(st.booleans()):
                slots.promote(call)
            assert slots.bytes == held() <= budget
            assert holds(slots)


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
    assert saved.shape == (2, 2, 2, 4, 8)  # two layers; keys and values
    slots.load(other, saved, 2, count=3)
    other.filled = 5
    row = [float(value) for value in slots.layers[1][1, 1, 0, :6, 0]]
    assert row == [8.0, 8.0, 2.0, 2.0, 2.0, 0.0]


def test_a_snapshot_is_made_in_memory_that_nobody_needs_where_that_is_as_large() -> None:
    one, other = Call(1.0, filled=9), Call(7.0, filled=9)
    slots = made(one, other)
    wanted, old = slots.snapshot(other, 3, 7), slots.snapshot(one, 2, 6)
    again = slots.snapshot(other, 3, 7, [slots.snapshot(one, 2, 5), old])
    assert again.data_ptr() == old.data_ptr()
    assert again.equal(wanted)
    assert slots.snapshot(other, 3, 8, [old]).data_ptr() != old.data_ptr()


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
