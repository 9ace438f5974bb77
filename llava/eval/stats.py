"""Intervals and tests for shares, grades and rankings. Numbers in, numbers out: nothing here knows a benchmark.

What scipy has is scipy's (`pip install 'llava[eval]'`); the same numbers always give the same result, also where chance is used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

from llava.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 2000
_CELLS = 1_000_000  # of a block of draws: 8 MB
SEED = 20240312  # any number; fixed, so that a report made twice is the same
Interval = tuple[float, float]


def scipy_stats() -> Any:
    """`scipy.stats`, loaded when the first interval is wanted; raises `UserError` where it is not installed."""
    try:
        from scipy import stats
    except ImportError:
        raise UserError("Intervals and tests need scipy: pip install 'llava[eval]'.") from None
    return stats


def wilson(hits: int, n: int) -> Interval:
    """The Wilson score interval of a share (0 to 1) of independent samples; `n` at least 1."""
    found = scipy_stats().binomtest(hits, n).proportion_ci(LEVEL, method="wilson")
    return float(found.low), float(found.high)


def clusters(values: Sequence[float], groups: Sequence[str]) -> tuple[Numbers, Numbers]:
    """Sum and count of the values of each group, in the order in which groups first appear."""
    places: dict[str, int] = {}
    at = [places.setdefault(group, len(places)) for group in groups]
    sums, counts = np.bincount(at, weights=values), np.bincount(at)
    return sums.astype(np.float64), counts.astype(np.float64)


def replicates(values: Sequence[float], groups: Sequence[str], stream: str = "") -> Numbers:
    """`RESAMPLES` means, each over as many groups as there are, drawn with replacement: samples of one group stay together.

    One `stream` draws the same groups each time, so that what is measured twice on the same groups stays together, too.
    """
    sums, counts = clusters(values, groups)
    draw = np.random.default_rng([SEED, crc32(stream.encode("utf-8", "backslashreplace"))])
    size = len(sums)
    block = max(1, _CELLS // size)
    means = []
    for begin in range(0, RESAMPLES, block):
        drawn = draw.integers(0, size, size=(min(block, RESAMPLES - begin), size), dtype=np.int32)
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    return np.concatenate(means)


def percentiles(means: Numbers) -> Interval | None:
    """The interval that holds the middle `LEVEL` of replicates; None where they are all equal: chance had no way to show."""
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return None if np.ptp(means) < 1e-12 else (float(low), float(high))


def share_interval(values: Sequence[float], groups: Sequence[str]) -> tuple[Interval, str]:
    """The interval of a mean of values from 0 to 1, and its name.

    Independent hits and misses: Wilson. Samples that share a group: cluster bootstrap. Grades: bootstrap. Where every replicate is the
    same (all hits, all misses) a bootstrap would claim certainty: then Wilson, each group counted once.
    """
    count = len(set(groups))
    binary = all(value in (0.0, 1.0) for value in values)
    if binary and count == len(values):
        return wilson(round(sum(values)), count), "Wilson 95 %"
    found = percentiles(replicates(values, groups))
    if found is None:
        return wilson(round(count * sum(values) / len(values)), count), "Wilson 95 %, by group"
    return found, "cluster bootstrap 95 %" if count < len(values) else "bootstrap 95 %"


def difference_interval(differences: Sequence[float], groups: Sequence[str]) -> Interval:
    """The interval of a mean of paired differences (each from -1 to 1): bootstrap over groups.

    What did not occur is in no replicate: towards a side that no pair favours a bootstrap would end at 0 with one pair that differs, and
    claim certainty with none. There the interval reaches further, by what Wilson says of the share of such pairs (Zou & Donner 2008).
    """
    mean = sum(differences) / len(differences)
    found = percentiles(replicates(differences, groups))
    low, high = found or (mean, mean)
    unseen = wilson(0, len(set(groups)))[1]
    if found is None or min(differences) >= 0.0:
        low = mean - math.hypot(mean - low, unseen)
    if found is None or max(differences) <= 0.0:
        high = mean + math.hypot(high - mean, unseen)
    return max(low, -1.0), min(high, 1.0)


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided McNemar test: of the pairs that differ, do as many favour the one as the other? 1.0 where none differs."""
    if only_a + only_b == 0:
        return 1.0
    return float(scipy_stats().binomtest(only_a, only_a + only_b, 0.5).pvalue)


def sign_flips(differences: Sequence[float]) -> float:
    """Two-sided permutation test that paired differences have mean 0: exact for few pairs that differ, else 10,000 drawn flips."""
    told = np.array([value for value in differences if value != 0.0])
    if len(told) < 2:  # one alone is as far from 0 either way
        return 1.0
    kind = {"permutation_type": "samples", "n_resamples": 9999, "rng": np.random.default_rng(SEED)}  # exact for up to 13 pairs
    found = scipy_stats().permutation_test((told,), np.mean, batch=max(1, _CELLS // len(told)), **kind)
    return float(found.pvalue)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down correction of a family of p-values, in their order (Holm 1979)."""
    corrected = [0.0] * len(ps)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[place]))
        corrected[place] = highest
    return corrected


def auc(positive: Sequence[float], negative: Sequence[float], groups: Sequence[str] = ()) -> tuple[float, Interval | None]:
    """The area under the ROC curve (ties count half) and its interval on the logit scale, after DeLong et al. 1988.

    `groups`: of the positive members, then of the negative ones; members of one group are not independent (Obuchowski 1997; none: all
    are). No interval where the two are perfectly apart, or all of one of them are of one group: the data do not show a spread.
    """
    above, below = np.asarray(positive, np.float64), np.asarray(negative, np.float64)
    wins, losses = _beaten(above, np.sort(below)), 1.0 - _beaten(below, np.sort(above))
    area = float(wins.mean())
    variance = _variance(wins - area, losses - area, groups or [f"{place}" for place in range(len(above) + len(below))])
    if variance is None or not 0.0 < area < 1.0:
        return area, None
    reach = scipy_stats().norm.ppf((1 + LEVEL) / 2) * variance**0.5 / (area * (1 - area))
    centre = np.log(area / (1 - area))
    low, high = 1 / (1 + np.exp(-(centre - reach))), 1 / (1 + np.exp(-(centre + reach)))
    return area, (float(low), float(high))


def _variance(wins: Numbers, losses: Numbers, groups: Sequence[str]) -> float | None:
    """Of an area, by how far each member's share of pairs that are the right way round is from it; None where nothing shows it."""
    places: dict[str, int] = {}
    at = np.array([places.setdefault(group, len(places)) for group in groups])
    sums, found = [], 0.0
    for values, own in ((wins, at[: len(wins)]), (losses, at[len(wins) :])):
        count = len(set(own.tolist()))
        if count < 2:
            return None
        sums.append(np.bincount(own, weights=values, minlength=len(places)) / len(values))
        found += count / (count - 1) * float((sums[-1] ** 2).sum())
    found += 2 * len(places) / (len(places) - 1) * float((sums[0] * sums[1]).sum())
    return found if found > 1e-12 else None


def _beaten(ours: Numbers, theirs: Numbers) -> Numbers:
    """For each of ours the share of theirs below it, equal ones half."""
    return (np.searchsorted(theirs, ours, "left") + np.searchsorted(theirs, ours, "right")) / (2 * len(theirs))
