"""A run's folder in, `Metrics` out; and metrics.json written and read. Asks no model and no judge anything."""

from __future__ import annotations

import json
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from llava.errors import UserError
from llava.eval.metrics.attribution import attribution, outcomes
from llava.eval.metrics.compare import comparisons
from llava.eval.metrics.cost import costs
from llava.eval.metrics.judged import judge_of
from llava.eval.metrics.material import MethodRun, Series, TaskRun, load
from llava.eval.metrics.published import beside
from llava.eval.metrics.result import FORMAT, Attribution, Comparison, Metrics, Outcome, Sweep, TaskMetrics
from llava.eval.metrics.scoring import BY_RULE, judge_for, measured, measured_by, series_of
from llava.eval.metrics.sweep import Probe, probes, sweep
from llava.eval.records import line, lines_of, write_whole

FILE = "metrics.json"
OUTCOMES = "outcomes.jsonl"
T = TypeVar("T")


def measure(folder: Path, coverage: float = 0.95, tasks: Sequence[TaskRun] | None = None) -> Metrics:
    """Everything about the run in `folder`; scores that fewer than `coverage` (0 to 1) of their samples decide are refused. `tasks` are
    those of `folder`, where they are loaded already.

    Raises `UserError` where there is no run, a file of it is damaged, or scipy is not installed.
    """
    if not 0.0 < coverage <= 1.0:
        raise UserError(f"The coverage that a score needs is a share above 0 and at most 1, not {coverage:g}.")
    tasks = load(folder) if tasks is None else tasks
    found: list[TaskMetrics] = []
    told: list[Outcome] = []
    for task in tasks:
        done, some = _task(task, coverage)
        found.append(done)
        told += some
    return Metrics(
        run=folder.name,
        model=tasks[0].header["model"],
        tasks=tuple(found),
        sweeps=tuple(_pooled(tasks)),
        coverage_needed=coverage,
        versions=tasks[0].header["versions"],
        outcomes=tuple(told),
    )


def _task(task: TaskRun, coverage: float) -> tuple[TaskMetrics, list[Outcome]]:
    runs = list(task.methods.values())
    series = series_of(task, runs)
    methods = tuple(measured(task, run, series, coverage) for run in runs)
    told: list[Outcome] = []
    stages: list[Attribution] = []
    for run in runs:
        for one in series or [BY_RULE]:
            judge = judge_for(task, one)
            some = outcomes(task, run, one, judge)
            told += [outcome for _, outcome in some]
            stages += attribution(task, run.method, some, judge)
    done = TaskMetrics(
        task=task.name,
        title=task.task.about.title,
        scored_by=task.task.scored_by,
        samples=task.samples,
        methods=methods,
        comparisons=tuple(_comparisons(task, series, coverage)),
        attribution=tuple(stages),
        sweeps=tuple(_sweeps([task], [run.method for run in runs], series)),
        costs=tuple(one for run in runs for one in costs(run, task.methods.get("direct"))),
        published=beside(task, methods),
    )
    return done, told


def _comparisons(task: TaskRun, series: Iterable[Series], coverage: float) -> list[Comparison]:
    """Every other method beside the direct answers."""
    direct = task.methods.get("direct")
    if direct is None:
        return []
    found = []
    for one in series:
        judge, before = measured_by(task, direct, one, coverage)
        for run in task.methods.values():
            if run is not direct:
                found += comparisons("direct", run.method, before, measured_by(task, run, one, coverage)[1], judge, coverage)
    return found


def _sweep(tasks: Iterable[TaskRun], method: str, series: Series) -> Sweep | None:
    some: list[Probe] = []
    threshold = None
    for task in tasks:
        run = task.methods.get(method)
        if run is not None and _checks(run):
            some += probes(task, run, series if series in series_of(task, [run]) else None)
            threshold = run.policy.get("threshold")
    return sweep(method, some, judge_of(series), threshold) if some else None


def _sweeps(tasks: Sequence[TaskRun], methods: Iterable[str], series: Iterable[Series]) -> list[Sweep]:
    judges = list(series)
    found = [_sweep(tasks, method, one) for method in methods for one in judges]
    return [one for one in found if one is not None]


def _checks(run: MethodRun) -> bool:
    return any(item.flagged is not None for item in run.items)


def _pooled(tasks: Sequence[TaskRun]) -> list[Sweep]:
    """One over all tasks for every method that checks, by every judge of harmful answers."""
    methods = dict.fromkeys(name for task in tasks for name, run in task.methods.items() if _checks(run))
    known = [series for task in tasks if task.task.scored_by == "harmless" for series in series_of(task, task.methods.values())]
    return _sweeps(tasks, methods, dict.fromkeys(known))


def write(metrics: Metrics, folder: Path) -> tuple[Path, ...]:
    """Write metrics.json and outcomes.jsonl into `folder`; returns the two. Raises `StorageError`."""
    data = encoded(metrics)
    for name, content in data.items():
        write_whole(folder / name, content)
    return tuple(folder / name for name in data)


def encoded(metrics: Metrics) -> dict[str, bytes]:
    """The two files by their names."""
    data = json.dumps(to_json(metrics), ensure_ascii=False, allow_nan=False, indent=1).encode("utf-8", "backslashreplace")
    return {FILE: data + b"\n", OUTCOMES: b"".join(line(asdict(one)) for one in metrics.outcomes)}


def to_json(metrics: Metrics) -> dict[str, Any]:
    """As it stands in metrics.json: without the outcomes."""
    found = asdict(replace(metrics, outcomes=()))
    del found["outcomes"]
    return found


def from_json(data: Mapping[str, Any]) -> Metrics:
    """The inverse of `to_json`; raises `UserError` for data of another shape."""
    try:
        if data["format"] != FORMAT:
            raise ValueError
        return _made(Metrics, data)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(f"This is no metrics.json of format {FORMAT}: make it anew from the run.") from None


def read(folder: Path) -> Metrics:
    """The metrics that stand in `folder`, with their outcomes where these are there; raises `UserError`."""
    path = folder / FILE
    try:
        metrics = from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
    rows = folder / OUTCOMES
    return replace(metrics, outcomes=tuple(_made(Outcome, row) for _, row in lines_of(rows)) if rows.exists() else ())


def _made(kind: type[T], data: Mapping[str, Any]) -> T:
    hints = get_type_hints(kind)
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: _value(hints[name], value) for name, value in data.items() if name in known})


def _value(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(one for one in get_args(hint) if one is not type(None))
    if get_origin(hint) is tuple:
        return tuple(_value(get_args(hint)[0], one) for one in value)
    return _made(hint, value) if isinstance(hint, type) and is_dataclass(hint) else value
