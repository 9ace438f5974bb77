"""Which calls run, and who computes what in the next step. Policy only: knows no tensor, no model and no thread.

Calls start in the order in which they came. In each step every running answer gets one token, and prompts get a bounded number of
new positions, so that a long prompt delays those that stream by one chunk only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Generic, Protocol, TypeVar


class Sequence(Protocol):
    """What the scheduler sees of a call: its prompt's length, and for how many positions the KV is there."""

    @property
    def prompt_tokens(self) -> int: ...

    @property
    def filled(self) -> int: ...


class Admission(Enum):
    """Whether a waiting call can start."""

    STARTED = auto()
    REFUSED = auto()  # it failed and waits no more
    BLOCKED = auto()  # another call computes what this one needs; those behind it may pass
    FULL = auto()  # no room: nobody passes


S = TypeVar("S", bound=Sequence)


class Scheduler(Generic[S]):
    """At most `max_batch` calls run; while any of them decodes, a step computes at most `chunk` prompt positions."""

    def __init__(self, max_batch: int, chunk: int) -> None:
        self.max_batch = max_batch
        self.chunk = chunk
        self.waiting: deque[S] = deque()
        self.prefilling: list[S] = []
        self.decoding: list[S] = []

    @property
    def idle(self) -> bool:
        """Nothing runs and nothing waits."""
        return not (self.waiting or self.prefilling or self.decoding)

    @property
    def running(self) -> list[S]:
        """All calls that have started."""
        return self.prefilling + self.decoding

    def admit(self, start: Callable[[S], Admission]) -> None:
        """Let waiting calls start, first come, first served, until one finds no room."""
        still: list[S] = []
        while self.waiting and len(self.prefilling) + len(self.decoding) < self.max_batch:
            sequence = self.waiting.popleft()
            admission = start(sequence)
            if admission is Admission.STARTED:
                self.prefilling.append(sequence)
            elif admission is not Admission.REFUSED:
                still.append(sequence)
            if admission is Admission.FULL:
                break
        self.waiting.extendleft(reversed(still))

    def chunks(self) -> list[tuple[S, int]]:
        """Who computes how many prompt positions next: the first call's chunk, and with it later calls whose rest is short.

        Rows are padded to the widest: together they stay within `chunk`. The first call alone goes to its end where nobody decodes.
        """
        group: list[tuple[S, int]] = []
        widest = 0
        for sequence in self.prefilling:
            rest = sequence.prompt_tokens - sequence.filled
            if not group:
                rest = min(rest, self.chunk) if self.decoding else rest
            widest = max(widest, rest)
            if group and widest * (len(group) + 1) > self.chunk:
                break
            group.append((sequence, rest))
        return group

    def prompt_done(self, sequence: S) -> None:
        """From now on the call decodes."""
        self.prefilling.remove(sequence)
        self.decoding.append(sequence)

    def remove(self, sequence: S) -> None:
        """The call has ended, wherever it was."""
        for place in (self.waiting, self.prefilling, self.decoding):
            if sequence in place:
                place.remove(sequence)

    def clear(self) -> None:
        """All calls have ended."""
        for place in (self.waiting, self.prefilling, self.decoding):
            place.clear()
