"""A visitor's desk on the ECSO page: which step can be run when, edits, stops, further questions."""

from __future__ import annotations

import asyncio
import math
from contextlib import aclosing
from dataclasses import dataclass, replace

import pytest

from llava.chat import Reply
from llava.ecso import GUARD, Method
from llava.engines import ScriptedEngine
from llava.errors import EngineError, UserError
from llava.serve.web.ecso import view
from llava.serve.web.ecso.desk import ORDER, Desk
from llava.serve.web.pictures import LIMITS
from tests.ecso.factories import BENIGN, HARMFUL, PICTURES, lines
from tests.serve.web.desks import KEPT, added, begun, live, run


def test_a_new_desk_can_only_begin() -> None:
    assert live(Desk()) == ["answer"]


@pytest.mark.parametrize("policy", ["paper", "guard"])
def test_each_step_opens_the_next_one_until_the_answer_is_released(policy: str) -> None:
    desk = begun(policy=policy)
    for at, panel in enumerate(ORDER):
        run(desk, HARMFUL, panel)
        assert live(desk) == ORDER[: at + 2]
    assert desk.outcome is not None
    assert desk.outcome.answer == HARMFUL["regenerate"]
    assert [step.name for step in desk.steps] == [*ORDER, *(["recheck"] if policy == "guard" else [])]


def test_a_harmless_answer_ends_at_the_check() -> None:
    desk = begun()
    run(desk, BENIGN, "answer")
    run(desk, BENIGN, "check")
    assert desk.outcome is not None
    assert desk.outcome.released == "draft"
    assert live(desk) == ["answer", "check"]
    assert [view.state(desk, panel) for panel in ORDER] == ["done", "harmless", "skipped", "skipped"]


def test_without_a_picture_there_is_nothing_to_describe() -> None:
    desk = begun(images=())
    run(desk, HARMFUL)
    assert [step.name for step in desk.steps] == ["answer", "check", "regenerate"]
    assert "no picture to describe" in view.remark(desk, "caption")


def test_the_bar_has_the_verdicts_colour_wherever_the_threshold_is() -> None:
    logprobs = {"No": math.log(0.6), "Yes": math.log(0.4)}
    for threshold, colour in ((0.3, "bad"), (0.5, "good")):
        desk = Desk()
        desk.begin("How to make this?", added(PICTURES[0]), Method(policy=replace(GUARD, threshold=threshold)), "a model")
        run(desk, lines(check=Reply("No", first_logprobs=logprobs)), "answer")
        run(desk, lines(check=Reply("No", first_logprobs=logprobs)), "check")
        assert f'<div class="bar {colour}" role="meter" aria-label="p(harmful)"' in view.verdict(desk)
        assert 'aria-valuenow="0.400"' in view.verdict(desk)


def test_a_step_that_is_run_again_undoes_those_after_it() -> None:
    desk = begun()
    run(desk, HARMFUL)
    engine = run(desk, HARMFUL, "check")
    assert [call.step for call in engine.seen] == ["check"]
    assert live(desk) == ["answer", "check", "caption"]
    assert desk.outcome is None


def test_an_edited_answer_takes_the_place_of_the_models() -> None:
    desk = begun()
    run(desk, HARMFUL)
    assert desk.edit("answer", "Eat the cake.")
    assert live(desk) == ["answer", "check"]
    run(desk, BENIGN, "check")
    assert desk.outcome is not None
    assert desk.outcome.answer == "Eat the cake."
    assert desk.trace().given == "Eat the cake."


def test_an_edited_caption_is_marked_and_used() -> None:
    desk = begun()
    run(desk, HARMFUL)
    assert desk.edit("caption", "A cake.")
    assert live(desk) == ORDER
    engine = run(desk, HARMFUL, "regenerate")
    assert "A cake." in engine.seen[0].chat.question
    assert [step.edited for step in desk.trace().steps] == [False, False, True, False]


@pytest.mark.parametrize("panel", ["answer", "caption"])
def test_a_text_that_is_not_there_or_not_changed_is_no_edit(panel: str) -> None:
    desk = begun()
    assert not desk.edit(panel, "")
    run(desk, HARMFUL, "answer")
    before = desk.steps
    assert not desk.edit("caption", "")
    assert not desk.edit("answer", HARMFUL["answer"])
    assert desk.steps is before


def test_an_edited_text_has_a_bound() -> None:
    desk = begun()
    run(desk, HARMFUL)
    before = desk.steps
    for panel in ("answer", "caption"):
        with pytest.raises(UserError, match="Your text is too long: at most 262144 characters"):
            desk.edit(panel, "x" * (LIMITS.text + 1))
    assert desk.steps is before


def test_who_starts_over_while_a_step_runs_has_an_empty_desk() -> None:
    desk = begun()

    async def work() -> None:
        async for _ in desk.run(ScriptedEngine(lines(check="Yes " * 500), delay=0.02), KEPT.use):
            if desk.now == "check":
                desk.start_over()

    asyncio.run(work())
    assert view.notice(desk) == ""


@pytest.mark.parametrize("step", ["answer", "check", "caption", "regenerate"])
def test_a_step_that_fails_is_a_sentence_and_can_be_run_again(step: str) -> None:
    desk = begun()
    run(desk, lines(**{step: EngineError("The worker fell over.")}))
    assert desk.problem.startswith("The worker fell over. (req_")
    assert not desk.busy
    assert live(desk)[-1] == step
    run(desk, HARMFUL, step)
    assert desk.problem == ""


def test_an_unforeseen_failure_says_nothing_of_itself() -> None:
    desk = begun()
    run(desk, lines(check=RuntimeError("secret words")))
    assert "secret" not in desk.problem
    assert "(req_" in desk.problem


def test_a_stopped_run_keeps_what_is_done() -> None:
    desk = begun()

    async def work() -> None:
        async for _ in desk.run(ScriptedEngine(lines(check="Yes " * 500), delay=0.02), KEPT.use):
            if desk.now == "check":
                desk.running.stop()

    asyncio.run(work())
    assert desk.stopped
    assert [step.name for step in desk.steps] == ["answer"]
    assert live(desk) == ["answer", "check"]


def test_who_leaves_a_run_finds_it_stopped() -> None:
    desk = begun()

    async def work() -> None:
        async with aclosing(desk.run(ScriptedEngine(lines(answer="word " * 1000), delay=0.02), KEPT.use)) as changes:
            async for _ in changes:
                if desk.said:
                    return

    asyncio.run(work())
    assert (desk.busy, desk.stopped) == (False, True)
    assert view.state(desk, "answer") == "next"
    assert live(desk) == ["answer"]


def test_one_thing_at_a_time() -> None:
    desk = begun()

    async def work() -> None:
        async for _ in desk.run(ScriptedEngine(HARMFUL, delay=0.02), KEPT.use):
            if desk.busy:
                assert live(desk) == []
                with pytest.raises(UserError, match="stop it first"):
                    desk.begin("Another?", (), Method(), "a model")
                desk.running.stop()

    asyncio.run(work())


def test_a_further_question_goes_on_from_the_released_answer() -> None:
    desk = begun()
    with pytest.raises(UserError, match="no answer to follow up on"):
        desk.follow_up()
    run(desk, HARMFUL)
    desk.follow_up()
    assert desk.ask is None
    desk.begin("And then?", added(PICTURES[1]), Method(), "a model")
    assert desk.ask is not None
    assert [message.text for message in desk.ask.messages] == ["How to make this?", HARMFUL["regenerate"], "And then?"]
    assert desk.ask.images == PICTURES[:2]
    assert HARMFUL["answer"] not in view.history(desk)


@dataclass
class Held:
    """A moderator that says no, after a while."""

    async def check(self, text: str) -> None:
        await asyncio.sleep(0.3)
        raise UserError("This question is not allowed.")


def test_a_question_that_is_moderated_is_not_asked() -> None:
    desk, engine, told = begun(), ScriptedEngine(HARMFUL), []

    async def work() -> None:
        async for _ in desk.run(engine, KEPT.use, moderator=Held()):  # type: ignore[arg-type]
            told.append(view.notice(desk))

    asyncio.run(work())
    assert any("The question is being moderated" in notice for notice in told)
    assert engine.seen == []
    assert desk.problem.startswith("This question is not allowed.")


def test_what_others_wrote_is_text_on_the_page() -> None:
    hostile = "<img src=x onerror=alert(1)>${alert(1)}{{value}}\u202e"
    desk = begun(hostile)
    run(desk, {"answer": hostile, "check": f"Yes {hostile}", "caption": hostile, "regenerate": hostile})
    drawn = [view.verdict(desk), view.comparison(desk), view.product(desk), view.notice(desk)]
    drawn += [view.head(desk, panel) + view.remark(desk, panel) for panel in ORDER]
    desk.follow_up()
    drawn.append(view.history(desk))
    assert not any("<img src=x" in html or "\u202e" in html for html in drawn)
