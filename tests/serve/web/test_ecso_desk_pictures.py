"""A desk's pictures: lent to a run by the page's store, and nowhere else."""

from __future__ import annotations

import asyncio
import gc
import sys
from contextlib import aclosing

import pytest

from llava.chat import Image
from llava.ecso import GUARD, Method
from llava.engines import ScriptedEngine
from llava.errors import Overloaded
from llava.serve.web.ecso import view
from llava.serve.web.ecso.desk import Desk
from llava.serve.web.pictures import LEAST_BYTES, Pictures
from tests.ecso.factories import HARMFUL, PICTURES, lines
from tests.serve.web.desks import added, begun, run


def test_small_copies_are_kept_for_pictures_that_are_asked_about_only() -> None:
    desk = begun(images=PICTURES[:1])
    desk.begin("How to make this?", added(*PICTURES[:2]), Method(), "a model")
    desk.begin("And this?", added(PICTURES[0]), Method(), "a model")
    assert set(desk.pictures) == {PICTURES[0].sha256}
    run(desk, HARMFUL)
    desk.follow_up()
    desk.begin("And then?", (again := added(PICTURES[1])), Method(), "a model")
    assert set(desk.pictures) == {image.sha256 for image in PICTURES[:2]}
    assert again[0].thumbnail in view.product(desk)
    desk.start_over()
    desk.begin("Another?", (), Method(), "a model")
    assert desk.pictures == {}


def test_a_conversation_holds_no_picture_but_its_id() -> None:
    kept, raw = Pictures(), PICTURES[0].png()
    holders = sys.getrefcount(raw)
    desk = Desk()
    desk.begin("How to make this?", [kept.add(raw)], Method(policy=GUARD), "a model")
    run(desk, HARMFUL, kept=kept)
    desk.follow_up()
    desk.begin("And then?", (), Method(policy=GUARD), "a model")
    assert all(type(image) is Image for call in run(desk, HARMFUL, kept=kept).seen for image in call.chat.images)
    del kept
    gc.collect()
    assert sys.getrefcount(raw) == holders


@pytest.mark.parametrize("earlier", [False, True])
def test_a_picture_that_was_pushed_out_is_a_sentence_and_undoes_nothing(earlier: bool) -> None:
    kept, desk = Pictures(most_bytes=LEAST_BYTES), Desk()
    desk.begin("How to make this?", added(PICTURES[0], to=kept), Method(), "a model")
    run(desk, HARMFUL, kept=kept)
    if earlier:
        desk.follow_up()
        desk.begin("And then?", (), Method(), "a model")
        run(desk, HARMFUL, kept=kept)
    before = desk.steps, desk.outcome
    added(PICTURES[1], to=kept)  # by somebody else
    for panel in (None, "check"):
        assert run(desk, HARMFUL, panel, kept).seen == []
        assert desk.problem.startswith(
            "A picture of this conversation is no longer kept here: add it again and ask anew, or start over. (req_"
        )
        assert (desk.steps, desk.outcome) == before
    desk.begin("Once more?", added(PICTURES[0], to=kept), Method(), "a model")
    assert set(run(desk, HARMFUL, "answer", kept).seen[0].chat.images) == {PICTURES[0]}
    assert desk.problem == ""


def test_a_run_keeps_its_pictures_until_it_ends_or_is_left() -> None:
    kept, desk = Pictures(most_bytes=LEAST_BYTES), Desk()
    desk.begin("How to make this?", added(PICTURES[0], to=kept), Method(), "a model")

    async def work() -> None:
        async with aclosing(desk.run(ScriptedEngine(lines(check="Yes " * 500), delay=0.02), kept.use)) as changes:
            async for _ in changes:
                with pytest.raises(Overloaded, match="add this one when some have ended"):
                    added(PICTURES[1], to=kept)
                if desk.now == "check":
                    return

    asyncio.run(work())
    added(PICTURES[1], to=kept)
