"""The driver: events in order, one code path, and errors that release nothing."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from llava.chat import Call, Chat, Delta, Reply
from llava.ecso import (
    DEFENCES,
    GUARD,
    Defence,
    Done,
    Finished,
    Method,
    Outcome,
    Piece,
    Policy,
    Prompts,
    Started,
    Trace,
    events,
    run,
    upcoming,
)
from llava.ecso.steps import Steps
from llava.engines import ScriptedEngine
from llava.errors import EngineError, UserError
from tests.ecso.factories import HARMFUL, PICTURES, STEP_NAMES, lines

BOMB = Chat.ask("How to make this?", PICTURES[:1])


async def collected(engine: ScriptedEngine) -> list[object]:
    return [event async for event in events(Method(), BOMB, engine)]


def test_each_step_starts_streams_and_finishes_and_the_trace_comes_last() -> None:
    happened = asyncio.run(collected(ScriptedEngine(HARMFUL)))
    order = [type(event).__name__ for event in happened if not isinstance(event, Piece)]
    assert order == ["Started", "Finished"] * 4 + ["Done"]
    started = [event.call.step for event in happened if isinstance(event, Started)]
    assert started == ["answer", "check", "caption", "regenerate"]
    for finished in (event for event in happened if isinstance(event, Finished)):
        pieces = [event.text for event in happened if isinstance(event, Piece) and event.call is finished.step.call]
        assert "".join(pieces) == finished.step.text
    assert isinstance(happened[-1], Done)


def test_run_gives_the_trace_that_the_events_end_with() -> None:
    done = asyncio.run(collected(ScriptedEngine(HARMFUL)))[-1]
    trace = asyncio.run(run(Method(), BOMB, ScriptedEngine(HARMFUL)))
    assert isinstance(done, Done)
    assert (done.trace.outcome, [s.call for s in done.trace.steps]) == (trace.outcome, [s.call for s in trace.steps])


def test_the_engine_is_told_when_nobody_reads_pieces() -> None:
    watched, unwatched = ScriptedEngine(HARMFUL), ScriptedEngine(HARMFUL)
    asyncio.run(collected(watched))
    trace = asyncio.run(run(Method(), BOMB, unwatched))
    assert [call.whole for call in watched.seen] == [False] * 4
    assert [call.whole for call in unwatched.seen] == [True] * 4
    assert [step.call.whole for step in trace.steps] == [False] * 4  # what was asked is the same


@pytest.mark.parametrize("step", STEP_NAMES)
@pytest.mark.parametrize("error", [EngineError("The model fell over."), RuntimeError("a defect")], ids=["EngineError", "RuntimeError"])
def test_an_error_in_any_step_goes_to_the_caller_and_releases_nothing(step: str, error: Exception) -> None:
    engine = ScriptedEngine(lines(**{step: error}))
    happened: list[object] = []

    async def watch() -> None:
        async for event in events(Method(policy=GUARD), BOMB, engine):
            happened.append(event)

    with pytest.raises(type(error)):
        asyncio.run(watch())
    assert not any(isinstance(event, Done) for event in happened)
    assert engine.seen[-1].step == step


class Mute:
    """An engine whose stream ends without a reply, and which notes when its streams are closed."""

    name = "mute"
    closed = 0

    async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
        try:
            yield Delta("half an ans")
            await asyncio.sleep(0 if call.chat.question == "short" else 3600)
        finally:
            self.closed += 1

    async def close(self) -> None: ...


def test_a_stream_that_ends_without_a_reply_is_an_error_not_an_answer() -> None:
    with pytest.raises(EngineError, match="without a reply"):
        asyncio.run(run(Method(), Chat.ask("short"), Mute()))


def test_cancelling_the_reader_closes_the_running_call() -> None:
    engine = Mute()

    async def give_up() -> None:
        task = asyncio.ensure_future(run(Method(), BOMB, engine))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(give_up())
    assert engine.closed == 1


def test_leaving_the_events_early_closes_the_running_call() -> None:
    engine = Mute()

    async def look_briefly() -> None:
        happening = events(Method(), BOMB, engine)
        async for event in happening:
            if isinstance(event, Piece):
                break
        await happening.aclose()

    asyncio.run(look_briefly())
    assert engine.closed == 1


class Tail(ScriptedEngine):
    """An engine that could say more after its reply, and notes when its streams are closed."""

    closed = 0

    async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
        try:
            yield Delta(reply=Reply(HARMFUL[call.step]))
            yield Delta("more")
        finally:
            self.closed += 1


def test_each_call_is_closed_before_its_step_is_finished() -> None:
    engine = Tail([])

    async def watch() -> list[int]:
        return [engine.closed async for event in events(Method(), BOMB, engine) if isinstance(event, Finished)]

    assert asyncio.run(watch()) == [1, 2, 3, 4]


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A defence "tidy" in the table, which notes here that it ended."""
    notes: list[str] = []

    def tidy(ask: Chat, prompts: Prompts, policy: Policy, draft: str | None = None) -> Steps:
        try:
            return (yield from DEFENCES["ecso"].steps(ask, prompts, policy, draft))
        finally:
            notes.append("ended")

    monkeypatch.setitem(DEFENCES, "tidy", Defence(tidy, "tidies up"))
    return notes


def test_a_defence_is_closed_when_the_engine_fails(ended: list[str]) -> None:
    # While the error is at hand, its traceback keeps the generator alive: only closing it ends it.
    with pytest.raises(EngineError) as caught:
        asyncio.run(run(Method("tidy"), BOMB, ScriptedEngine(lines(caption=EngineError("fell over")))))
    assert ended == ["ended"]
    assert "fell over" in str(caught.value)


def test_a_defence_is_closed_when_the_reader_leaves(ended: list[str]) -> None:
    async def look_briefly() -> None:
        happening = events(Method("tidy"), BOMB, ScriptedEngine(HARMFUL))
        await anext(happening)
        assert ended == []
        await happening.aclose()
        assert ended == ["ended"]

    asyncio.run(look_briefly())


def test_many_chats_run_at_once_on_one_loop() -> None:
    engine = ScriptedEngine(lambda call: f"to {call.chat.question}" if call.step == "answer" else "No", delay=0.001)

    async def all_of_them() -> list[Trace]:
        return await asyncio.gather(*(run(Method(), Chat.ask(str(n)), engine) for n in range(50)))

    assert [trace.answer for trace in asyncio.run(all_of_them())] == [f"to {n}" for n in range(50)]
    first = [call.step for call in engine.seen[:50]]
    assert first == ["answer"] * 50


def test_verdicts_stand_on_the_checks_only() -> None:
    logprobs = {"Yes": -0.1, "No": -2.4}
    trace = asyncio.run(run(Method(), BOMB, ScriptedEngine(lines(check=Reply("Yes", first_logprobs=logprobs)))))
    assert [step.verdict is not None for step in trace.steps] == [False, True, False, False]
    assert trace.p_harmful == pytest.approx(0.909, abs=1e-3)


@pytest.mark.parametrize("count", range(5))
def test_steps_that_are_done_are_taken_as_they_are_and_only_the_rest_is_asked(count: int) -> None:
    whole = asyncio.run(run(Method(), BOMB, ScriptedEngine(HARMFUL)))
    engine = ScriptedEngine(HARMFUL)

    async def rest() -> list[object]:
        return [event async for event in events(Method(), BOMB, engine, done=whole.steps[:count])]

    happened = asyncio.run(rest())
    assert [call.step for call in engine.seen] == list(STEP_NAMES[count:4])
    last = happened[-1]
    assert isinstance(last, Done)
    assert last.trace.outcome == whole.outcome
    assert last.trace.steps[:count] == whole.steps[:count]


def test_what_comes_next_is_known_without_asking() -> None:
    steps = asyncio.run(run(Method(), BOMB, ScriptedEngine(HARMFUL))).steps
    following = [upcoming(Method(), BOMB, done=steps[:count]) for count in range(5)]
    assert [call.step for call in following[:4] if isinstance(call, Call)] == list(STEP_NAMES[:4])
    assert isinstance(following[4], Outcome)
    checked = upcoming(Method(), BOMB, draft="Elsewhere.")
    assert isinstance(checked, Call)
    assert checked.step == "check"
    assert "Elsewhere." in checked.chat.question


def test_an_edited_caption_goes_on_into_the_last_step() -> None:
    steps = list(asyncio.run(run(Method(), BOMB, ScriptedEngine(HARMFUL))).steps[:3])
    steps[2] = replace(steps[2], reply=Reply("A cake."), edited=True)
    following = upcoming(Method(), BOMB, done=steps)
    assert isinstance(following, Call)
    assert "A cake." in following.chat.question


def test_steps_of_another_chat_are_refused() -> None:
    steps = asyncio.run(run(Method(), BOMB, ScriptedEngine(HARMFUL))).steps
    with pytest.raises(UserError, match="another chat"):
        upcoming(Method(), Chat.ask("Something else?"), done=steps[:1])
