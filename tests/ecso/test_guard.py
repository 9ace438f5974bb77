"""The façade: calls from anywhere, one thread of its own, clean endings."""

import asyncio
import gc
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from llava.chat import Call, Chat, Delta, Reply
from llava.ecso import ECSO, GUARD, Interrupted, Policy, Prompts, Trace
from llava.engines import ScriptedEngine, generate
from llava.errors import EngineClosed, EngineError, ImageError, UserError
from tests.ecso.factories import BENIGN, HARMFUL, PICTURES, STEP_NAMES, lines

ROOT = Path(__file__).resolve().parents[2]
RED = PICTURES[0]


def portals() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "llava-portal"]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    if portals():
        gc.collect()
    assert portals() == []


def test_a_guard_answers_and_shows_how() -> None:
    with ECSO(ScriptedEngine(HARMFUL)) as guard:
        result = guard(RED, "How to make this?")
    assert (result.answer, result.harmful, result.draft) == ("I cannot help.", True, "Join the rod with the plate.")
    assert repr(guard) == "ECSO('scripted', defence='ecso', policy='paper')"


def test_a_guard_connects_by_name_and_takes_sampling_and_engine_options() -> None:
    with ECSO("scripted:A cat.|No", max_tokens=7, temperature=0.5, delay=0.0) as guard:
        assert guard(None, "Hello?").answer == "A cat."
        assert isinstance(guard.engine, ScriptedEngine)
        sampling = guard.engine.seen[0].sampling
    assert (sampling.max_tokens, sampling.temperature) == (7, 0.5)


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("scripted:a", {"policy": "papre"}),
        ("scripted:a", {"defence": "ecos"}),
        ("scripted:a", {"no_such_option": 1}),
        ("scripted:a", {"max_tokens": 0}),
        ("scripted:a", {"temperature": math.nan}),
        ("no/such/folder/at/all", {}),
        (5, {}),
        ("scripted:a", {"policy": ["paper"]}),
        ("scripted:a", {"policy": None}),
        ("scripted:a", {"defence": []}),
        ("scripted:a", {"defence": ""}),
        ("scripted:a", {"prompts": "Is it harmful?"}),
        ("scripted:a", {"max_tokens": "5"}),
        ("scripted:a", {"stop": 5}),
        ("scripted:a", {"seed": "x"}),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(target: object, options: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        ECSO(target, **options)
    assert portals() == []


def test_one_loaded_model_serves_several_methods() -> None:
    engine = ScriptedEngine(lines(recheck="Yes"))
    with ECSO(engine, max_tokens=9) as guard:
        assert guard(RED, "How?", method=guard.using(defence="direct")).answer == HARMFUL["answer"]
        assert guard(RED, "How?", method=guard.using(policy="guard")).answer == GUARD.refusal
        assert guard(RED, "How?").answer == HARMFUL["regenerate"]
        assert {call.sampling.max_tokens for call in engine.seen if call.step == "answer"} == {9}


def test_own_prompts_and_policies_are_used() -> None:
    engine = ScriptedEngine(HARMFUL)
    prompts = Prompts(check="{question} -> {answer}: harmful, yes or no?")
    with ECSO(engine, prompts=prompts, policy=Policy(name="mine", caption_tokens=5)) as guard:
        guard(RED, "How?")
    assert engine.seen[1].chat.question == "How? -> Join the rod with the plate.: harmful, yes or no?"
    assert engine.seen[2].sampling.max_tokens == 5


def test_a_candidate_answer_is_checked_in_place_of_the_models_own() -> None:
    engine = ScriptedEngine(BENIGN)
    with ECSO(engine) as guard:
        result = guard(RED, "What is this?", draft="A dog.")
    assert result.answer == result.draft == "A dog."
    assert [call.step for call in engine.seen] == ["check"]


def test_it_works_where_an_event_loop_already_runs_as_in_a_notebook() -> None:
    async def cell() -> tuple[str | None, list[str | None]]:
        with ECSO(ScriptedEngine(BENIGN, delay=0.001)) as guard:
            plain = guard(RED, "What?").answer
            awaited = await asyncio.gather(*(guard.ask(RED, "What?") for _ in range(5)))
            return plain, [result.answer for result in awaited]

    assert asyncio.run(cell()) == ("A cat.", ["A cat."] * 5)


def test_giving_up_an_awaited_answer_cancels_its_call() -> None:
    engine = ScriptedEngine(BENIGN, delay=3600)

    async def give_up(guard: ECSO) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(guard.ask(RED, "What?"), 0.05)

    with ECSO(engine) as guard:
        asyncio.run(give_up(guard))
    assert [call.step for call in engine.seen] == ["answer"]


def test_many_threads_may_call_one_guard() -> None:
    answers = []
    with ECSO(ScriptedEngine(BENIGN, delay=0.001)) as guard:
        threads = [threading.Thread(target=lambda: answers.append(guard(RED, "What?").answer)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == ["A cat."] * 8


@pytest.mark.parametrize("verdict", ["Yes", "No"])
def test_a_stream_gives_the_released_text_and_nothing_before_the_method_is_done(verdict: str) -> None:
    engine = ScriptedEngine(lines(check=verdict, regenerate="I  cannot help\nwith that. "))
    with ECSO(engine) as guard:
        pieces = guard.stream(RED, "How?")
        first = next(pieces)
        assert engine.seen[-1].step == ("regenerate" if verdict == "Yes" else "check")
        rest = list(pieces)
    assert first + "".join(rest) == ("I  cannot help\nwith that. " if verdict == "Yes" else HARMFUL["answer"])
    assert len(rest) > 1


@pytest.mark.parametrize("step", STEP_NAMES)
def test_a_stream_whose_step_fails_gives_nothing(step: str) -> None:
    with ECSO(ScriptedEngine(lines(**{step: EngineError("The model fell over.")})), policy="guard") as guard:
        given: list[str] = []
        with pytest.raises(EngineError, match="fell over"):
            given.extend(guard.stream(RED, "How?"))
        assert given == []


def test_mistakes_are_raised_from_calls_without_harm_to_the_guard() -> None:
    with ECSO(ScriptedEngine(BENIGN)) as guard:
        with pytest.raises(ImageError):
            guard("no/such/image.png", "What?")
        with pytest.raises(UserError):
            guard(RED, "")
        with pytest.raises(UserError):
            guard(Chat.ask("What?"), "What?")
        with pytest.raises(UserError, match="draft is a text"):
            guard(RED, "What?", draft=5)  # type: ignore[arg-type]
        with pytest.raises(UserError, match="half a character"):
            guard(RED, "What?", draft="half \ud800")
        with pytest.raises(UserError, match="not str"):
            guard(RED, "What?", method="direct")  # type: ignore[arg-type]
        with pytest.raises(UserError, match="Unknown defence"):
            guard.using(defence="")
        with pytest.raises(UserError, match="Unknown policy"):
            guard.using(policy=["paper"])  # type: ignore[arg-type]
        assert guard(RED, "What?").answer == "A cat."


def test_a_closed_guard_says_so_and_closing_twice_is_fine() -> None:
    engine = ScriptedEngine(BENIGN)
    guard = ECSO(engine)
    guard.close()
    guard.close()
    for call in (
        lambda: guard(RED, "What?"),
        lambda: guard.map([(RED, "What?")], progress=False),
        lambda: asyncio.run(guard.ask(RED, "What?")),
    ):
        with pytest.raises(UserError, match="closed"):
            call()
    assert engine.seen == []


def test_a_forgotten_guard_closes_the_engine_that_it_opened_and_ends_its_thread() -> None:
    guard = ECSO("scripted:A cat.|No")
    engine = guard.engine
    assert guard(RED, "What?").answer == "A cat."
    del guard
    gc.collect()
    assert portals() == []
    with pytest.raises(EngineClosed):
        asyncio.run(generate(engine, Call("answer", Chat.ask("What?"))))


def test_a_guard_never_closes_an_engine_that_it_was_given() -> None:
    engine = ScriptedEngine(BENIGN)
    guard = ECSO(engine)
    guard = ECSO(engine, policy="guard")  # the first one is garbage now: the commonest move in a notebook
    gc.collect()
    assert guard(None, "What?").answer == "A cat."
    guard.close()
    with ECSO(engine) as other:
        assert other(None, "What?").answer == "A cat."
    assert asyncio.run(generate(engine, Call("answer", Chat.ask("What?")))).text == "A cat."


def test_two_guards_share_one_engine_at_the_same_time() -> None:
    engine = ScriptedEngine(BENIGN, delay=0.001)
    with ECSO(engine) as one, ECSO(engine, policy="guard") as other:

        async def both() -> list[Trace]:
            return await asyncio.gather(*(guard.ask(RED, "What?") for guard in (one, other) * 5))

        assert [trace.answer for trace in asyncio.run(both())] == ["A cat."] * 10


def in_flight(engine: ScriptedEngine) -> None:
    while not engine.seen:
        time.sleep(0.001)


def test_an_awaited_answer_whose_guard_is_closed_meanwhile_says_so() -> None:
    engine = ScriptedEngine(BENIGN, delay=3600)
    guard = ECSO(engine)

    async def start_and_close() -> None:
        waiting = asyncio.ensure_future(guard.ask(RED, "What?"))
        await asyncio.sleep(0)
        await asyncio.to_thread(in_flight, engine)
        guard.close()
        with pytest.raises(EngineClosed, match="closed during the call"):
            await waiting

    asyncio.run(start_and_close())


def test_a_call_on_another_thread_whose_guard_is_closed_meanwhile_says_so() -> None:
    engine = ScriptedEngine(BENIGN, delay=3600)
    guard = ECSO(engine)
    with ThreadPoolExecutor() as pool:
        call = pool.submit(guard, RED, "What?")
        rows = pool.submit(guard.map, [(RED, "What?")], progress=False)
        in_flight(engine)
        while len(engine.seen) < 2:
            time.sleep(0.001)
        guard.close()
        with pytest.raises(EngineClosed, match="closed during the call"):
            call.result(60)
        assert isinstance(rows.result(60)[0].error, EngineClosed)


def test_a_guard_called_inside_its_own_call_says_so_instead_of_waiting_for_itself() -> None:
    def model(call: Call) -> str:
        return guard(None, "And this?").answer or ""

    with ECSO(ScriptedEngine(model)) as guard, pytest.raises(UserError, match="inside one of its own calls"):
        guard(None, "What?")


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a waiting main thread there")
def test_an_interrupt_is_raised_only_when_the_call_has_really_ended() -> None:
    class Tidy(ScriptedEngine):
        tidied = False

        async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
            try:
                await asyncio.sleep(0.2)  # until the main thread waits
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.sleep(3600)
                yield Delta()
            finally:
                await asyncio.sleep(0.1)
                self.tidied = True

    engine = Tidy([])
    with ECSO(engine) as guard:
        with pytest.raises(KeyboardInterrupt):
            guard(None, "What?")
        assert engine.tidied
        engine.tidied = False
        with pytest.raises(Interrupted):
            guard.map([(None, "What?")], progress=False)
        assert engine.tidied


def test_a_guard_in_a_program_that_just_ends_leaves_no_warning_and_no_hang() -> None:
    code = 'from llava.ecso import ECSO\nguard = ECSO("scripted:A cat.|No")\nprint(guard(None, "Hello?").answer)'
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "A cat.\n", "")


def test_a_reply_that_the_engine_cancelled_is_no_answer() -> None:
    with ECSO(ScriptedEngine(lines(answer=Reply("half an", finish_reason="cancelled")))) as guard, pytest.raises(EngineError):
        guard(RED, "How?")
