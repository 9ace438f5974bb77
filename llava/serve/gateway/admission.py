"""So many requests at a time, so many waiting, so long: who finds no place is told at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from llava.serve.refusal import Refusal


class Admission:
    """A bounded queue before the model. `running` and `waiting` count requests."""

    def __init__(self, most_running: int, most_waiting: int, patience: float) -> None:
        self._places = asyncio.Semaphore(most_running)
        self._most_waiting = most_waiting
        self._patience = patience
        self.running = 0
        self.waiting = 0

    @asynccontextmanager
    async def place(self) -> AsyncGenerator[None]:
        """Wait for a place and hold it; raises `Refusal` (429) when too many wait, or after `patience` seconds."""
        if self._places.locked() and self.waiting >= self._most_waiting:
            raise _full()
        self.waiting += 1
        try:
            async with asyncio.timeout(self._patience):
                await self._places.acquire()
        except TimeoutError:
            raise _full() from None
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._places.release()


def _full() -> Refusal:
    return Refusal(429, "Too many requests are waiting: try again in a moment.", code="overloaded")
