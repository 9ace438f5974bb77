"""`kv_cache_gb` is a promise: rows and what is kept stay within it at any time, and who does not fit just now waits."""

import asyncio
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llava.engines.local.answer import Answer
from llava.engines.local.batcher import Batcher
from llava.engines.local.lanes import lanes_for
from llava.engines.local.slots import Slots
from llava.errors import EngineError, UserError
from llava.model.loaded import Loaded
from tests.engines.local.driving import CHATS, add, batcher, call, finish, generated, outcome, over_slots

ROOMY = [1, 60, 200, 380]  # tokens for which answers take room; they end after the first few
KINDS = st.tuples(st.integers(0, len(CHATS) - 1), st.sampled_from(ROOMY))


@pytest.fixture(scope="module")
def beginnings(llava: Loaded) -> list[list[int]]:
    """Of what the model says to each of `CHATS`."""
    return [generated(llava, chat, 20) for chat in CHATS]


def add_short(inside: Batcher[Any], chat: int, room: int) -> Answer[Any]:
    """A call that ends soon, as what it seeks is not said."""
    return add(inside, replace(call(CHATS[chat], room), sought=("nobody says this",)))


def watch(slots: Slots[Any], told: Callable[[int], None]) -> None:
    """Whenever a layer's rows are allocated, `told` hears how many bytes all of them have by then."""
    empty, living = slots._empty, list[weakref.ref[torch.Tensor]]()

    def watched(rows: int, length: int) -> torch.Tensor:
        kv = empty(rows, length)
        living.append(weakref.ref(kv))
        if rows:
            told(sum(one.nbytes for ref in living if (one := ref()) is not None))
        return kv

    slots._empty = watched  # type: ignore[method-assign]


@settings(max_examples=60)
@given(
    kinds=st.lists(KINDS, min_size=1, max_size=12),
    pauses=st.lists(st.integers(0, 3), min_size=12, max_size=12),
    size=st.integers(1, 16),  # of the budget, in the shortest rows
    most=st.sampled_from([1, 2]),  # lanes
)
def test_nothing_is_ever_over_the_budget_and_whoever_fits_into_it_alone_is_answered(
    llava: Loaded, beginnings: list[list[int]], kinds: list[tuple[int, int]], pauses: list[int], size: int, most: int
) -> None:
    budget = size * over_slots(batcher(llava)).slots.needed(1, 1)
    lanes = lanes_for(llava, 8, 40, budget, most)
    rows = dict.fromkeys(range(len(lanes)), 0)

    def told(lane: int, held: int) -> None:
        rows[lane] = held
        assert sum(rows.values()) + over_slots(lanes[0]).prefixes.bytes <= budget

    async def main() -> None:
        answers = list[Answer[Any]]()
        for i, (kind, pause) in enumerate(zip(kinds, pauses, strict=False)):
            answers.append(add_short(lanes[i % len(lanes)], *kind))
            for lane in lanes * pause:
                lane.step()
        for _ in range(1000):
            for lane in lanes:
                lane.step()
        assert all(lane.scheduler.idle for lane in lanes)
        for i, (answer, (chat, _)) in enumerate(zip(answers, kinds, strict=True)):
            slots = over_slots(lanes[i % len(lanes)]).slots
            if slots.needed(1, answer.positions) > budget // len(lanes):
                with pytest.raises(UserError, match=r"kv_cache_gb is .*: give at least"):
                    await outcome(answer)
            else:
                await outcome(answer)
                assert answer.tokens == beginnings[chat][: len(answer.tokens)]

    for i, lane in enumerate(lanes):
        watch(over_slots(lane).slots, lambda held, i=i: told(i, held))  # type: ignore[misc]
    asyncio.run(main())


def test_a_call_for_which_memory_runs_out_waits_for_those_that_run_and_fails_where_nobody_does(
    llava: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(rows: int, length: int) -> torch.Tensor:
        if rows:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return empty(rows, length)

    inside = batcher(llava)
    slots = over_slots(inside).slots
    empty = slots._empty

    async def main() -> None:
        runs = add(inside, call(CHATS[0], 10))
        inside.step()
        waits = add(inside, call(CHATS[1], 10))
        with monkeypatch.context() as short:
            short.setattr(slots, "_empty", fail)
            for _ in range(5):
                inside.step()
            assert (len(inside.scheduler.waiting), slots.owners) == (1, [runs])
        finish(inside)
        for answer, chat in ((runs, CHATS[0]), (waits, CHATS[1])):
            await outcome(answer)
            assert answer.tokens == generated(llava, chat, 10)
        alone = add(inside, call(CHATS[0], 300))
        with monkeypatch.context() as short:
            short.setattr(slots, "_empty", fail)
            inside.step()
        with pytest.raises(EngineError, match="Out of memory"):
            await outcome(alone)
        assert slots.bytes == inside.runner.stats().slot_bytes == 0

    asyncio.run(main())
