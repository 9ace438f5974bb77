"""What of a task is recorded already and what is still to be asked: the folder of a run, opened to be gone on with.

    OUT/TASK/METHOD/records.jsonl    header and rows (records.py)
    OUT/TASK/METHOD/measured.jsonl   seconds and probabilities of the same samples, for each time that they were asked
    OUT/TASK/METHOD/failures.jsonl   samples without a row after the last run, and why; they are tried again by the next one
    OUT/TASK/quarantine.jsonl        rows of the benchmark that are no samples, or were mended

Knows no engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from llava.ecso import Trace
from llava.errors import ImageError, UserError
from llava.eval.originals import WRITTEN, drafts, write_originals
from llava.eval.plan import Plan
from llava.eval.presets import Preset
from llava.eval.progress import Progress
from llava.eval.provenance import Model
from llava.eval.records import Appender, Book, check_same, line, lines_of, read, scanned, tell
from llava.eval.rows import measured_of, row_of
from llava.eval.runner import Job
from llava.eval.sample import BadRow, OnBad, Sample, Task, strict

Json = dict[str, Any]


@dataclass(slots=True)
class Shelf:
    """One method's files of one task, open for more. `elsewhere`: ids that other files of the same run hold already."""

    folder: Path
    header: Json
    book: Book = field(init=False)
    measured: Appender = field(init=False)
    elsewhere: frozenset[str] = frozenset()
    failures: dict[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.book = Book(self.folder / "records.jsonl", self.header)
        self.measured = Appender(self.folder / "measured.jsonl")

    def has(self, sample: Sample) -> bool:
        """Whether the sample's row is recorded."""
        return sample.id in self.book.rows or sample.id in self.elsewhere

    def check(self, given: Mapping[str, str]) -> None:
        """Raise `UserError` where a recorded row was made from another first answer than the one that is given now."""
        for name in self.book.rows.keys() & given.keys():
            if self.book.row(name)["given"] != given[name]:
                raise UserError(f"{self.book.path} has a row {name!r} that was made from another answer: give another --out.")

    def finish(self, told: bool) -> None:
        """Close all, rows in order, and tell what failed unless others `told` it."""
        self.measured.close()
        self.book.finish()
        if not told:
            tell(self.folder / "failures.jsonl", map(line, self.failures.values()))

    def close(self) -> None:
        """Close all as it is."""
        self.measured.close()
        self.book.close()


@dataclass(slots=True)
class Course:
    """One task on its way: its samples, its shelves by method, and the sink that the runner pours into."""

    plan: Plan
    task: Task
    preset: Preset
    samples: list[tuple[int, Sample]]
    shelves: dict[str, Shelf]
    given: dict[str, str]  # first answers from elsewhere, by id
    bad_rows: list[BadRow]
    on_bad: OnBad
    total: int  # samples of the whole run, all shards together
    progress: Progress | None = None

    @classmethod
    def opened(cls, plan: Plan, task: Task, model: Model) -> Course:
        """Read the samples, and open what an earlier run left; raises `UserError` where that had another configuration, or there is no
        sample."""
        bad_rows: list[BadRow] = []
        on_bad = _both(bad_rows.append, strict) if plan.strict else bad_rows.append
        samples = list(task.samples(plan.data, on_bad))
        if not samples:
            raise UserError(_nothing(task, plan.data, bad_rows))
        given = drafts(plan.drafts, task, samples, model.name, on_bad) if plan.drafts else {}
        preset = plan.preset_of(task, model)
        header = plan.header(task, model, samples)
        folder = plan.folder / task.name
        with ExitStack() as opened:
            shelves = {}
            for name in plan.methods:
                full = {"method": preset.described(name), **header}
                shelves[name] = Shelf(folder / name, full)
                opened.callback(shelves[name].close)
                shelves[name].elsewhere = _elsewhere(plan, task, name)
                shelves[name].check(given)
            opened.pop_all()
        return cls(plan, task, preset, plan.chosen(samples), shelves, given, bad_rows, on_bad, len(samples[: plan.limit]))

    @property
    def lacking(self) -> int:
        """How many samples lack a row of some method."""
        return sum(not all(shelf.has(sample) for shelf in self.shelves.values()) for _, sample in self.samples)

    def jobs(self) -> Iterator[Job]:
        """The samples that lack something, each with its lacking methods, and what earlier runs know of it.

        Those of one group come together, wherever they stand: they share a picture, which an engine keeps for a while.
        """
        groups = {sample.group: place for place, (_, sample) in reversed(list(enumerate(self.samples)))}
        for number, sample in sorted(self.samples, key=lambda numbered: groups[numbered[1].group]):
            lacking = [name for name, shelf in self.shelves.items() if not shelf.has(sample)]
            if lacking:
                rows = [shelf.book.row(sample.id) for shelf in self.shelves.values() if sample.id in shelf.book.rows]
                yield Job(number, sample, lacking, self.given.get(sample.id), rows)

    def startable(self) -> Iterator[Job]:
        """The same; where answers were to be given, a sample without one fails here."""
        for job in self.jobs():
            if self.plan.drafts is not None and job.draft is None:
                self.failed(job, UserError(f"{self.plan.drafts} has no answer to it."))
                self.through(job)
            else:
                yield job

    def finished(self, job: Job, defence: str, trace: Trace) -> None:
        """Record a trace: what varies first, so that every row has its measurements."""
        shelf = self.shelves[defence]
        shelf.measured.append(measured_of(job.sample, trace))
        shelf.book.append(row_of(job.number, job.sample, trace))
        if self.progress:
            self.progress.verdict(trace.harmful)

    def failed(self, job: Job, error: Exception) -> None:
        """Note why the rest of a sample's methods is missing."""
        for name in job.defences:
            told = {"id": job.sample.id, "number": job.number, "source": job.sample.source}
            self.shelves[name].failures[job.sample.id] = told | {"kind": type(error).__name__, "error": str(error)}
        if self.progress:
            self.progress.failure()

    def unreadable(self, job: Job, error: ImageError) -> None:
        """Set a sample aside whose picture cannot be read; raises `BadData` under --strict."""
        file, _, number = job.sample.source.rpartition(":")
        row = BadRow(Path(file or job.sample.source), int(number) if file and number.isdigit() else 0, str(error), f"id {job.sample.id}")
        self.failed(job, error)
        self.on_bad(row)

    def through(self, job: Job) -> None:
        """Count a sample."""
        if self.progress:
            self.progress.step()

    def finish(self, told: bool = False) -> None:
        """Close all files, in order, and write what failed and what was set aside; `told`: those who asked wrote it already."""
        self.bad_rows.sort(key=lambda row: (str(row.file), row.line))  # samples end in any order
        for shelf in self.shelves.values():
            shelf.finish(told)
        if not told:
            tell(self.plan.folder / self.task.name / "quarantine.jsonl", (line(_told(row)) for row in self.bad_rows))

    def close(self) -> None:
        """Close all files as they are."""
        for shelf in self.shelves.values():
            shelf.close()


def check_model(plan: Plan, model: Model) -> None:
    """Raise `UserError` where the run, its shards included, holds records of another model: what it compares are methods.

    Other options may differ between methods, which are then told apart by whoever reads their headers (metrics/headers.py).
    """
    wanted = {"model": model.described()}
    for pattern in ("*/*/records.jsonl", "shards/*/*/*/records.jsonl"):
        for path in sorted(plan.out.glob(pattern)):
            for _, header in islice(lines_of(path), 1):  # none while its first line is torn
                check_same(path, {"model": header.get("model")}, wanted)


def export(plan: Plan, course: Course, model: Model) -> list[Path]:
    """Write the rows of a finished, unsharded course as the original's files, where it has such; returns them."""
    if plan.originals is None:
        return []
    written = []
    for name, shelf in course.shelves.items():
        if name in WRITTEN:
            rows = {row["id"]: row for row in read(shelf.folder / "records.jsonl")[1]}
            samples = [sample for _, sample in course.samples]
            written += write_originals(plan.originals, course.task, samples, rows, model.name, ecso=name == "ecso")
    return written


def _told(row: BadRow) -> Json:
    return {"file": str(row.file), "line": row.line, "reason": row.reason, "mended": row.mended, "excerpt": row.excerpt}


def _nothing(task: Task, data: Path, bad_rows: Sequence[BadRow]) -> str:
    lost = [row for row in bad_rows if not row.mended]
    more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
    said = f"{str(lost[0]).rstrip('.')}{more}" if lost else f"{next(iter(task.files(data)), data)} has no row"
    return f"{task.name} has no sample that can be asked: {said}. `llava data check {task.name}` tells all."


def _both(first: OnBad, second: OnBad) -> OnBad:
    return lambda row: (first(row), second(row))


def _elsewhere(plan: Plan, task: Task, name: str) -> frozenset[str]:
    """Ids that the run recorded before it was sharded."""
    whole = plan.out / task.name / name / "records.jsonl"
    if plan.shard is None or not whole.exists():
        return frozenset()
    return frozenset(scanned(whole)[1])
