"""What is kept of images when memory is full: who goes, and whose memory is used again."""

import asyncio
from typing import Any

import pytest
from torch import Tensor

from llava.chat import Chat
from llava.engines.local.runner import SlotRunner
from llava.model.loaded import Loaded
from tests.engines.local.driving import add, batcher, call, finish, over_slots, run
from tests.factories import image

CALLS = [call(Chat.ask("what is this?", [image(colour)]), 4) for colour in ("red", "green", "blue", "white", "black")]


def for_three_pieces(llava: Loaded) -> int:
    """A budget that holds one of the calls, and what is kept of three images."""
    runner = over_slots(batcher(llava))
    piece = runner.prepare(CALLS[0]).spans[0].end * runner.slots.position_bytes
    return runner.slots.needed(1, 100) + 3 * piece


def snapshots(runner: SlotRunner, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """All that the runner keeps of its rows from now on: as long as it is held, nothing else can be given its memory."""
    kept, whole = list[Tensor](), runner.slots.snapshot

    def snapshot(*args: Any) -> Tensor:
        kept.append(made := whole(*args))
        return made

    monkeypatch.setattr(runner.slots, "snapshot", snapshot)
    return kept


def test_a_small_budget_evicts_what_was_not_used_for_long_and_answers_stay_right(llava: Loaded) -> None:
    wanted, budget = [run(batcher(llava), one) for one in CALLS], for_three_pieces(llava)
    inside = batcher(llava, budget=budget)
    for _ in range(2):
        assert [run(inside, one) for one in CALLS] == wanted
    stats = inside.runner.stats()
    assert stats.image_hits == 0
    assert stats.evictions > 0
    assert stats.kept_bytes + stats.slot_bytes <= budget


def test_in_a_full_cache_a_new_image_is_kept_in_the_memory_of_an_old_one(llava: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [run(batcher(llava), one) for one in CALLS]
    inside = batcher(llava, budget=for_three_pieces(llava))
    kept = snapshots(over_slots(inside), monkeypatch)
    assert [run(inside, one) for one in CALLS] == wanted
    assert len({made.data_ptr() for made in kept}) < len(kept) == 5
    assert [run(inside, one) for one in (CALLS[4], CALLS[3], CALLS[0])] == [wanted[4], wanted[3], wanted[0]]
    assert inside.runner.stats().image_hits > 0


def test_a_piece_that_an_images_features_drove_out_lends_its_memory_too(llava: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, *_ = CALLS
    wanted = run(batcher(llava), second)
    inside = batcher(llava)
    kept, prefixes = snapshots(over_slots(inside), monkeypatch), over_slots(inside).prefixes
    run(inside, first)
    prefixes._budget = prefixes.row_bytes + prefixes.bytes  # full: the second image's features drive out the first one's piece
    assert run(inside, second) == wanted
    assert [made.data_ptr() for made in kept] == [kept[0].data_ptr()] * 2
    assert prefixes._spare == []


def test_what_a_call_is_about_to_use_is_not_the_first_to_go(llava: Loaded) -> None:
    inside = batcher(llava)
    run(inside, *CALLS[:2])
    prefixes = over_slots(inside).prefixes
    red, green = (inside.runner.prepare(one).spans[0].key for one in CALLS[:2])

    async def main() -> None:
        assert prefixes.claim(add(inside, CALLS[0]))
        while green in prefixes._kept:
            prefixes.shrink(prefixes.bytes - 1)
        assert red in prefixes._kept
        finish(inside)

    asyncio.run(main())
