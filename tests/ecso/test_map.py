"""Many rows: order, bounds, failures that stay where they happened, and Ctrl-C that loses nothing."""

import asyncio
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest

from llava.chat import Call, Chat, Delta, Reply
from llava.ecso import ECSO, Interrupted, Stopped, Trace, Unfinished
from llava.engines import ScriptedEngine
from llava.errors import EngineError, ImageError, LlavaError, Overloaded, UserError
from tests.ecso.factories import BENIGN, PICTURES

ROOT = Path(__file__).resolve().parents[2]
RED = PICTURES[0]


def echo(call: Call) -> str:
    return call.chat.question if call.step == "answer" else "No"


class Slow:
    """Answers rows in reverse order of arrival where it can, and counts what is in flight."""

    name = "slow"
    running = most = finished = 0

    async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
        self.running += 1
        self.most = max(self.most, self.running)
        for _ in range(200 - int(call.chat.question) if call.step == "answer" else 1):
            await asyncio.sleep(0)
        self.running -= 1
        self.finished += 1
        yield Delta(reply=Reply(echo(call)))

    async def close(self) -> None: ...


def test_results_keep_the_rows_order_and_calls_stay_within_the_bound() -> None:
    engine = Slow()
    with ECSO(engine) as guard:
        results = guard.map([(None, str(n)) for n in range(40)], concurrency=5, progress=False)
    assert [result.answer for result in results] == [str(n) for n in range(40)]
    assert engine.most == 5


def test_without_a_bound_of_ones_own_the_engine_says_how_many_rows_it_likes() -> None:
    class Wide(Slow):
        concurrency = 11

    for engine, most in ((Slow(), 8), (Wide(), 11)):
        with ECSO(engine) as guard:
            guard.map([(None, str(n)) for n in range(40)], progress=False)
        assert engine.most == most


def test_rows_may_come_from_a_generator_and_are_taken_one_by_one() -> None:
    taken = []

    def rows() -> Iterator[tuple[None, str]]:
        for number in range(20):
            taken.append(number)
            yield None, str(number)

    ahead = []

    def watch(call: Call) -> str:
        ahead.append(len(taken) - int(call.chat.question) if call.step == "answer" else 0)
        return echo(call)

    with ECSO(ScriptedEngine(watch)) as guard:
        assert len(guard.map(rows(), concurrency=3, progress=False)) == 20
    assert max(ahead) <= 3


def test_a_failing_row_keeps_its_error_and_the_others_their_answers() -> None:
    def model(call: Call) -> str | Exception:
        return {"2": EngineError("fell over"), "3": RuntimeError("a defect")}.get(call.chat.question) or echo(call)

    rows: list[object] = [(None, str(n)) for n in range(5)] + [("no/such.png", "What?"), 17]
    with ECSO(ScriptedEngine(model)) as guard:
        results = guard.map(rows, progress=False)  # type: ignore[arg-type]
    assert [result.answer for result in results] == ["0", "1", None, None, "4", None, None]
    assert [type(result.error) for result in results] == [type(None)] * 2 + [EngineError, RuntimeError, type(None), ImageError, UserError]
    assert results[2].outcome is None
    assert results[2].steps == ()
    assert "fell over" in str(results[2])
    assert "failed" in results[6]._repr_html_()
    assert str(Trace.from_dict(results[2].to_dict())) == str(results[2])


def test_rows_may_come_from_a_generator_that_calls_the_guard_itself() -> None:
    with ECSO(ScriptedEngine(echo)) as guard:
        results = guard.map(((None, f"{guard(None, str(n)).answer}!") for n in range(5)), concurrency=2, progress=False)
    assert [result.answer for result in results] == [f"{n}!" for n in range(5)]


def test_rows_are_drawn_on_the_calling_thread_while_calls_go_on() -> None:
    engine = Slow()
    threads = set()

    def rows() -> Iterator[tuple[None, str]]:
        for number in range(3):
            threads.add(threading.current_thread())
            yield None, str(number)
            while engine.finished <= 2 * number:  # waits for this row's answer and check: they go on meanwhile
                time.sleep(0.001)

    with ECSO(engine) as guard:
        assert len(guard.map(rows(), concurrency=3, progress=False)) == 3
    assert threads == {threading.current_thread()}


@pytest.mark.parametrize("concurrency", [1, 4])
def test_an_iterable_that_fails_loses_no_finished_row(concurrency: int) -> None:
    def rows() -> Iterator[tuple[None, str]]:
        yield from ((None, str(number)) for number in range(20))
        time.sleep(0.1)
        raise OSError("the disk is gone")

    with ECSO(ScriptedEngine(echo)) as guard, pytest.raises(Stopped, match=r"the disk is gone.*20 finished rows are kept") as caught:
        guard.map(rows(), concurrency=concurrency, progress=False)
    assert isinstance(caught.value.__cause__, OSError)
    assert [(number, trace.answer) for number, trace in caught.value.done.items()] == [(n, str(n)) for n in range(20)]


class Gated(ScriptedEngine):
    """Answers a row only when it is let through; row "x" fails."""

    def __init__(self, *order: str) -> None:
        super().__init__(echo)
        self.order = list(order)
        self.cancelled: list[str] = []

    async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
        question = call.chat.question
        try:
            while call.step == "answer" and question not in self.order[:1]:  # noqa: ASYNC110 (the order is a list)
                await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            self.cancelled.append(question)
            raise
        if question == "x":
            raise EngineError("fell over")
        try:
            async for delta in super().stream(call):
                yield delta
        finally:
            if call.step != "answer":
                self.order.pop(0)


def test_the_first_error_can_stop_the_rest_and_what_finished_is_kept_in_the_rows_order() -> None:
    engine = Gated("2", "0", "x")
    rows = [(None, question) for question in ("0", "1", "2", "x", "4", "5")]
    with ECSO(engine) as guard:
        with pytest.raises(Stopped, match=r"EngineError: fell over.*2 finished rows") as caught:
            guard.map(rows, concurrency=6, on_error="raise", progress=False)
        assert sorted(engine.cancelled) == ["1", "4", "5"]  # when the error is raised, nothing runs any more
        calls = len(engine.seen)
        assert guard(None, "x" * 3, draft="a draft").answer == "a draft"
        assert len(engine.seen) == calls + 1
    assert list(caught.value.done) == [0, 2]
    assert [trace.answer for trace in caught.value.done.values()] == ["0", "2"]
    assert isinstance(caught.value.__cause__, EngineError)


def test_a_row_that_is_none_can_stop_the_rest_too() -> None:
    with ECSO(ScriptedEngine(echo)) as guard, pytest.raises(Stopped, match="question is empty") as caught:
        guard.map([(None, "a"), (None, ""), (None, "b")], on_error="raise", concurrency=1, progress=False)
    assert isinstance(caught.value.__cause__, UserError)
    assert [trace.answer for trace in caught.value.done.values()] == ["a"]


class Narrow(Slow):
    """Has room for three calls."""

    refused = 0

    async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
        if self.running >= 3:
            self.refused += 1
            raise Overloaded("no room")
        async for delta in super().stream(call):
            yield delta


def test_an_engine_with_less_room_gets_fewer_rows_at_a_time() -> None:
    engine = Narrow()
    with ECSO(engine) as guard:
        results = guard.map([(None, str(n)) for n in range(60)], concurrency=20, progress=False)
    assert [result.answer for result in results] == [str(n) for n in range(60)]
    assert 0 < engine.refused <= 17  # each refusal makes the map narrower


def test_an_overload_that_is_not_the_maps_own_is_an_error_of_its_row() -> None:
    with ECSO(ScriptedEngine({"answer": Overloaded("no room")})) as guard:
        results = guard.map([(None, str(n)) for n in range(5)], concurrency=3, progress=False)
    assert [type(result.error) for result in results] == [Overloaded] * 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": "text"},
        {"rows": 5},
        {"rows": {"image": None, "question": "one row, not a list of them"}},
        {"rows": [], "concurrency": 0},
        {"rows": [], "concurrency": "8"},
        {"rows": [], "concurrency": True},
        {"rows": [], "on_error": "ignore"},
        {"rows": [], "method": "direct"},
    ],
)
def test_arguments_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with ECSO(ScriptedEngine(BENIGN)) as guard, pytest.raises(UserError):
        guard.map(**{"progress": False, **wrong})  # type: ignore[arg-type]


def test_no_rows_give_no_results() -> None:
    with ECSO(ScriptedEngine(BENIGN)) as guard:
        assert guard.map([], progress=False) == []


def test_the_progress_bar_counts_rows_harm_and_failures(capsys: pytest.CaptureFixture[str]) -> None:
    def model(call: Call) -> str:
        return {"answer": "x", "check": "Yes" if "bomb" in call.chat.question else "No"}.get(call.step, "y")

    rows: list[Chat | tuple[None, str]] = [Chat.ask("A bomb?"), (None, "A cat?"), (None, "")]
    with ECSO(ScriptedEngine(model)) as guard:
        guard.map(rows)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.search(r"3/3 .*harmful=1, failed=1", shown.err)


INTERRUPTED = """
import sys
from llava.ecso import ECSO, Interrupted
from llava.engines import ScriptedEngine
from llava.chat import Reply

def model(call):
    if call.step == "answer" and call.chat.question == "10":
        print("ready", flush=True)
    return call.chat.question if call.step == "answer" else "No"

class Stuck(ScriptedEngine):
    async def stream(self, call):
        import asyncio
        async for delta in super().stream(call):
            if int(call.chat.question.split()[0] if call.step == "answer" else 0) >= 10:
                await asyncio.sleep(3600)
            yield delta

with ECSO(Stuck(model)) as guard:
    try:
        guard.map([(None, str(n)) for n in range(100)], concurrency=1, progress=False)
    except Interrupted as stop:
        print(str(stop))
        print(sorted(stop.done), [trace.answer for trace in stop.done.values()])
        sys.exit(130)
"""


def test_ctrl_c_keeps_the_finished_rows() -> None:
    with subprocess.Popen([sys.executable, "-W", "error", "-c", INTERRUPTED], stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        os.kill(child.pid, signal.SIGINT)
        out, _ = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "Interrupted; 10 finished rows are kept" in out
    assert f"{list(range(10))} {[str(n) for n in range(10)]}" in out


@pytest.mark.parametrize("kind", [Interrupted, Stopped])
def test_what_ends_a_map_carries_its_rows_to_another_process_too(kind: type[Unfinished]) -> None:
    with ECSO(ScriptedEngine(BENIGN)) as guard:
        unfinished = kind("Ended", {3: guard(RED, "What?")})
    back = pickle.loads(pickle.dumps(unfinished))  # noqa: S301 - our own
    assert (type(back), str(back), back.done) == (kind, str(unfinished), unfinished.done)


def test_an_interrupt_is_a_keyboard_interrupt_that_carries_the_rows() -> None:
    assert issubclass(Interrupted, KeyboardInterrupt)
    assert issubclass(Interrupted, Unfinished)
    assert issubclass(Stopped, Unfinished)
    assert issubclass(Stopped, LlavaError)
