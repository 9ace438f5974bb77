"""Which calls run, and who computes what in the next step. Policy only: knows no tensor, no model and no thread.

Calls start in the order in which they came. In each step every running answer gets one token, and prompts get a bounded number of
new positions, so that a long prompt delays those that stream by one chunk, and many prompts by a few.
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
_CHUNKS = 4  # at most so many in one step: whoever streams waits no longer for those who begin


class Scheduler(Generic[S]):
    """At most `max_batch` calls run. While any of them decodes, a step computes about `chunk` prompt positions (see `room`).

    Without a `chunk`, all prompts that wait to be read are read whole and together.
    """

    def __init__(self, max_batch: int, chunk: int | None) -> None:
        self.max_batch = max_batch
        self.chunk = chunk
        self.waiting: deque[S] = deque()
        self.prefilling: list[S] = []
        self.decoding: list[S] = []

    @property
    def idle(self) -> bool:
        """Nothing runs and nothing waits."""
        return not self.busy

    @property
    def busy(self) -> int:
        """Calls that have come and not ended."""
        return len(self.waiting) + len(self.prefilling) + len(self.decoding)

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
        """Who computes how many prompt positions next, in the order of coming: the first call's chunk, and whole rests of others for which
        there is `room` beside it. The first call alone goes to its end where nobody decodes.
        """
        chosen: list[tuple[S, int]] = []
        room, read = self.room, 0
        for sequence in self.prefilling:
            rest = sequence.prompt_tokens - sequence.filled
            if room is not None and not chosen and self.decoding:
                rest = min(rest, room)
            if room is None or not chosen or read + rest <= room:
                chosen.append((sequence, rest))
                read += rest
        return chosen

    @property
    def room(self) -> int | None:
        """Prompt positions that the next step may compute: a chunk, or more of them where more calls are read than decode."""
        if self.chunk is None or not self.decoding:
            return self.chunk
        return self.chunk * min(max(len(self.prefilling) // len(self.decoding), 1), _CHUNKS)

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
