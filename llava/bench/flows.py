"""ECSO's paths on the engine and in the plain way: rows a second, tokens a second, and what a guarded answer costs in answers.

Every row of the engine is compared with the plain way's, call by call.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from llava.bench import pictures
from llava.bench.floor import floor_of_calls
from llava.bench.machine import PeakMemory
from llava.bench.plain import Plain, Said, same
from llava.bench.setup import Hits, Setup, opened, use, warmed
from llava.bench.watched import Watched
from llava.chat import Call, Chat
from llava.ecso import ECSO, Trace

PATHS = {"no": "safe", "yes": "harmful", "model": "the model's own"}  # forced verdict -> the path that it leads to
Row = list[tuple[Call, Said]]


@dataclass(frozen=True, slots=True)
class Workload:
    """`verdict`: what the checks are made to say, a key of `PATHS`. `questions` are asked about each image."""

    verdict: str
    questions: int

    @property
    def forced(self) -> str | None:
        """The text of every check; None leaves the model's."""
        return None if self.verdict == "model" else self.verdict.capitalize()

    @property
    def path(self) -> str:
        return PATHS[self.verdict]


@dataclass(frozen=True, slots=True)
class Flow:
    """One workload done in one `way` ("plain" or "engine"), `in_flight` rows at a time.

    `answers`: seconds a row, in plain direct answers. `ratio`: rows a second over the plain way's. `first`: seconds from asking to the
    first text of step 1. `floor`: rows a second that the machine could do at best, `reached` the part of it, `bound` what sets it;
    `reached_in_turn`: the part of what it could do where a core reads prompts and speaks in turn (see `floor`).
    `equal`: rows of which every call said what it said in the plain way.
    """

    way: str
    path: str
    questions: int
    in_flight: int
    rows: int
    equal: int
    hits: int
    misses: int
    rows_per_second: float
    tokens_per_second: float
    first: float
    answers: float
    ratio: float
    peak_mib: float
    floor: float
    reached: float
    reached_in_turn: float
    bound: str


@dataclass(frozen=True, slots=True)
class Run:
    """What running one workload gave: the rows' calls, the seconds of all, memory, cache."""

    rows: list[Row]
    seconds: float
    peak_mib: float
    cache: Hits


def flows(setup: Setup, verdicts: Sequence[str], levels: Sequence[int], seed: int) -> Iterator[Flow]:
    """One round: each workload in the plain way and then on engines of its own, in use; each seed has pictures of its own.

    With several questions about each image only the most rows in flight are run.
    """
    plain = warmed(setup.loaded)
    others = pictures.chats(max(setup.used, max(levels)), 1, seed + pictures.ELSEWHERE)
    for questions, in_flight in ((1, levels), (4, levels[-1:])):
        for verdict in verdicts:
            workload = Workload(verdict, questions)
            chats = pictures.chats(setup.samples, questions, seed)
            base = _run_plain(setup, plain, workload, chats)
            yield _flow(setup, workload, base, base, 0)
            for level in in_flight:
                yield _flow(setup, workload, _run_engine(setup, workload, chats, others, level), base, level)


def _run_plain(setup: Setup, plain: Plain, workload: Workload, chats: Sequence[Chat]) -> Run:
    with PeakMemory(setup.device) as memory:
        rows = [plain.flow(setup.method, chat, workload.forced) for chat in chats]
    return Run(rows, sum(said.seconds for row in rows for _, said in row), memory.mib, Hits(0, 0))


def _run_engine(setup: Setup, workload: Workload, chats: Sequence[Chat], others: Sequence[Chat], level: int) -> Run:
    """On an engine that has read of `others` what its cache holds, or all, and answered some."""
    with opened(setup.loaded) as engine, ECSO(watched := Watched(engine, workload.forced), policy=setup.policy) as guard:
        use(engine, others[level:], level)
        guard.map(others[:level], concurrency=level, progress=False, on_error="raise")
        before = Hits.of(engine)
        with PeakMemory(setup.device) as memory:
            begin = time.perf_counter()
            traces = guard.map(chats, concurrency=level, progress=False, on_error="raise")
            seconds = time.perf_counter() - begin
        return Run([_row(trace, watched) for trace in traces], seconds, memory.mib, Hits.of(engine) - before)


def _row(trace: Trace, watched: Watched) -> Row:
    return [(step.call, watched.said[step.call]) for step in trace.steps]


def _flow(setup: Setup, workload: Workload, run: Run, base: Run, level: int) -> Flow:
    """The figures of `run` beside those of the plain way, `base`; level 0 is the plain way itself."""
    calls = [pair for row in run.rows for pair in row]
    count, known = len(run.rows), dict(pair for row in base.rows for pair in row)
    direct = median(said.seconds for call, said in known.items() if call.step == "answer")
    best = floor_of_calls(setup.size, calls, max(1, min(level, count)), setup.rates)
    return Flow(
        way="engine" if level else "plain",
        path=workload.path,
        questions=workload.questions,
        in_flight=max(1, level),
        rows=count,
        equal=sum(all(same(call, known.get(call), said) for call, said in row) for row in run.rows),
        hits=run.cache.hits,
        misses=run.cache.misses,
        rows_per_second=count / run.seconds,
        tokens_per_second=sum(said.completion_tokens for _, said in calls) / run.seconds,
        first=median(said.first for call, said in calls if call.step == "answer"),
        answers=run.seconds / count / direct,
        ratio=base.seconds / run.seconds,
        peak_mib=run.peak_mib,
        floor=count / best.seconds,
        reached=best.seconds / run.seconds,
        reached_in_turn=best.in_turn / run.seconds,
        bound=best.bound,
    )
