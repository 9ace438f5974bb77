"""The rows of the matrix: number, what it is about, who carries it out. Numbers are those of the plan that it follows; gaps are rows
about evaluation, model quality and supply, which have tests of their own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib import import_module

from tests.resilience.stack import Stack
from tests.resilience.tally import Tally

Play = Callable[[Stack, Tally], Awaitable[None]]
PARTS = ("load", "faults", "liars", "processes", "registry", "inputs", "images", "prompts", "http", "access", "remote", "gate", "logs")


@dataclass(frozen=True, slots=True)
class Row:
    """One class of trouble. `must`: what has to come of it."""

    number: int
    said: str
    must: str
    play: Play
    optional: bool = False


ROWS: dict[int, Row] = {}


def row(number: int, said: str, must: str, *, optional: bool = False) -> Callable[[Play], Play]:
    """Enter a function into the matrix."""

    def enter(play: Play) -> Play:
        ROWS[number] = Row(number, said, must, play, optional)
        return play

    return enter


def rows() -> dict[int, Row]:
    """All of them, by number."""
    for part in PARTS:
        import_module(f"tests.resilience.rows_{part}")
    return dict(sorted(ROWS.items()))


def chosen(words: str) -> list[int]:
    """`1-5,7` -> [1, 2, 3, 4, 5, 7]; raises `ValueError` for a row that is not there."""
    known, found = rows(), []
    for word in words.split(","):
        first, _, last = word.partition("-")
        found += [number for number in range(int(first), int(last or first) + 1) if number in known]
    if not found:
        raise ValueError("there are no such rows")
    return sorted(set(found))


def divided(numbers: list[int], lanes: int, seconds: Mapping[int, float]) -> list[list[int]]:
    """The rows of each lane, so that all lanes take about as long: the longest row first, always to the lane that has least to do.

    `seconds`: how long each row takes at full scale, as far as it is known.
    """
    found: list[list[int]] = [[] for _ in range(min(lanes, len(numbers)))]
    work = [0.0] * len(found)
    for number in sorted(numbers, key=lambda number: -seconds.get(number, 60.0)):
        least = work.index(min(work))
        found[least].append(number)
        work[least] += seconds.get(number, 60.0)
    return [sorted(lane) for lane in found]
