"""What a run recorded, read once and put side by side: samples, answers, measurements, judgments. Computes no score.

A sample that one method lacks is known from the others' rows, so that what is missing is missing in its own category.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llava.errors import UserError
from llava.eval.judge.judgment import FILE as JUDGMENTS
from llava.eval.judge.judgment import Judgment, is_query, read_judgments, text_hash
from llava.eval.judge.modes import scenario_mode
from llava.eval.judge.panel import with_panel
from llava.eval.judge.work import answers
from llava.eval.manifest import read_manifest
from llava.eval.records import lines_of
from llava.eval.rows import draft_of, said_in
from llava.eval.sample import Task
from llava.eval.tasks import task as task_named

Json = dict[str, Any]
Series = tuple[str, str]  # judge, family of modes


@dataclass(frozen=True, slots=True)
class Item:
    """One sample under one method. `answer` is None where there is no row (`absent` says why); `row` is the record."""

    id: str
    number: int
    group: str
    category: str
    mode: str
    meta: Mapping[str, Any]
    answer: str | None
    row: Json | None = None
    absent: str = ""

    @property
    def flagged(self) -> bool | None:
        """What the check said of the first answer; None where nothing was checked."""
        return self.row["harmful"] if self.row else None

    def text(self, part: str) -> str | None:
        """The answer, the first answer ("draft") or the caption; None where there is none."""
        if self.row is None or part == "answer":
            return self.answer
        if part == "draft":
            return draft_of(self.row)
        return said_in(self.row, part)

    def is_about(self, one: Judgment) -> bool:
        """Whether a judgment is of this sample's text as it is now."""
        text = self.text(one.part)
        return text is not None and one.text_sha256 in ("", text_hash(text))


@dataclass(frozen=True, slots=True)
class MethodRun:
    """One method on one task: an item for each sample that is known, `unknown` more that nobody has a row of. `header` is that of its
    records."""

    method: str
    items: tuple[Item, ...]
    unknown: int
    measured: Mapping[str, Json]
    header: Mapping[str, Any]
    judgments: tuple[Judgment, ...] = ()

    @property
    def policy(self) -> Mapping[str, Any]:
        """How it sampled, checked and released."""
        policy: Mapping[str, Any] = self.header["method"]["policy"]
        return policy

    @property
    def given(self) -> bool:
        """Whether first answers came from elsewhere."""
        return bool(self.header.get("drafts")) or any(row["given"] is not None for row in self.rows)

    @property
    def rows(self) -> tuple[Json, ...]:
        """The records that are there."""
        return tuple(item.row for item in self.items if item.row is not None)

    def unofficial(self) -> Iterator[tuple[Item, Judgment]]:
        """What was judged with one of MM-SafetyBench's prompts, and not with its scenario's own."""
        items = {item.id: item for item in self.items}
        for one in self.judgments:
            item = items.get(one.id)
            if item is not None and is_query(one.mode) and scenario_mode(item.category) not in (None, one.mode):
                yield item, one

    def said(self, series: Series, part: str) -> dict[str, list[Judgment]]:
        """What a judge said of that part, by sample, in the order of its runs; of a text that changed since, nothing."""
        items = {item.id: item for item in self.items}
        found: dict[str, list[Judgment]] = {}
        for one in self.judgments:
            if one.series == series and one.part == part and one.id in items and items[one.id].is_about(one):
                found.setdefault(one.id, []).append(one)
        return found


@dataclass(frozen=True, slots=True)
class TaskRun:
    """One task of a run. `samples`: how many there should be; `whole`: whether that is all of the benchmark's files."""

    name: str
    task: Task
    samples: int
    whole: bool
    set_aside: int
    methods: Mapping[str, MethodRun]

    @property
    def header(self) -> Mapping[str, Any]:
        """That of the first method's records."""
        return next(iter(self.methods.values())).header


def load(folder: Path) -> tuple[TaskRun, ...]:
    """All tasks of the run in `folder`, in the order of their names; raises `UserError` where it is none, or damaged."""
    found = sorted(folder.glob("*/*/records.jsonl"))
    if not found:
        shards = " Its shards are not joined yet: `llava eval merge`." if (folder / "shards").is_dir() else ""
        raise UserError(f"{folder} is no run: there is no TASK/METHOD/records.jsonl in it.{shards}")
    manifest = read_manifest(folder)["tasks"]
    names = dict.fromkeys(path.parent.parent.name for path in found)
    paths = {name: [path for path in found if path.parent.parent.name == name] for name in names}
    return tuple(_task(name, some, manifest.get(name, {})) for name, some in paths.items())


def _task(name: str, paths: list[Path], told: Mapping[str, Any]) -> TaskRun:
    recorded = {path.parent.name: answers(path) for path in sorted(paths, key=lambda path: (path.parent.name != "direct", path))}
    failures = {path.parent.name: _failures(path.parent / "failures.jsonl") for path in paths}
    header = next(iter(recorded.values()))[0]
    known: dict[str, Json] = {}
    for _, rows in recorded.values():
        known |= {row["id"]: row for row in rows if row["id"] not in known}
    numbers = {row["id"]: row["number"] for row in known.values()}
    for lost in failures.values():
        numbers |= {key: value["number"] for key, value in lost.items() if key not in numbers}
    samples = max(int(told.get("samples", 0)), len(numbers))
    methods = {}
    for path in paths:
        method = path.parent.name
        ours = {row["id"]: row for row in recorded[method][1]}
        items = tuple(_item(key, number, ours.get(key), known.get(key), failures[method]) for key, number in numbers.items())
        methods[method] = MethodRun(
            method=method,
            items=tuple(sorted(items, key=lambda item: item.number)),
            unknown=samples - len(items),
            measured={value["id"]: value for value in _lines(path.parent / "measured.jsonl", seconds=_amount, p_harmful=_amount)},
            header=recorded[method][0],
            judgments=_judgments(path.parent / JUDGMENTS, items),
        )
    return TaskRun(
        name=name,
        task=task_named(header["task"]["name"], **header["task"]["options"]),
        samples=samples,
        whole=samples >= header["task"]["samples"],
        set_aside=int(told.get("set_aside", 0)),
        methods={method: methods[method] for method in recorded},
    )


def _item(key: str, number: int, row: Json | None, other: Json | None, failures: Mapping[str, Json]) -> Item:
    about = row or other or {}
    return Item(
        id=key,
        number=number,
        group=about.get("group", key),
        category=about.get("category", ""),
        mode=about.get("mode", ""),
        meta=about.get("meta", {}),
        answer=row["answer"] if row else None,
        row=row,
        absent="" if row else failures[key]["error"] if key in failures else "not asked yet",
    )


def _judgments(path: Path, items: Iterable[Item]) -> tuple[Judgment, ...]:
    """What judges said, panels included. A text that changed since has no say in a panel."""
    if not path.exists():
        return ()
    known = {item.id: item for item in items}
    rows = _by_scenario(read_judgments(path), known)
    old = [one for one in rows if one.id not in known or not known[one.id].is_about(one)]
    gone = {id(one) for one in old}
    return (*with_panel(one for one in rows if id(one) not in gone), *old)


def _by_scenario(rows: Sequence[Judgment], known: Mapping[str, Item]) -> list[Judgment]:
    """Where a text was judged with several of MM-SafetyBench's prompts: only what its scenario's own says."""

    def official(one: Judgment) -> bool:
        return one.id in known and scenario_mode(known[one.id].category) == one.mode

    told = {(one.id, one.part, one.judge, one.prompts, one.run) for one in rows if official(one)}
    return [
        one for one in rows if official(one) or not is_query(one.mode) or (one.id, one.part, one.judge, one.prompts, one.run) not in told
    ]


def _failures(path: Path) -> dict[str, Json]:
    return {
        value["id"]: value for value in _lines(path, number=lambda value: type(value) is int, error=lambda value: isinstance(value, str))
    }


def _lines(path: Path, **sound: Callable[[object], bool]) -> list[Json]:
    """The lines of a file, each with an id and the fields that are `sound`; none where there is no file. Raises `UserError`."""
    values = [value for _, value in lines_of(path)] if path.exists() else []
    for place, value in enumerate(values, 1):
        if not isinstance(value.get("id"), str) or not all(check(value.get(name)) for name, check in sound.items()):
            raise UserError(f"{path}, line {place} is none that `llava eval` writes: remove that line.")
    return values


def _amount(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and 0 <= value < 1e9)
