"""Calls on their way to the model thread: first come, first served, bounded, closable. Knows no model and no tensor."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Generic, TypeVar

from llava.chat import Call, Delta
from llava.errors import EngineClosed, EngineError, ModelLost, Overloaded

P = TypeVar("P")


class Job(Generic[P]):
    """One call on its way: made on an event loop, worked on by the model thread, read on the loop again."""

    def __init__(self, call: Call, prompt: P, asked: float) -> None:
        self.call = call
        self.prompt = prompt  # the call's chat as the runner wants it
        self.asked = asked  # when, by `time.monotonic`
        self.cancelled = False  # set by the reader, looked at by the model thread before every step
        self._loop = asyncio.get_running_loop()
        self._outbox: asyncio.Queue[Delta | Exception] = asyncio.Queue()

    def send(self, item: Delta | Exception) -> None:
        """From any thread: a piece of the answer, or the error that ends it."""
        deliver([(self, item)])

    async def receive(self) -> Delta:
        """The next piece; raises the error that ended the call."""
        item = await self._outbox.get()
        if isinstance(item, Exception):
            raise item
        return item


def deliver(items: Iterable[tuple[Job[P], Delta | Exception]]) -> None:
    """From any thread: give each job its piece. Each event loop is woken once, however many of its jobs get something."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Job[P], Delta | Exception]]] = {}
    for job, item in items:
        by_loop.setdefault(job._loop, []).append((job, item))
    for loop, own in by_loop.items():
        try:
            loop.call_soon_threadsafe(_put, own)
        except RuntimeError:  # the readers' loop was closed: nobody waits any more
            for job, _ in own:
                job.cancelled = True


def _put(items: list[tuple[Job[P], Delta | Exception]]) -> None:
    for job, item in items:
        job._outbox.put_nowait(item)


class Inbox(Generic[P]):
    """As many calls have a place as run, and `max_waiting`; one more raises `Overloaded`. Closing fails those that wait and that come.

    Model threads, its takers, take calls out of it: taker i runs at most `running[i]` of them.
    """

    def __init__(self, running: Sequence[int], max_waiting: int) -> None:
        self._places = sum(running) + max_waiting
        self._running = running
        self._busy = [0] * len(running)  # calls that each taker has, as it said when it last came
        self.max_waiting = max_waiting
        self.turns = 0  # of all takers: whoever cannot start a call may be able to after another's turn
        self._patient = 0  # takers that wait for another's turn
        self._idle = set[int]()  # takers that have nothing at all to do
        self.taken = 0  # places of calls that wait or run
        self._waiting: deque[Job[P]] = deque()
        self._changed = threading.Condition()
        self.closed = False
        self._lost: str | None = None  # of what it was closed, where nobody wanted that

    @contextmanager
    def place(self) -> Iterator[None]:
        """Held by a call from its beginning to its end; raises `Overloaded`, and as `check_open` does."""
        with self._changed:
            self.check_open()
            if self.taken >= self._places:
                raise Overloaded(f"{self.taken} calls run or wait already, and no more may: try again later.")
            self.taken += 1
        try:
            yield
        finally:
            with self._changed:
                self.taken -= 1

    def check_open(self) -> None:
        """After closing, raises the error that `ended` gives."""
        if self.closed:
            raise self.ended("The engine is closed.")

    def ended(self, said: str) -> EngineError:
        """Why a call cannot go on after closing: `EngineClosed`, as is `said`, or `ModelLost`."""
        return EngineClosed(said) if self._lost is None else ModelLost(self._lost)

    def put(self, job: Job[P]) -> None:
        """For a call that has a place and is ready for the model thread; raises as `check_open` does."""
        with self._changed:
            self.check_open()
            self._waiting.append(job)
            self._changed.notify_all()

    def cancel(self, job: Job[P]) -> None:
        """The reader has gone: the model thread gives the call up before its next step."""
        job.cancelled = True
        with self._changed, suppress(ValueError):  # not waiting: it runs or is done
            self._waiting.remove(job)

    def take(self, busy: int, wait: bool, turn: int | None = None, taker: int = 0) -> list[Job[P]] | None:
        """The jobs that have come, in order, for a taker that is `busy` with so many: all, or of several takers its share. With `wait`, one
        at least, unless `turns` goes on from `turn`. Of idle takers (they wait, for no turn) the first goes first: whoever asks one thing
        after another is answered where the prefix lies. None after closing. For model threads.
        """
        if not (wait or self._waiting or self.closed):  # looked at before every step: without the lock
            self._busy[taker] = busy
            return []
        with self._changed:
            self._busy[taker] = busy
            self._patient += turn is not None
            if idle := wait and turn is None:
                self._idle.add(taker)
            self._changed.wait_for(
                lambda: (
                    self.closed
                    or not wait
                    or turn not in (None, self.turns)
                    or (self._share(taker) and not (idle and min(self._idle) < taker))
                )
            )
            self._patient -= turn is not None
            self._idle.discard(taker)
            if self.closed:
                return None
            jobs = [self._waiting.popleft() for _ in range(self._share(taker))]
            self._busy[taker] += len(jobs)
            if jobs and self._waiting:
                self._changed.notify_all()
            return jobs

    def _share(self, taker: int) -> int:
        """How many of the waiting jobs are the taker's, where each goes to whoever has fewest and room. One that is alone takes all."""
        if len(self._busy) == 1:
            return len(self._waiting)
        busy = list(self._busy)
        for _ in self._waiting:
            free = [i for i, most in enumerate(self._running) if busy[i] < most]
            if not free:
                break
            busy[min(free, key=lambda i: (busy[i], i != taker))] += 1
        return busy[taker] - self._busy[taker]

    def turned(self) -> None:
        """A taker has taken its turn: calls may be able to start that were not before."""
        with self._changed:
            self.turns += 1
            if self._patient:
                self._changed.notify_all()

    def close(self, lost: str | None = None) -> None:
        """Fail all that wait, and all that come, as `ended` says. `lost`: the model is, and how. What closed it first counts."""
        with self._changed:
            if not self.closed:
                self.closed, self._lost = True, lost
            jobs, self._waiting = self._waiting, deque()
            self._changed.notify_all()
        for job in jobs:
            job.send(self.ended("The engine was closed while the call waited."))
