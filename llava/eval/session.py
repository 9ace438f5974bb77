"""One session of a run: open what is there, ask what is missing, close everything in order, and say what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llava.engines import Engine, connect
from llava.engines.base import concurrency
from llava.errors import EngineError
from llava.eval.gate import FIRST, Gate
from llava.eval.lock import locked
from llava.eval.manifest import begun, ended, write_manifest
from llava.eval.merge import merge_into
from llava.eval.plan import Plan
from llava.eval.progress import Progress
from llava.eval.provenance import Model, file_hash, model_of
from llava.eval.records import lines_of, read
from llava.eval.resume import Course, check_model, export
from llava.eval.runner import Runner
from llava.eval.sample import BadRow

SERVER_CONCURRENCY = 256
LOCAL_OPTIONS = {"prefill_chunk": 1024}  # whole prompts at a time: nobody watches these answers stream, and more of them decode together


@dataclass(frozen=True, slots=True)
class Result:
    """What there is of one method of a task: rows, how many of them were checked and harmful, and what is missing."""

    task: str
    method: str
    path: Path
    rows: int
    checked: int
    harmful: int
    expected: int
    failures: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """A session's end: results by task and method, the rows of benchmarks that were set aside, what else there is to know of their files,
    the original's files that were written."""

    results: tuple[Result, ...]
    set_aside: tuple[BadRow, ...]
    noted: tuple[BadRow, ...]
    written: tuple[Path, ...]

    @property
    def whole(self) -> bool:
        """Whether every row of every benchmark was answered."""
        return not self.set_aside and all(result.rows == result.expected for result in self.results)


def evaluate(plan: Plan, *, shown: bool | None = None, ask: bool = True) -> Summary:
    """Run `plan` from where an earlier session left it; with `ask` False nothing is asked, only put in order.

    Raises `UserError` for what cannot be done, `EngineError` when the model is gone, `StorageError` when the disk does not take it; what
    was recorded until then stays, and the next session goes on from there.
    """
    with locked(plan.folder), ExitStack() as open_courses:
        model = model_of(plan.target, plan.model_name, plan.options)
        check_model(plan, model)
        if plan.shard is None:
            merge_into(plan.out)
        courses = []
        for task in plan.tasks:
            courses.append(Course.opened(plan, task, model))
            open_courses.callback(courses[-1].close)
        described = {"model": model.target, "options": _printable(plan.options), "data": str(plan.data), "ray": plan.ray}
        manifest = begun(plan.folder, described)
        trouble = None
        if ask and any(course.lacking for course in courses):
            try:
                engine = _connected(plan, model)  # before a loop runs: Ctrl-C ends the loading of a model at once
                told = manifest["sessions"][-1]
                told["computing"] = getattr(engine, "computing", None)
                write_manifest(plan.folder, manifest)
                asyncio.run(_ask_all(plan, model, engine, courses, shown, told))
            except EngineError as error:  # what was answered before is put in order all the same
                trouble = error
        summary = _finished(plan, model, courses, told=not ask)
        ended(plan.folder, manifest, _counted(courses, summary.results))
    if trouble is not None:
        raise trouble
    return summary


def _finished(plan: Plan, model: Model, courses: Sequence[Course], told: bool) -> Summary:
    """Close all files in order; `told`: what failed was told already, by others."""
    results: list[Result] = []
    written: list[Path] = []
    for course in courses:
        course.finish(told)
        results += _results(course)
        written += export(plan, course, model) if plan.shard is None else []
    rows = [row for course in courses for row in course.bad_rows]
    set_aside, noted = (tuple(row for row in rows if row.mended is mended) for mended in (False, True))
    return Summary(tuple(results), set_aside, noted, tuple(written))


async def _ask_all(
    plan: Plan, model: Model, here: Engine | None, courses: Sequence[Course], shown: bool | None, told: dict[str, Any]
) -> None:
    engine = here or _spread(plan, model)
    try:
        for course in courses:
            if not course.lacking:
                continue
            course.progress = Progress(course.task.name, len(course.samples), shown)
            try:
                course.progress.begin_at(len(course.samples) - course.lacking)
                await Runner(engine, course.preset, course, _gate(plan, model, engine)).run(course.startable())
            finally:
                course.progress.close()
    finally:
        told["computing"] = getattr(engine, "computing", None)  # of a cluster not known before
        await engine.close()


def _connected(plan: Plan, model: Model) -> Engine | None:
    return connect(plan.target, **_options(plan, model)) if plan.ray is None else None


def _spread(plan: Plan, model: Model) -> Engine:
    from llava.eval.spread import Spread  # Ray is an extra; its workers report to the loop that runs

    return Spread(str(plan.ray), plan.target, _options(plan, model), model.sha256)


def _options(plan: Plan, model: Model) -> dict[str, Any]:
    return LOCAL_OPTIONS | plan.options if model.local else plan.options


def _gate(plan: Plan, model: Model, engine: Engine) -> Gate:
    if model.local:
        most = plan.concurrency or concurrency(engine)
        return Gate(most, most)
    return Gate(FIRST, plan.concurrency or SERVER_CONCURRENCY)


def _printable(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "api_key"}


def _results(course: Course) -> list[Result]:
    ids = {sample.id for _, sample in course.samples}
    results = []
    for name, shelf in course.shelves.items():
        rows = [row for row in read(shelf.book.path)[1] if row["id"] in ids]
        elsewhere = len(ids & shelf.elsewhere)
        verdicts = [row["harmful"] for row in rows if row["harmful"] is not None]
        told = shelf.folder / "failures.jsonl"
        failures = tuple(value for _, value in lines_of(told)) if told.exists() else ()
        path, harmful = shelf.book.path, sum(verdicts)
        results.append(Result(course.task.name, name, path, len(rows) + elsewhere, len(verdicts), harmful, len(ids), failures))
    return results


def _counted(courses: Sequence[Course], results: Sequence[Result]) -> dict[str, Any]:
    counted: dict[str, Any] = {}
    for course in courses:
        methods = {
            r.method: {"rows": r.rows, "checked": r.checked, "harmful": r.harmful, "failed": len(r.failures), "sha256": file_hash(r.path)}
            for r in results
            if r.task == course.task.name
        }
        set_aside = sum(not row.mended for row in course.bad_rows)
        counted[course.task.name] = {"samples": course.total, "set_aside": set_aside, "methods": methods}
    return counted
