"""Two methods of one run, or two runs, side by side and sample by sample: `llava compare`.

    llava compare runs/first --a direct --b ecso         # what the defence changed
    llava compare runs/first runs/second                 # the same method in two runs: --a and --b name it (default: ecso)
    llava compare runs/first --by scenario --changed 20  # in each category, and the first samples whose verdict changed

Compared are the samples that both have decided. Exit codes: 0 done, 2 a mistake in the input.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llava.cli import program
from llava.errors import UserError, unknown
from llava.eval.metrics.attribution import outcomes
from llava.eval.metrics.compare import between, paired
from llava.eval.metrics.headers import differences
from llava.eval.metrics.judged import judge_of, origins
from llava.eval.metrics.material import MethodRun, TaskRun
from llava.eval.metrics.result import Comparison, Outcome
from llava.eval.metrics.scoring import BY_RULE, judge_for, series_of
from llava.eval.report.tables import Table, comparisons
from llava.eval.report.words import judge_name, method_name

Json = dict[str, Any]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("runs", type=Path, nargs="+", metavar="RUN", help="one run, or two")
    add("--a", metavar="METHOD", help="of the first run (default: direct; with two runs ecso)")
    add("--b", metavar="METHOD", help="of the last run (default: ecso)")
    add("--by", metavar="TABLE", help="also in each category: scenario, mode, subtask, ...")
    add("--changed", type=int, default=0, metavar="N", help="list the first N samples of each task whose verdict is another")
    add("--coverage", type=float, default=0.95, metavar="SHARE", help="as for llava report (default: 0.95)")
    add("--json", action="store_true", help="print JSON instead of tables")


def run(options: argparse.Namespace) -> int:
    """Compare and print."""
    if len(options.runs) > 2:
        raise UserError("Name one run or two.")
    if options.changed < 0:
        raise UserError(f"--changed is {options.changed}: give at least 0.")
    a, b = options.runs[0], options.runs[-1]
    first, second = options.a or ("direct" if len(options.runs) == 1 else "ecso"), options.b or "ecso"
    if a == b and first == second:
        raise UserError(f"{first} beside itself: name two methods, --a direct --b ecso, or two runs.")
    pairs = paired(a, first, b, second)
    found = {ours.name: between(ours, first, theirs, second, options.coverage) for ours, theirs in pairs}
    changes = {ours.name: some for ours, theirs in pairs if (some := changed(ours, first, theirs, second))}
    unlike = {f"{what} of {ours.name}": two for ours, theirs in pairs for what, two in _unlike(ours.methods[first], theirs.methods[second])}
    if options.json:
        print(json.dumps(_plain(found, changes, unlike), ensure_ascii=False, indent=1))
        return 0
    for text in _told(found, options.by, changes, options.changed):
        print(text)
    for name, (before, after) in unlike.items():
        print(f"not the same: {name} is {before} in {a} ({first}) and {after} in {b} ({second}).", file=sys.stderr)
    return 0


def _told(
    found: Mapping[str, tuple[Comparison, ...]], by: str | None, changes: Mapping[str, list[tuple[Outcome, Outcome]]], most: int
) -> Iterator[str]:
    kinds = {one.table for some in found.values() for one in some if one.table}
    if by is not None and by not in kinds:
        raise unknown("--by", by, sorted(kinds)) if kinds else UserError("These tasks have no categories: leave --by out.")
    for task, some in found.items():
        if not some:
            yield f"{task}: no sample is decided under both. Judge both runs first: llava judge RUN.\n"
            continue
        yield comparisons(task, [one for one in some if one.table in ("", by)]).aligned()
        if most and (lines := changes.get(task)):
            yield _changes(task, lines, most).aligned()


def _changes(task: str, pairs: list[tuple[Outcome, Outcome]], most: int) -> Table:
    rows = [(one.id, judge_name(one.judge), one.verdict, other.verdict, other.stage or "") for one, other in pairs[:most]]
    a, b = pairs[0]
    left = f"{len(pairs) - most} more." if len(pairs) > most else ""
    columns = ("Sample", "Decided by", f"{method_name(a.method)} (a)", f"{method_name(b.method)} (b)", "What became of it (b)")
    return Table(f"{task}: verdicts that changed", columns, tuple(rows), (left,) if left else (), words=5)


def changed(ours: TaskRun, method_a: str, theirs: TaskRun, method_b: str) -> list[tuple[Outcome, Outcome]]:
    """The samples whose verdict by the same judge is another: how each ended here and there, in the benchmark's order."""
    there = {(one.id, one.judge): one for one in _outcomes(theirs, method_b)}
    pairs = [(one, there[one.id, one.judge]) for one in _outcomes(ours, method_a) if (one.id, one.judge) in there]
    return [(one, other) for one, other in pairs if None not in (one.value, other.value) and one.verdict != other.verdict]


def _outcomes(task: TaskRun, method: str) -> list[Outcome]:
    run = task.methods[method]
    judged = series_of(task, [run]) or [BY_RULE]
    return [told for series in judged for _, told in outcomes(task, run, series, judge_for(task, series))]


def _unlike(ours: MethodRun, theirs: MethodRun) -> Iterator[tuple[str, tuple[str, str]]]:
    """What is not the same but for what was to be compared: model, questions, policy, prompts, and where judges were asked."""
    yield from differences(ours.header, theirs.header).items()
    asked, also = origins([ours]), origins([theirs])
    for series, places in asked.items():
        if (others := also.get(series, places)) != places:
            yield f"the judge {judge_of(series).label}", (" and ".join(places), " and ".join(others))


def _plain(
    found: Mapping[str, tuple[Comparison, ...]],
    changes: Mapping[str, list[tuple[Outcome, Outcome]]],
    other: Mapping[str, tuple[str, str]],
) -> Json:
    """For machines."""
    moved = {task: [{"id": a.id, "judge": a.judge, "a": a.verdict, "b": b.verdict} for a, b in some] for task, some in changes.items()}
    told = {task: [asdict(one) for one in some] for task, some in found.items()}
    return {"comparisons": told, "changed": moved, "not_the_same": dict(other)}


if __name__ == "__main__":
    sys.exit(program("compare", "python -m llava.eval.report.compare"))
