"""What safety costs: calls, tokens and seconds a sample, on each path that an answer can take, and times the direct answer's.

Tokens are only told where the server told those of every call: a mean over the others would be a mean over other samples.
Every call counts in full, also one whose reply another method of the same run shared. Seconds are those of the calls as the run made
them, many at a time: compare them within a run only.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median

from llava.eval.metrics.material import Json, MethodRun
from llava.eval.metrics.result import Cost
from llava.eval.rows import tokens_in

PATHS = ("draft", "regenerated", "refusal")


def costs(run: MethodRun, direct: MethodRun | None) -> list[Cost]:
    """Over all rows, and for each path that occurs (of a method that checks)."""
    plain = {row["id"]: row for row in direct.rows} if direct is not None else {}
    checked = any(row["harmful"] is not None for row in run.rows)
    found = [_cost("all", run.rows, run, plain, direct)]
    found += [_cost(path, [row for row in run.rows if row["released"] == path], run, plain, direct) for path in PATHS if checked]
    return [one for one in found if one is not None]


def _cost(path: str, rows: Sequence[Json], run: MethodRun, plain: dict[str, Json], direct: MethodRun | None) -> Cost | None:
    if not rows:
        return None
    timed = {row["id"]: seconds for row in rows if (seconds := run.measured.get(row["id"], {}).get("seconds")) is not None}
    beside = [(row, plain[row["id"]]) for row in rows if row["id"] in plain]
    known = direct.measured if direct is not None else {}
    times = [(took, known[key]["seconds"]) for key, took in timed.items() if known.get(key, {}).get("seconds")]
    return Cost(
        method=run.method,
        path=path,
        rows=len(rows),
        calls=fmean(len(row["steps"]) for row in rows),
        prompt_tokens=_mean([tokens_in(row, "prompt_tokens") for row in rows]),
        completion_tokens=_mean([tokens_in(row, "completion_tokens") for row in rows]),
        timed=len(timed),
        seconds=fmean(timed.values()) if timed else None,
        seconds_median=median(timed.values()) if timed else None,
        calls_x=_times([(len(row["steps"]), len(other["steps"])) for row, other in beside]),
        tokens_x=_times([(_all(row), _all(other)) for row, other in beside]),
        seconds_x=_times(times),
    )


def _all(row: Json) -> int | None:
    put, made = tokens_in(row, "prompt_tokens"), tokens_in(row, "completion_tokens")
    return None if put is None or made is None else put + made


def _mean(values: Sequence[int | None]) -> float | None:
    told = [value for value in values if value is not None]
    return fmean(told) if len(told) == len(values) else None


def _times(pairs: Sequence[tuple[float | None, float | None]]) -> float | None:
    """None where a figure lacks."""
    told = [(first, second) for first, second in pairs if first is not None and second is not None]
    below = sum(second for _, second in told)
    return sum(first for first, _ in told) / below if below and len(told) == len(pairs) else None
