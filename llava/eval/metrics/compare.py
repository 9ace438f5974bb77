"""Two methods side by side, pair by pair: how many each has right alone, the difference with its interval, and whether it may be chance.

compared(Path("runs/a"), "direct", Path("runs/b"), "ecso")       two runs, or two methods of one
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from llava.errors import UserError, unknown
from llava.eval.metrics.material import TaskRun, load
from llava.eval.metrics.result import Comparison
from llava.eval.metrics.scoring import measured_by, series_of
from llava.eval.metrics.units import Judge, Measure, Unit
from llava.eval.stats import clusters, difference_interval, holm, mcnemar, sign_flips

Pair = tuple[Unit, Unit]


def compared(a: Path, method_a: str, b: Path, method_b: str, coverage: float = 0.95) -> dict[str, tuple[Comparison, ...]]:
    """`method_b` of run `b` beside `method_a` of run `a`, in every task that both have, by every judge that judged both.

    Raises `UserError` where there is no such method, or the runs have no task, or a task not its samples, in common.
    """
    return {ours.name: between(ours, method_a, theirs, method_b, coverage) for ours, theirs in paired(a, method_a, b, method_b)}


def paired(a: Path, method_a: str, b: Path, method_b: str) -> list[tuple[TaskRun, TaskRun]]:
    """The tasks that run `a` has under `method_a` and run `b` under `method_b`, each run read once.

    Raises `UserError` where there is no such method, or no such task.
    """
    ours = {task.name: task for task in load(a)}
    theirs = ours if a == b else {task.name: task for task in load(b)}
    for folder, tasks, method in ((a, ours, method_a), (b, theirs, method_b)):
        there = sorted({name for task in tasks.values() for name in task.methods})
        if method not in there:
            raise unknown(f"method of {folder}", method, there)
    shared = [name for name in ours if name in theirs and method_a in ours[name].methods and method_b in theirs[name].methods]
    if not shared:
        raise UserError(f"{a} ({method_a}) and {b} ({method_b}) have no task in common.")
    return [(ours[name], theirs[name]) for name in shared]


def between(ours: TaskRun, method_a: str, theirs: TaskRun, method_b: str, coverage: float) -> tuple[Comparison, ...]:
    """The same for one task; raises `UserError` where two runs ask different questions under the same ids."""
    first, second = ours.methods[method_a], theirs.methods[method_b]
    questions = {row["id"]: row["question"] for row in first.rows}
    if strange := [row["id"] for row in second.rows if questions.get(row["id"], row["question"]) != row["question"]]:
        raise UserError(f"The runs ask different questions under the same id of {ours.name}: {strange[0]!r}. They cannot be compared.")
    found: list[Comparison] = []
    known = series_of(theirs, [second])
    for series in series_of(ours, [first]):
        if series in known:
            judge, before = measured_by(ours, first, series, coverage)
            _, after = measured_by(theirs, second, series, coverage)
            found += comparisons(method_a, method_b, before, after, judge, coverage)
    return tuple(found)


def comparisons(
    a: str, b: str, before: Sequence[Measure], after: Sequence[Measure], judge: Judge, coverage: float = 0.95
) -> list[Comparison]:
    """All comparisons of two methods by one judge: the whole task, then each category, Holm over those of one table.

    Tested is only what has both verdicts on `coverage` of its pairs.
    """
    found = []
    later = {measure.name: measure for measure in after}
    for measure in before:
        if not measure.compared or measure.name not in later:
            continue
        others = {unit.id: unit for unit in later[measure.name].units}
        pairs = [(unit, others[unit.id]) for unit in measure.units if unit.id in others]
        unknown = max(measure.unknown, later[measure.name].unknown)
        tables: dict[str, dict[str, list[Pair]]] = {"": {"": pairs}}
        for pair in pairs:
            for table, key in pair[0].tables:
                tables.setdefault(table, {}).setdefault(key, []).append(pair)
        for table, keys in tables.items():
            family = []
            for key, some in keys.items():
                of = len(some) + (0 if table else unknown)
                base = Comparison(measure.name, a, b, table, key, n=0, of=of, judge=judge.label, keyword=judge.keyword)
                family.append(_compared(base, some, coverage))
            found += _corrected([one for one in family if one is not None])
    return found


def _corrected(family: Sequence[Comparison]) -> list[Comparison]:
    ps = [one.p for one in family if one.p is not None]
    corrected = iter(holm(ps))
    return [replace(one, p_holm=None if one.p is None else next(corrected), family=len(ps)) for one in family]


def _compared(base: Comparison, pairs: Sequence[Pair], coverage: float) -> Comparison | None:
    """None where no pair is decided on both sides."""
    told = [(one.value, other.value, one.group) for one, other in pairs if one.value is not None and other.value is not None]
    if not told:
        return None
    differences, groups = [second - first for first, second, _ in told], [group for _, _, group in told]
    low, high = difference_interval(differences, groups)
    base = replace(base, n=len(told), difference=100 * sum(differences) / len(told), low=100 * low, high=100 * high)
    found = _tested(base, told)
    return found if len(told) >= coverage * base.of else replace(found, p=None, p_mcnemar=None, test="")


def _tested(base: Comparison, told: Sequence[tuple[float, float, str]]) -> Comparison:
    """With its counts and its p."""
    differences, groups = [second - first for first, second, _ in told], [group for _, _, group in told]
    sums, _ = clusters(differences, groups)
    independent = len(sums) == len(told)
    if not all(value in (0.0, 1.0) for first, second, _ in told for value in (first, second)):
        return replace(base, p=sign_flips(sums.tolist()), test="sign flips" if independent else "sign flips by group")
    only_a, only_b = differences.count(-1.0), differences.count(1.0)
    both = sum(first == second == 1.0 for first, second, _ in told)
    p = mcnemar(only_a, only_b)
    counted = replace(base, both=both, only_a=only_a, only_b=only_b, neither=len(told) - both - only_a - only_b, p=p, p_mcnemar=p)
    if independent:
        return replace(counted, test="exact McNemar")
    return replace(counted, p=sign_flips(sums.tolist()), test="sign flips by group")
