"""Calls that wait for the model thread: first come, first served, bounded, closable. Knows no model and no tensor."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import suppress

from llava.chat import Call, Delta
from llava.errors import EngineClosed, Overloaded


class Job:
    """One call on its way: made on an event loop, worked on by the model thread, read on the loop again."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.cancelled = False  # set by the reader, looked at by the model thread after every token
        self._loop = asyncio.get_running_loop()
        self._outbox: asyncio.Queue[Delta | Exception] = asyncio.Queue()

    def send(self, item: Delta | Exception) -> None:
        """From any thread: a piece of the answer, or the error that ends it."""
        try:
            self._loop.call_soon_threadsafe(self._outbox.put_nowait, item)
        except RuntimeError:  # the reader's loop was closed: nobody waits any more
            self.cancelled = True

    async def receive(self) -> Delta:
        """The next piece; raises the error that ended the call."""
        item = await self._outbox.get()
        if isinstance(item, Exception):
            raise item
        return item


class Inbox:
    """At most `max_waiting` jobs wait; one more raises `Overloaded`. Closing fails those that wait and ends `take`."""

    def __init__(self, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._waiting: deque[Job] = deque()
        self._idle = True  # the model thread waits in `take`
        self._changed = threading.Condition()
        self.closed = False

    def put(self, job: Job) -> None:
        """Raises `Overloaded` or `EngineClosed`."""
        with self._changed:
            if self.closed:
                raise EngineClosed("The engine is closed.")
            if len(self._waiting) >= self._max_waiting + self._idle:  # the idle thread takes one at once
                raise Overloaded(f"{self._max_waiting} calls wait already: try again later.")
            self._waiting.append(job)
            self._changed.notify()

    def cancel(self, job: Job) -> None:
        """The reader has gone: give the place up, or let the model thread stop after its current token."""
        job.cancelled = True
        with self._changed, suppress(ValueError):  # not waiting: it runs or is done
            self._waiting.remove(job)

    def take(self) -> Job | None:
        """The next job, when there is one; None after closing. For the model thread."""
        with self._changed:
            self._idle = True
            self._changed.wait_for(lambda: self._waiting or self.closed)
            self._idle = False
            return None if self.closed else self._waiting.popleft()

    def close(self) -> None:
        """Fail all that wait with `EngineClosed`, and all that come."""
        with self._changed:
            self.closed = True
            jobs, self._waiting = self._waiting, deque()
            self._changed.notify_all()
        for job in jobs:
            job.send(EngineClosed("The engine was closed while the call waited."))
