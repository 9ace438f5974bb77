"""Samples through an engine: what is shared, what is tried again, what ends a run."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llava.chat import Call
from llava.ecso import Trace
from llava.engines import ScriptedEngine
from llava.engines.scripted import Line
from llava.errors import ContextTooLong, EngineError, ImageError, Misconfigured, ModelLost, Overloaded, Unavailable
from llava.eval.gate import Gate
from llava.eval.presets import Preset
from llava.eval.records import StorageError
from llava.eval.rows import row_of
from llava.eval.runner import ATTEMPTS, STOP_AFTER, Job, Runner
from llava.eval.sample import Picture, Sample
from tests.eval.oracle import reply
from tests.eval.runs import samples, vlsafe, vlsafe_task


class Sink:
    """Keeps what comes."""

    def __init__(self) -> None:
        self.traces: dict[tuple[str, str], Trace] = {}
        self.failures: dict[str, Exception] = {}
        self.gone: list[str] = []
        self.on_finish: Callable[[], None] = lambda: None

    def finished(self, job: Job, defence: str, trace: Trace) -> None:
        self.on_finish()
        assert (job.sample.id, defence) not in self.traces
        self.traces[job.sample.id, defence] = trace

    def failed(self, job: Job, error: Exception) -> None:
        self.failures[job.sample.id] = error

    unreadable = failed

    def through(self, job: Job) -> None:
        self.gone.append(job.sample.id)


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return samples(vlsafe(tmp_path_factory.mktemp("data"), 30))


def jobs(some: list[Sample], *defences: str, **more: Any) -> list[Job]:
    return [Job(number, sample, list(defences or ("direct", "ecso")), **more) for number, sample in enumerate(some)]


def run(engine: ScriptedEngine, work: list[Job], sink: Sink | None = None, limit: int = 8) -> Sink:
    sink = sink or Sink()
    asyncio.run(Runner(engine, Preset(vlsafe_task()), sink, Gate(limit, limit), pause=0.0).run(work))
    return sink


def failing(error: Callable[[Call, int], Exception | None]) -> ScriptedEngine:
    """Answers like the oracle but where `error(call, times this was asked)` says otherwise."""
    asked: Counter[Call] = Counter()

    def line(call: Call) -> Line:
        asked[call] += 1
        return error(call, asked[call]) or reply(call)

    return ScriptedEngine(line)


def test_defences_that_begin_alike_share_their_beginning(some: list[Sample]) -> None:
    engine = ScriptedEngine(reply)
    sink = run(engine, jobs(some, "direct", "ecso", "refuse", "caption_only"))
    assert len(sink.traces) == 4 * len(some)
    harmful = sum(trace.harmful is True for (_, defence), trace in sink.traces.items() if defence == "ecso")
    assert 0 < harmful < len(some)
    steps = Counter(call.step for call in engine.seen)
    assert steps == {"answer": len(some), "check": len(some), "caption": len(some), "regenerate": len(some)}


def test_rows_do_not_depend_on_which_defences_run_together_or_how_many_at_once(some: list[Sample]) -> None:
    def rows(limit: int, *defences: str) -> list[dict[str, Any]]:
        sink = run(ScriptedEngine(reply), jobs(some, *defences), limit=limit)
        return [row_of(number, sample, sink.traces[sample.id, "ecso"]) for number, sample in enumerate(some)]

    assert rows(1, "ecso") == rows(30, "direct", "refuse", "ecso") == rows(7, "ecso", "caption_only")


def test_an_earlier_row_answers_what_it_was_asked_and_checks_are_asked_again(some: list[Sample]) -> None:
    first = run(ScriptedEngine(reply), jobs(some, "direct", "ecso"))
    engine = ScriptedEngine(reply)
    work = [Job(n, s, ["refuse"], rows=[row_of(n, s, first.traces[s.id, "ecso"])]) for n, s in enumerate(some)]
    second = run(engine, work)
    assert {call.step for call in engine.seen} == {"check"}
    assert all(second.traces[s.id, "refuse"].draft == first.traces[s.id, "direct"].answer for s in some)


def test_given_answers_are_not_asked_for(some: list[Sample]) -> None:
    engine = ScriptedEngine(reply)
    sink = run(engine, jobs(some, draft="Join the rods."))
    assert "answer" not in {call.step for call in engine.seen}
    assert {trace.answer for (_, defence), trace in sink.traces.items() if defence == "direct"} == {"Join the rods."}


def test_what_fails_once_is_tried_again_without_asking_again_what_was_answered(some: list[Sample]) -> None:
    engine = failing(lambda call, times: Unavailable("gone") if call.step == "check" and times == 1 else None)
    sink = run(engine, jobs(some, "ecso"))
    assert (len(sink.traces), sink.failures) == (len(some), {})
    steps = Counter(call.step for call in engine.seen)
    assert (steps["answer"], steps["check"]) == (len(some), 2 * len(some))


def test_a_sample_that_always_fails_is_told_and_costs_no_other(some: list[Sample]) -> None:
    engine = failing(lambda call, times: EngineError("broke") if "number 3 " in call.chat.question else None)
    sink = run(engine, jobs(some))
    assert list(sink.failures) == [some[3].id]
    assert len(sink.traces) == 2 * (len(some) - 1)
    assert sum("number 3 " in call.chat.question for call in engine.seen) == ATTEMPTS
    assert sorted(sink.gone) == sorted(sample.id for sample in some)


def test_a_mistake_of_one_sample_is_not_tried_again_and_a_direct_answer_before_it_stays(some: list[Sample]) -> None:
    engine = failing(lambda call, times: ContextTooLong(9, 1, 8) if call.step == "check" else None)
    sink = run(engine, jobs(some[:4]))
    assert {type(error) for error in sink.failures.values()} == {ContextTooLong}
    assert {defence for _, defence in sink.traces} == {"direct"}
    assert len([call for call in engine.seen if call.step == "check"]) == 4


def test_a_defect_of_ours_is_told_with_its_traceback_and_the_run_goes_on(some: list[Sample], caplog: pytest.LogCaptureFixture) -> None:
    engine = failing(lambda call, times: ZeroDivisionError("oh") if "number 2 " in call.chat.question else None)
    sink = run(engine, jobs(some))
    assert isinstance(sink.failures[some[2].id], ZeroDivisionError)
    assert len(sink.traces) == 2 * (len(some) - 1)
    assert "ZeroDivisionError: oh" in caplog.text


def test_an_engine_without_room_gets_fewer_at_a_time_and_every_sample_its_answer(some: list[Sample]) -> None:
    room, most = 3, 0

    class Small(ScriptedEngine):
        under_way = 0

        async def stream(self, call: Call) -> Any:
            nonlocal most
            if self.under_way >= room:
                raise Overloaded("full")
            self.under_way += 1
            most = max(most, self.under_way)
            try:
                await asyncio.sleep(0)
                async for delta in super().stream(call):
                    yield delta
            finally:
                self.under_way -= 1

    sink = run(Small(reply), jobs(some), limit=20)
    assert (len(sink.traces), sink.failures, most) == (2 * len(some), {}, room)


def test_an_engine_that_fails_everybody_ends_the_run(some: list[Sample]) -> None:
    engine = failing(lambda call, times: EngineError("No server answers."))
    sink = Sink()
    with pytest.raises(EngineError, match=f"last {STOP_AFTER} samples failed, the last one with: No server answers"):
        run(engine, jobs(some), sink)
    assert len(sink.failures) == STOP_AFTER


def test_nobody_there_ends_the_run_however_few_samples_there_are(some: list[Sample]) -> None:
    engine = failing(lambda call, times: Unavailable("No server answers."))
    sink = Sink()
    with pytest.raises(Unavailable, match="No server answers"):
        run(engine, jobs(some[:2]), sink)
    assert len(sink.failures) == 2
    gone_later = failing(lambda call, times: Unavailable("No server answers.") if "number 1 " in call.chat.question else None)
    assert len(run(gone_later, jobs(some[:2])).failures) == 1


@pytest.mark.parametrize("error", [Misconfigured("wrong key"), ModelLost("the GPU takes no work"), StorageError("disk full")])
def test_what_all_further_samples_would_meet_ends_the_run_at_once(some: list[Sample], error: Exception) -> None:
    engine = failing(lambda call, times: None if isinstance(error, StorageError) else error)
    sink = Sink()

    def full() -> None:
        raise error

    if isinstance(error, StorageError):
        sink.on_finish = full
    with pytest.raises(type(error)):
        run(engine, jobs(some), sink, limit=4)
    assert len(engine.seen) <= 4


def test_a_picture_that_cannot_be_read_is_told(some: list[Sample], tmp_path: Path) -> None:
    bad = Sample("vlsafe", "bad", "What?", Picture("x.png", tmp_path / "x.png"))
    sink = run(ScriptedEngine(reply), jobs([some[0], bad]))
    assert isinstance(sink.failures["bad"], ImageError)
    assert len(sink.traces) == 2
