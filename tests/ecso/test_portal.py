"""Threads and endings of a guard: what is closed, what is not, and what a call says whose guard ends under it."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llava.chat import Call, Chat, Delta
from llava.ecso import ECSO, Interrupted, Trace
from llava.engines import ScriptedEngine, generate
from llava.errors import EngineClosed, UserError
from tests.ecso.factories import BENIGN, PICTURES, portals

ROOT = Path(__file__).resolve().parents[2]
RED = PICTURES[0]

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


def test_giving_up_an_awaited_answer_cancels_its_call() -> None:
    given_up = threading.Event()

    class Patient(ScriptedEngine):
        async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
            try:
                await asyncio.sleep(3600)
                yield Delta()
            finally:
                given_up.set()

    async def give_up(guard: ECSO) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(guard.ask(RED, "What?"), 0.05)

    with ECSO(Patient([])) as guard:
        asyncio.run(give_up(guard))
        assert given_up.wait(60)


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


@pytest.mark.parametrize("way", ["call", "map", "stream"])
def test_a_guard_waited_for_inside_its_own_call_says_so_instead_of_waiting_for_itself(way: str) -> None:
    def model(call: Call) -> str:
        if way == "call":
            return guard(None, "And this?").answer or ""
        return str(guard.map([(None, "And this?")], progress=False) if way == "map" else list(guard.stream(None, "And this?")))

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


FORKED = """
import os, sys
from llava.ecso import ECSO
from llava.errors import UserError
guard = ECSO("scripted:A cat.|No|A dog.|No")
print(guard(None, "What?").answer, flush=True)
if os.fork() == 0:
    for call in (lambda: guard(None, "What?"), lambda: guard.map([(None, "What?")], progress=False)):
        try:
            call()
        except UserError as error:
            print(error, flush=True)
    guard.close()
    with ECSO("scripted:A bird.|No") as new:
        print(new(None, "What?").answer, flush=True)
    sys.exit()
print(os.waitstatus_to_exitcode(os.wait()[1]), guard(None, "What?").answer)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork there")
def test_in_a_forked_process_a_guard_says_so_instead_of_waiting_for_ever_and_stays_good_in_its_own() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    told = "This guard was made in another process, of which this one is a fork: make a new one here."
    assert (done.stdout.splitlines(), done.stderr) == (["A cat.", told, told, "A bird.", "0 A dog."], "")


def test_a_guard_in_a_program_that_just_ends_leaves_no_warning_and_no_hang() -> None:
    untimed = 'import logging\nlogging.getLogger("asyncio").setLevel("ERROR")\n'  # in this mode it also tells what took more than 0.1 s
    code = untimed + 'from llava.ecso import ECSO\nguard = ECSO("scripted:A cat.|No")\nprint(guard(None, "Hello?").answer)'
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "A cat.\n", "")
