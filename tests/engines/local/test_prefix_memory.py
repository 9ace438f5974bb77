"""What is kept of images when memory is full: who goes, and whose memory is used again."""

from typing import Any

import pytest
from torch import Tensor

from llava.chat import Chat
from llava.model.loaded import Loaded
from tests.engines.local.driving import batcher, call, over_slots, run
from tests.factories import image


def test_a_small_budget_evicts_what_was_not_used_for_long_and_answers_stay_right(llava: Loaded) -> None:
    colours = ["red", "green", "blue", "white", "black"]
    calls = [call(Chat.ask("what is this?", [image(colour)]), 4) for colour in colours]
    wanted = [run(batcher(llava), one)[0] for one in calls]
    runner = over_slots(batcher(llava))
    piece = runner.prepare(calls[0]).spans[0].end * runner.slots.position_bytes
    inside = batcher(llava, budget=runner.slots.needed(1, 100) + 3 * piece)
    for _ in range(2):
        assert [run(inside, one)[0] for one in calls] == wanted
    stats = inside.runner.stats()
    assert stats.image_hits == 0
    assert stats.evictions > 0
    assert stats.kept_bytes + stats.slot_bytes <= runner.slots.needed(1, 100) + 3 * piece


def test_in_a_full_cache_a_new_image_is_kept_in_the_memory_of_an_old_one(llava: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = [call(Chat.ask("what is this?", [image(colour)]), 4) for colour in ("red", "green", "blue", "white", "black")]
    wanted = [run(batcher(llava), one) for one in calls]
    runner = over_slots(batcher(llava))
    piece = runner.prepare(calls[0]).spans[0].end * runner.slots.position_bytes
    inside = batcher(llava, budget=runner.slots.needed(1, 100) + 3 * piece)
    slots, kept = over_slots(inside).slots, list[Tensor]()
    whole = slots.snapshot

    def snapshot(*args: Any) -> Tensor:
        kept.append(made := whole(*args))  # as long as it is held, nothing else can be given its memory
        return made

    monkeypatch.setattr(slots, "snapshot", snapshot)
    assert [run(inside, one) for one in calls] == wanted
    assert len({made.data_ptr() for made in kept}) < len(kept) == 5
    assert [run(inside, one) for one in (calls[4], calls[3], calls[0])] == [wanted[4], wanted[3], wanted[0]]
    assert inside.runner.stats().image_hits > 0


def test_a_piece_that_an_images_features_drove_out_lends_its_memory_too(llava: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (call(Chat.ask("what is this?", [image(colour)]), 4) for colour in ("red", "green"))
    wanted = run(batcher(llava), second)
    inside = batcher(llava)
    runner, kept = over_slots(inside), list[Tensor]()
    whole = runner.slots.snapshot

    def snapshot(*args: Any) -> Tensor:
        kept.append(made := whole(*args))
        return made

    monkeypatch.setattr(runner.slots, "snapshot", snapshot)
    run(inside, first)
    prefixes = runner.prefixes
    prefixes._budget = prefixes.row_bytes + prefixes.bytes  # full: the second image's features drive out the first one's piece
    assert run(inside, second) == wanted
    assert [made.data_ptr() for made in kept] == [kept[0].data_ptr()] * 2
    assert prefixes._spare == []
