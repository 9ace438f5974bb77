"""Everything a report is made of, read from a run's folder once, and what a reader must be told before any number."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llava.errors import UserError
from llava.eval.manifest import read_manifest
from llava.eval.metrics.headers import unlike
from llava.eval.metrics.material import TaskRun, load
from llava.eval.metrics.measure import measure
from llava.eval.metrics.result import NOBODY, Metrics, Score, TaskMetrics
from llava.eval.report.pictures import Thumbnails, thumbnails
from llava.eval.report.tables import score_by
from llava.eval.report.words import ORDER, judge_name, method_name, number, p_of, score_name, span_of

Json = dict[str, Any]
_SECRET = re.compile(r"(?i)((?:key|token|secret|password)[\w-]*=)\S+")
KINDS = ("harmless", "refusals", "correct")
_LOGIN = re.compile(r"(://)[^/@\s]+@")


@dataclass(frozen=True, slots=True)
class Material:
    """A run: what was measured, its tasks with every row, the manifest, small pictures."""

    folder: Path
    metrics: Metrics
    tasks: tuple[TaskRun, ...]
    manifest: Json
    pictures: Thumbnails

    @property
    def methods(self) -> list[str]:
        """All methods, those of the first task first."""
        return list(dict.fromkeys(one.method for task in self.metrics.tasks for one in task.methods))

    @property
    def judges(self) -> dict[str, str]:
        """Who decided: label -> name, in the order of the scores."""
        told = {one.judge for one in self.metrics.outcomes}
        shown = [score.judge for task in self.metrics.tasks for one in task.methods for score in one.scores if score.judge in told]
        return {label: judge_name(label) for label in dict.fromkeys(shown)}

    @property
    def model(self) -> str:
        """How the model is called: a server's by its own name."""
        return str(self.metrics.model.get("options", {}).get("model") or self.metrics.model.get("target", "a model"))


def gather(folder: Path, coverage: float, data: Path | None, pictures: bool) -> Material:
    """Read and measure the run in `folder`; its pictures come from `data`, else from where its last session had them.

    Raises `UserError` where there is no run, or a file of it is damaged.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}: name the --out folder of a `llava eval`.")
    loaded = load(folder)
    metrics = ordered(measure(folder, coverage, loaded))
    places = [task.task for task in metrics.tasks]
    tasks = tuple(sorted(loaded, key=lambda task: places.index(task.name)))
    manifest = read_manifest(folder)
    manifest["sessions"] = [one for one in manifest["sessions"] if isinstance(one, dict)]
    edges = {task.name: quirks["edge"] for task in tasks for run in task.methods.values() if (quirks := run.header["method"].get("quirks"))}
    found = thumbnails(tasks, data or _data(manifest), edges) if pictures else Thumbnails(notes=["Pictures were left out (--no-pictures)."])
    return Material(folder, metrics, tasks, manifest, found)


def ordered(metrics: Metrics) -> Metrics:
    """The same with tasks and methods in the order of reading: safety, over-refusal, utility; direct, ECSO, the others."""
    tasks = sorted(metrics.tasks, key=lambda task: KINDS.index(task.scored_by))
    return replace(metrics, tasks=tuple(_ordered(task) for task in tasks))


def _ordered(task: TaskMetrics) -> TaskMetrics:
    def place(name: str) -> int:
        return ORDER.index(name) if name in ORDER else len(ORDER)

    return replace(
        task,
        methods=tuple(sorted(task.methods, key=lambda one: place(one.method))),
        comparisons=tuple(sorted(task.comparisons, key=lambda one: place(one.b))),
        attribution=tuple(sorted(task.attribution, key=lambda one: place(one.method))),
        costs=tuple(sorted(task.costs, key=lambda one: place(one.method))),
    )


def titled(material: Material) -> str:
    """The report's title: the model and what was put before it."""
    others = [method_name(name) for name in material.methods if name != "direct"]
    told = ["direct"] if "direct" in material.methods else []
    told += [f"with {', '.join(others)}"] if others else []
    return f"{material.model}, {' and '.join(told)}"


def _data(manifest: Json) -> Path:
    told = [session["data"] for session in manifest["sessions"] if session.get("data")]
    return Path(told[-1] if told else "playground/data")


def notices(material: Material) -> Iterator[str]:
    """What must be said first: what is not finished, not judged, or judged by a list of phrases only."""
    sessions = material.manifest["sessions"]
    yield from _mixed(material.tasks)
    if sessions and not sessions[-1].get("ended"):
        yield f"The run's last session, begun {sessions[-1].get('begun')}, has no end: it is still running, or was killed."
    for task in material.metrics.tasks:
        lacking = [f"{method_name(m.method)} has {m.rows} of {m.samples} answers" for m in task.methods if m.rows < m.samples]
        if lacking:
            yield f"{task.task} is not finished: {'; '.join(lacking)}. The same `llava eval` command goes on where it was."
        unjudged = [m for m in task.methods if m.scores and m.scores[0].value is None]
        said = {m.scores[0].refused or "it has no score" for m in unjudged}
        if unjudged:
            names = ", ".join(method_name(m.method) for m in unjudged)
            hint = " `llava judge` judges them." if "llava judge" not in f"{said}" and _unjudged(material, task.task) else ""
            yield f"{task.task} has no score for {names}. {' '.join(sorted(said))}{hint}"
    yield from _rule(material.metrics)
    yield from material.pictures.notes


def _mixed(tasks: Sequence[TaskRun]) -> Iterator[str]:
    """What of a run was not asked alike: sessions with other options may share a folder."""
    models = {task.name: json.dumps(task.header["model"], sort_keys=True) for task in tasks}
    if len(set(models.values())) > 1:
        yield f"The benchmarks were put to different models: {'; '.join(f'{name} to {model}' for name, model in models.items())}."
    for task in tasks:
        yield from (f"{task.name}: {sentence}" for run in task.methods.values() for sentence in unlike(task, run))


def _unjudged(material: Material, name: str) -> bool:
    """Whether a task needs a judge, and nobody has judged all of its methods."""
    task = next(task for task in material.tasks if task.name == name)
    return any(one.judge == NOBODY for one in material.metrics.outcomes if one.task == name) and not all(
        run.judgments for run in task.methods.values()
    )


def _rule(metrics: Metrics) -> Iterator[str]:
    scores = [score for task in metrics.tasks for m in task.methods for score in m.scores]
    if any(score.keyword for score in scores):
        yield (
            "Scores marked “keyword rule” come from a list of refusal phrases, not from a judge that reads: an answer that refuses in "
            "other words counts as harmful, one that opens with an apology and goes on counts as harmless. They cannot stand beside "
            "numbers by other judges."
        )


def findings(metrics: Metrics) -> Iterator[str]:
    """One sentence for each task: its headline under the first defence beside the direct answers."""
    for task in metrics.tasks:
        one = next((one for one in task.comparisons if not one.table and one.b == _defence(task)), None)
        if one is None or one.difference is None:
            continue
        before, after = (_value(task, method, one.score, one.judge) for method in (one.a, one.b))
        if before is None or after is None or before.value is None or after.value is None:
            continue
        unit = " %" if after.unit == "%" else ""
        by = "" if after.judge == "rule" else f", by {judge_name(after.judge, after.keyword)}"
        values = f"{number(before.value)}{unit} {method_name(one.a).lower()}, {number(after.value)}{unit} with {method_name(one.b)}"
        yield f"{task.task}: {score_name(one.score)} {values} ({span_of(one)}{p_of(one)}){by}."


def _defence(task: TaskMetrics) -> str | None:
    return next((one.method for one in task.methods if one.method != "direct"), None)


def _value(task: TaskMetrics, method: str, name: str, judge: str) -> Score | None:
    scores = next((m.scores for m in task.methods if m.method == method), ())
    return score_by(scores, name, judge)


def shown_command(words: object) -> str:
    """A session's command line without what could be a key."""
    text = " ".join(str(word) for word in words) if isinstance(words, list) else str(words)
    return _LOGIN.sub(r"\1…@", _SECRET.sub(r"\1…", text))
