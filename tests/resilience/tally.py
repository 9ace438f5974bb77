"""How trials are counted: tried, survived, lost, and the upper bound on the rate that a count leaves open. Knows no server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import exp, lgamma, log, log1p

CONFIDENCE = 0.95


class Lost(Exception):
    """A trial did not go as it must; the text says how."""


def expect(true: object, why: str) -> None:
    """Raise `Lost` unless it is so. A function, and no assert: the matrix runs under `python -O` too."""
    if not true:
        raise Lost(why)


@dataclass
class Tally:
    """One row's count. `figures` are what else it measured, `reasons` why trials were lost."""

    tried: int = 0
    lost: int = 0
    figures: dict[str, str] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def survived(self) -> int:
        """Trials that went as they must."""
        return self.tried - self.lost

    @contextmanager
    def trial(self, what: str) -> Iterator[None]:
        """One trial: lost when the block raises, whatever it raises."""
        self.tried += 1
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a trial that breaks in any way is lost, and the others go on
            self.lost += 1
            self.reasons[f"{what}: {f'{error}' if isinstance(error, Lost) else f'{type(error).__name__}: {error}'}"[:300]] += 1

    def count(self, what: str, broken: Sequence[str]) -> None:
        """One trial that is lost when something is broken."""
        with self.trial(what):
            expect(not broken, "; ".join(broken))


def upper_bound(lost: int, tried: int, confidence: float = CONFIDENCE) -> float:
    """The largest loss rate under which so few losses are not yet improbable: Clopper and Pearson's one-sided bound (1934).

    With none lost it is 1 - 0.05^(1/n), about 3/n (the rule of three).
    """
    if lost >= tried:
        return 1.0
    low, high = lost / tried, 1.0
    for _ in range(60):
        rate = (low + high) / 2
        if _at_most(lost, tried, rate) > 1 - confidence:
            low = rate
        else:
            high = rate
    return high


def _at_most(lost: int, tried: int, rate: float) -> float:
    """Probability of at most so many losses. By logarithms: thousands over hundreds is more than a float can hold."""
    ways = (lgamma(tried + 1) - lgamma(k + 1) - lgamma(tried - k + 1) for k in range(lost + 1))
    return sum(exp(way + k * log(rate) + (tried - k) * log1p(-rate)) for k, way in enumerate(ways))


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which that share lies; 0 for none."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def spread(seconds: Sequence[float]) -> str:
    """`p50 3, p95 9, p99 12 ms`."""
    return ", ".join(f"p{round(100 * share)} {1000 * quantile(seconds, share):.0f}" for share in (0.5, 0.95, 0.99)) + " ms"
