"""What the guard holds back is never in a chat, and no text of anybody becomes an element of the page."""

from __future__ import annotations

from contextlib import aclosing

import pytest

from llava.ecso.policy import policy_named
from llava.engines import ScriptedEngine
from llava.errors import EngineError
from llava.serve.web.chat import view
from llava.serve.web.chat.session import Session
from llava.serve.web.moderation import Moderated
from llava.serve.web.pictures import Shown
from tests.serve.web.chats import DRAFT, HARMFUL, HARMLESS, all_drawn, asking, run, shown, without_pauses  # noqa: F401


def test_an_answer_without_the_guard_comes_piece_by_piece() -> None:
    async def main() -> None:
        session = Session()
        seen = await all_drawn(session, "What?", asking(ScriptedEngine(HARMLESS, delay=0.01), guarded=False))
        assert any("A cat" in each and "A cat on a mat." not in each for each in seen)
        assert (session.turns[0].state, session.turns[0].answer, session.turns[0].released) == ("answered", "A cat on a mat.", None)
        assert "Not checked" in seen[-1]

    run(main)


def test_a_cleared_answer_is_shown_whole_and_nothing_of_it_before() -> None:
    async def main() -> None:
        seen = await all_drawn(Session(), "What?", asking(ScriptedEngine(HARMLESS, delay=0.005)))
        assert "A cat on a mat." in seen[-1]
        first = next(at for at, each in enumerate(seen) if "cat" in each)
        assert all("A ca" not in each for each in seen[:first])
        assert "A cat on a mat." in seen[first]

    run(main)


@pytest.mark.parametrize("step", ["answer", "check", "caption", "regenerate", "recheck"])
@pytest.mark.parametrize("failure", [None, EngineError("The worker left."), RuntimeError(DRAFT)])
def test_nothing_of_what_is_held_back_is_ever_in_a_session_whichever_step_fails(step: str, failure: Exception | None) -> None:
    async def main() -> None:
        script = HARMFUL if failure is None else HARMFUL | {step: failure}
        session = Session()
        seen = await all_drawn(session, "How?", asking(ScriptedEngine(script, delay=0.002)), [shown()])
        assert not any(DRAFT in each or "CAPTION-5b1c" in each for each in seen)
        turn = session.turns[0]
        if failure is None:
            assert (turn.answer, turn.released) == ("I cannot help with that.", "regenerated")
        else:
            assert (turn.state, turn.answer) == ("failed", "")
            assert turn.problem

    run(main)


def test_both_answers_harmful_is_a_fixed_refusal() -> None:
    async def main() -> None:
        session = Session()
        seen = await all_drawn(session, "How?", asking(HARMFUL | {"regenerate": f"{DRAFT} again", "recheck": "Yes"}))
        assert (session.turns[0].released, session.turns[0].answer) == ("refusal", policy_named("guard").refusal)
        assert DRAFT not in "".join(seen)

    run(main)


def test_a_guarded_answer_that_is_stopped_shows_nothing() -> None:
    async def main() -> None:
        session = Session()
        session.ask("How?", [shown()], asking(ScriptedEngine(HARMFUL, delay=0.01)))
        async with aclosing(session.answer()) as changes:
            async for _ in changes:
                if session.turns[0].step == "caption":
                    session.stop()
        assert (session.turns[0].state, session.turns[0].answer) == ("stopped", "")
        assert "Stopped before anything could be shown." in view.past(session)

    run(main)


def test_a_question_that_moderation_does_not_allow_reaches_no_model() -> None:
    class Strict:
        async def check(self, text: str) -> None:
            raise Moderated("The moderation service does not allow this question.")

    async def main() -> None:
        session, engine = Session(), ScriptedEngine({"answer": "Yes."})
        await all_drawn(session, "How?", asking(engine, moderator=Strict()))
        assert engine.seen == []
        assert "does not allow" in session.turns[0].problem

    run(main)


HOSTILE = "<img src=x onerror=alert(1)><script>alert(1)</script>\"'&lt;b&gt; ${alert(1)} {{this}} `\u202e\x1b[2J"


def test_no_text_becomes_an_element() -> None:
    async def main() -> None:
        session = Session()
        how = asking(HARMLESS | {"answer": HOSTILE}, model=HOSTILE)
        seen = await all_drawn(session, HOSTILE, how, [Shown("a", "0" * 64, (8, 8), 'x" onerror="alert(1)')])
        html = view.past(session)
        assert html.count("<img ") == 1
        assert "<script" not in html
        assert "<b>" not in html
        assert 'onerror="' not in html
        assert "\x1b" not in html
        assert "\u202e" not in html
        assert len(seen) > 1

    run(main)
