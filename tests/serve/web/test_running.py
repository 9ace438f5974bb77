"""The one piece of work of a visitor: however it is ended, it ends in order, and the next one can begin."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from llava.serve.web.running import Changed, Running


class Slow:
    """Work that takes a while to end, as closing a connection does."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.ended = False

    async def work(self, changed: Changed) -> None:
        try:
            self.begun.set()
            await asyncio.Event().wait()
        finally:
            await self.may_end.wait()
            self.ended = True


async def drawn(running: Running, slow: Slow) -> list[bool]:
    async with aclosing(running.changes(slow.work)) as changes:
        return [stopped async for stopped in changes]


async def turn() -> None:
    """Let everybody else go on."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_who_stops_it_twice_lets_it_end() -> None:
    async def main() -> None:
        running, slow = Running(), Slow()
        drawing = asyncio.create_task(drawn(running, slow))
        await slow.begun.wait()
        for _ in range(3):
            running.stop()
            await turn()
        assert running.busy
        slow.may_end.set()
        assert (await drawing)[-1]
        assert slow.ended
        assert not running.busy

    asyncio.run(main())


def test_who_draws_it_may_leave_twice_and_the_next_work_begins() -> None:
    async def main() -> None:
        running, slow = Running(), Slow()
        drawing = asyncio.create_task(drawn(running, slow))
        await slow.begun.wait()
        for _ in range(2):
            drawing.cancel()
            await turn()
        assert drawing.cancelled()
        assert not running.busy
        slow.may_end.set()
        running.check_free()

    asyncio.run(main())
