"""`llava bench eval`: samples a second of `--methods direct,ecso`, beside the way of the original's scripts.

It makes a random LLaVA checkpoint of a realistic shape and questions in two benchmarks' formats, and puts them to the model in one
process and in turn, for several rounds,
(a) in the scripts' way: a pass for the direct answers and a pass for ECSO over them, each reading every picture again, one sample after
another, a `generate` of transformers for each call, and
(b) with the runner of `llava eval`: files read, records written, as in a real run.
Both work with the same loaded weights; loading them is in neither time. What (a) said is compared with (b)'s, call by call, and with
the answers in (b)'s records.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from llava.bench import eval_data, report
from llava.bench.eval_ways import Bench, equal, in_the_scripts_way, with_the_runner
from llava.bench.flows import PATHS
from llava.bench.machine import describe, now, said
from llava.bench.options import check_least, check_names
from llava.bench.random_model import RandomModel, Say
from llava.bench.report import Column
from llava.bench.setup import CHECK_TOKENS, Hits, opened
from llava.bench.watched import Watched
from llava.ecso import PAPER
from llava.engines.base import concurrency
from llava.eval.plan import Plan as Evaluation
from llava.eval.provenance import model_of
from llava.eval.records import read
from llava.eval.resume import Course
from llava.eval.session import LOCAL_OPTIONS
from llava.eval.tasks import task


@dataclass(frozen=True, slots=True)
class Workload:
    """`questions` about each picture, in `task`'s format; `verdict` is what the checks are made to say. `short`: letters as answers."""

    task: str
    questions: int
    verdict: str
    short: bool
    write: Callable[[Path, int, int], None]


WORKLOADS = {
    "safe": Workload("vlsafe", 1, "no", False, eval_data.vlsafe),
    "harmful": Workload("vlsafe", 1, "yes", False, eval_data.vlsafe),
    "choice": Workload("mmbench", 4, "no", True, eval_data.mmbench),
}


@dataclass(frozen=True, slots=True)
class Plan(RandomModel):
    """What to run. `tokens`: of answers and captions; `short`: of answers to multiple choice. Raises `UserError`."""

    workloads: tuple[str, ...] = tuple(WORKLOADS)
    rounds: int = 3
    samples: int = 64
    tokens: int = 64
    short: int = 2
    concurrency: int | None = None
    seed: int = 1

    def __post_init__(self) -> None:
        RandomModel.__post_init__(self)
        check_names(self, workloads=WORKLOADS)
        check_least(self, rounds=1, samples=1, tokens=1, short=1, concurrency=1)

    def quick(self) -> Plan:
        """Less than a minute of it on two cores: a smoke test with figures, not a measurement."""
        return replace(self, rounds=1, samples=8, tokens=16)


@dataclass(frozen=True, slots=True)
class Rate:
    """One workload: samples a second in the scripts' way (`plain`) and with the runner (`runner`), both methods done; `ratio` of the two.

    `equal`: samples of which every call and both recorded answers are what the plain way said. `hits` and `misses` of the prefix cache.
    """

    workload: str
    path: str
    questions: int
    tokens: int
    rows: int
    equal: int
    hits: int
    misses: int
    plain: float
    runner: float
    ratio: float


@dataclass(slots=True)
class Result:
    """Everything that was measured, with where and when."""

    plan: Plan
    machine: dict[str, object]
    began: str = field(default_factory=now)
    rounds: list[list[Rate]] = field(default_factory=list)

    def medians(self) -> list[Rate]:
        """The figures of all rounds together."""
        return report.over_rounds(self.rounds)


def run(plan: Plan, say: Say) -> Result:
    """Run `plan`; `say` is told what is going on."""
    with plan.made(say) as (loaded, folder):
        model = model_of(str(folder), None, {})
        result = Result(plan, describe(loaded.device, loaded.dtype))
        for number in range(plan.rounds):
            result.rounds.append([])
            for name in plan.workloads:
                rate = _measured(plan, Bench(loaded, model, folder.parent / f"{number}-{name}"), name, plan.seed + 1000 * number)
                result.rounds[-1].append(rate)
                say(f"round {number + 1} of {plan.rounds}: {', '.join(f'{c.heading} {c.shown(rate)}' for c in COLUMNS)}")
    return result


def _measured(plan: Plan, bench: Bench, name: str, seed: int) -> Rate:
    workload = WORKLOADS[name]
    workload.write(bench.folder / "data", plan.samples, seed)
    tokens = plan.short if workload.short else plan.tokens
    evaluation = Evaluation(
        target=bench.model.target,
        tasks=(task(workload.task),),
        data=bench.folder / "data",
        out=bench.folder / "run",
        policy=replace(PAPER, caption_tokens=plan.tokens, check_tokens=CHECK_TOKENS, check_tokens_most=CHECK_TOKENS),
        max_tokens=tokens,
    )
    with closing(Course.opened(evaluation, evaluation.tasks[0], bench.model)) as course:
        plain = in_the_scripts_way(bench, course, workload.verdict.capitalize())
        with opened(bench.loaded, **LOCAL_OPTIONS) as engine:
            before, watched = Hits.of(engine), Watched(engine, workload.verdict.capitalize())
            seconds = with_the_runner(watched, course, plan.concurrency or concurrency(engine))
            cache = Hits.of(engine) - before
    answers = {(method, row["id"]): row["answer"] for method, shelf in course.shelves.items() for row in read(shelf.book.path)[1]}
    count = len(course.samples)
    return Rate(
        workload=name,
        path=PATHS[workload.verdict],
        questions=workload.questions,
        tokens=tokens,
        rows=count,
        equal=sum(equal(plain, watched, answers, sample.id) for _, sample in course.samples),
        hits=cache.hits,
        misses=cache.misses,
        plain=count / plain.seconds,
        runner=count / seconds,
        ratio=plain.seconds / seconds,
    )


COLUMNS = (
    Column("questions per picture", lambda r: str(r.questions)),
    Column("path", lambda r: r.path),
    Column("tokens of an answer", lambda r: str(r.tokens)),
    Column("scripts' way, samples/s", lambda r: f"{r.plain:.2f}"),
    Column("llava eval, samples/s", lambda r: f"{r.runner:.2f}"),
    Column("x", lambda r: f"{r.ratio:.2f}"),
    Column("cache hits", lambda r: f"{r.hits} of {r.hits + r.misses}"),
    Column("same answers", lambda r: f"{r.equal} of {r.rows} samples"),
)


def markdown(result: Result) -> str:
    """The figures as text that can be pasted into docs/results.md."""
    plan = result.plan
    head = (
        f"`llava bench eval`, {result.began[:10]}: {said(result.machine)}. Shape {plan.shape}, {plan.samples} samples a workload, "
        f"`--methods direct,ecso`, greedy, {plan.rounds} rounds in turn, medians. Random weights never say yes: checks are computed and "
        'their text replaced by "No" (safe path) or "Yes" (harmful path).'
    )
    return f"{head}\n\n{report.table(result.medians(), COLUMNS)}"
