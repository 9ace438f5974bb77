"""One person's chat: its turns and pictures, stopping, regenerating, voting."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from functools import partial
from typing import Any

import pytest

from llava.engines import ScriptedEngine
from llava.errors import EngineError, Overloaded, UserError
from llava.serve.web.chat import view
from llava.serve.web.chat.session import MOST_TURNS, Session
from llava.serve.web.pictures import LEAST_BYTES, LIMITS, Pictures
from tests.serve.web.chats import HARMLESS, IMAGE, all_drawn, asking, run, shown, without_pauses  # noqa: F401


def test_a_stopped_answer_stays_as_far_as_it_was_shown_and_ends_the_models_call() -> None:
    async def main() -> None:
        ended = asyncio.Event()

        class Watched(ScriptedEngine):
            async def stream(self, call: Any) -> Any:
                try:
                    async for delta in super().stream(call):
                        yield delta
                finally:
                    ended.set()

        session = Session()
        how = asking(Watched({"answer": "word " * 1000}, delay=0.001), guarded=False)
        session.ask("What?", (), how)
        async with aclosing(session.answer()) as changes:
            async for _ in changes:
                if session.turns[0].answer:
                    session.stop()
        assert ended.is_set()
        assert session.turns[0].state == "stopped"
        assert 0 < len(session.turns[0].answer) < 5000
        assert not session.busy
        assert "Stopped." in view.past(session)
        await all_drawn(session, "And?", asking(engine := ScriptedEngine({"answer": "Yes."}), guarded=False))
        assert engine.seen[0].chat.messages[1].text == session.turns[0].answer

    run(main)


def test_whoever_leaves_ends_the_models_call() -> None:
    async def main() -> None:
        session = Session()
        session.ask("What?", (), asking(ScriptedEngine({"answer": "word " * 1000}, delay=0.01), guarded=False))
        changes = session.answer()
        await anext(changes)
        await anext(changes)
        await changes.aclose()
        assert (session.turns[0].state, session.busy) == ("stopped", False)
        assert len(asyncio.all_tasks()) == 1

    run(main)


def test_a_failed_question_is_shown_with_a_sentence_and_is_no_part_of_what_follows() -> None:
    async def main() -> None:
        session = Session()
        await all_drawn(session, "First?", asking({"answer": EngineError("The worker left.")}, guarded=False))
        assert "The worker left." in session.turns[0].problem
        engine = ScriptedEngine({"answer": "Yes."})
        await all_drawn(session, "Second?", asking(engine, guarded=False))
        assert [message.text for message in engine.seen[0].chat.messages] == ["Second?"]
        assert session.turns[0].answer == ""

    run(main)


def test_an_answer_of_nothing_is_a_sentence() -> None:
    async def main() -> None:
        session = Session()
        await all_drawn(session, "What?", asking({"answer": " \n"}, guarded=False))
        assert session.turns[0].problem.startswith("The model said nothing")

    run(main)


def test_turns_and_pictures_go_along_in_their_order() -> None:
    async def main() -> None:
        session, engine = Session(), ScriptedEngine({"answer": "A cat."})
        await all_drawn(session, "What is this?", asking(engine, guarded=False), [shown("a"), shown("b")])
        await all_drawn(session, "And this?", asking(engine, guarded=False), [shown("c")])
        messages = engine.seen[1].chat.messages
        assert [(message.role, message.text, len(message.images)) for message in messages] == [
            ("user", "What is this?", 2),
            ("assistant", "A cat.", 0),
            ("user", "And this?", 1),
        ]

    run(main)


def test_regenerating_asks_the_same_again_without_the_old_answer() -> None:
    async def main() -> None:
        session, engine = Session(), ScriptedEngine(["A cat.", "A dog."])
        await all_drawn(session, "What?", asking(engine, guarded=False), [shown()])
        session.vote("downvote")
        session.again(asking(engine, guarded=False))
        async for _ in session.answer():
            pass
        assert [turn.answer for turn in session.turns] == ["A dog."]
        assert engine.seen[0].chat == engine.seen[1].chat
        assert session.can_vote

    run(main)


@pytest.mark.parametrize(
    ("question", "pictures", "said"),
    [
        ("  ", [], "The question is empty"),
        ("x" * (256 * 1024 + 1), [], "too long"),
        ("half \ud800", [], "half a character"),
        ("What?", ["gone"], "no longer kept"),
        ("What?", ["a"] * 9, "at most 8 pictures"),
    ],
)
def test_what_cannot_be_asked_changes_nothing(question: str, pictures: list[str], said: str) -> None:
    async def main() -> None:
        session, engine = Session(), ScriptedEngine({"answer": "Yes."})
        with pytest.raises(UserError, match=said):
            await all_drawn(session, question, asking(engine), [shown(id) for id in pictures])
        assert (session.turns, engine.seen, session.busy) == ([], [], False)

    run(main)


def test_a_lost_picture_of_an_earlier_question_can_only_be_cleared() -> None:
    async def main() -> None:
        session, pictures = Session(), Pictures(most_bytes=LEAST_BYTES)
        how = asking({"answer": "A cat."}, guarded=False, use=pictures.use)
        await all_drawn(session, "What is this?", how, [pictures.add(IMAGE.png())])
        pictures.add(IMAGE.png())  # by somebody else
        for ask in (partial(session.ask, "And now?", ()), session.again):
            with pytest.raises(UserError, match="earlier question is no longer kept here: press Clear"):
                ask(how)
        session.clear()
        await all_drawn(session, "And now?", how)
        assert session.turns[0].answer == "A cat."

    run(main)


def test_a_question_that_waits_holds_no_picture_and_its_answer_does() -> None:
    async def main() -> None:
        session, pictures = Session(), Pictures(most_bytes=LEAST_BYTES)
        how = asking(ScriptedEngine({"answer": "word " * 100}, delay=0.01), guarded=False, use=pictures.use)
        session.ask("What is this?", [pictures.add(IMAGE.png())], how)
        pictures.add(IMAGE.png())  # by somebody else
        await anext(changes := session.answer())
        assert [_ async for _ in changes]
        assert "no longer kept here: press Clear" in session.turns[0].problem
        session.clear()
        session.ask("What is this?", [pictures.add(IMAGE.png())], how)
        async with aclosing(session.answer()) as changes:
            await anext(changes)
            await anext(changes)
            with pytest.raises(Overloaded):
                pictures.add(IMAGE.png())
        pictures.add(IMAGE.png())

    run(main)


def test_a_question_for_whose_pictures_there_is_no_room_changes_nothing() -> None:
    async def main() -> None:
        session, pictures = Session(), Pictures(most_bytes=3 * LEAST_BYTES)
        mine, other = pictures.add(IMAGE.png()), pictures.add(IMAGE.png())
        with pictures.use([other.id]), pytest.raises(Overloaded, match="ask again when one has ended"):
            session.ask("What is this?", [mine], asking({"answer": "A cat."}, use=pictures.use))
        assert (session.turns, session.busy) == ([], False)

    run(main)


def test_stopped_questions_count_among_the_most_that_are_kept() -> None:
    async def main() -> None:
        session, how = Session(), asking(ScriptedEngine({"answer": "Yes."}), guarded=False)
        for _ in range(MOST_TURNS):
            session.ask("What?", (), how)
            session.stop()
        with pytest.raises(UserError, match="clear it to begin anew"):
            session.ask("What?", (), how)
        session.again(how)  # the last one may still be asked again

    run(main)


@pytest.mark.parametrize(("question", "pictures", "taken"), [("x" * (LIMITS.text // 3), 0, 3), ("What?", LIMITS.images, 4)])
def test_texts_and_pictures_of_stopped_questions_count_too(question: str, pictures: int, taken: int) -> None:
    async def main() -> None:
        session, how = Session(), asking(ScriptedEngine({"answer": "Yes."}), guarded=False)
        for _ in range(taken):
            session.ask(question, [shown()] * pictures, how)
            session.stop()
        with pytest.raises(UserError, match="clear it to begin anew"):
            session.ask(question, [shown()] * pictures, how)
        assert len(session.turns) == taken
        session.again(how)

    run(main)


def test_one_answer_is_given_at_a_time() -> None:
    async def main() -> None:
        session = Session()
        how = asking(ScriptedEngine({"answer": "word " * 100}, delay=0.01), guarded=False)

        def refused() -> None:
            with pytest.raises(UserError, match="stop it first"):
                session.ask("And?", (), how)
            with pytest.raises(UserError, match="stop it first"):
                session.again(how)

        session.ask("What?", (), how)
        refused()
        async with aclosing(session.answer()) as changes:
            await anext(changes)
            refused()
            assert not session.can_vote
        assert len(session.turns) == 1

    run(main)


def test_a_question_that_waits_can_be_stopped() -> None:
    async def main() -> None:
        session, engine = Session(), ScriptedEngine({"answer": "Yes."})
        session.ask("What?", (), asking(engine, guarded=False))
        assert "Waiting" in view.running(session)
        session.stop()
        assert [_ async for _ in session.answer()] == []
        assert (session.turns[0].state, session.busy, engine.seen) == ("stopped", False, [])

    run(main)


def test_a_question_whose_answer_cannot_begin_is_let_go_and_can_be_asked_again() -> None:
    async def main() -> None:
        session, engine = Session(), ScriptedEngine({"answer": "Yes."})
        session.ask("What?", (), asking(engine, guarded=False))
        session.give_up()
        assert (session.turns[0].state, session.busy, engine.seen) == ("failed", False, [])
        assert "press Regenerate" in view.past(session)
        session.again(asking(engine, guarded=False))
        assert [_ async for _ in session.answer()]
        assert session.turns[0].answer == "Yes."
        session.give_up()  # nothing waits
        assert session.turns[0].state == "answered"

    run(main)


def test_clearing_forgets_everything_and_ends_the_answer() -> None:
    async def main() -> None:
        session = Session()
        session.ask("What?", (), asking(ScriptedEngine({"answer": "word " * 100}, delay=0.01), guarded=False))
        async with aclosing(session.answer()) as changes:
            async for _ in changes:
                session.clear()
        assert (session.turns, session.busy) == ([], False)
        assert view.past(session) == view.EMPTY

    run(main)


def test_a_vote_counts_once_and_tells_texts_only_where_wanted() -> None:
    async def main() -> None:
        session = Session()
        with pytest.raises(UserError):
            session.vote("upvote")
        await all_drawn(session, "What is it?", asking(HARMLESS), [shown()])
        session.vote("upvote")
        with pytest.raises(UserError, match="already"):
            session.vote("flag")
        without, with_texts = session.record(texts=False), session.record(texts=True)
        assert without == {"turns": 1, "model": "tiny", "guarded": True, "released": "draft", "state": "answered"}
        assert with_texts["conversation"] == [{"question": "What is it?", "pictures": 1, "answer": "A cat on a mat."}]

    run(main)
