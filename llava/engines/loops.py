"""One thing for each event loop: connections belong to the loop that opened them, and callers come from several."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")


class PerLoop(Generic[T]):
    """`get` makes the running loop's thing when it is asked for first; it is closed with the loop, or by `close`, which ends all."""

    def __init__(self, make: Callable[[], T], close: Callable[[T], Awaitable[object]]) -> None:
        self._make = make
        self._close = close
        self._closed = False
        self._held: dict[asyncio.AbstractEventLoop, tuple[T, AsyncGenerator[T, None]]] = {}

    async def get(self) -> T:
        """The running loop's thing; raises `RuntimeError` after `close`."""
        if self._closed:
            raise RuntimeError("closed")
        loop = asyncio.get_running_loop()
        if loop not in self._held:
            for ended in [other for other in list(self._held) if other.is_closed()]:
                self._held.pop(ended, None)  # closed without its generators: else one more would be kept for each such loop
            holder = self._hold(loop)
            self._held[loop] = (await anext(holder), holder)
        return self._held[loop][0]

    async def close(self) -> None:
        """Close all of them. May be called from any event loop, and by several at once."""
        self._closed = True  # a call that is under way would else open connections that nobody closes
        while self._held:
            loop, (_, holder) = self._held.popitem()
            if loop is asyncio.get_running_loop():
                await holder.aclose()
            elif loop.is_running():
                await _closed_in(loop, holder)

    async def _hold(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[T, None]:
        # A generator, because a loop closes its open generators when it ends (asyncio.run does).
        thing = self._make()
        try:
            yield thing
        finally:
            self._held.pop(loop, None)
            await self._close(thing)


async def _closed_in(loop: asyncio.AbstractEventLoop, holder: AsyncGenerator[T, None]) -> None:
    """Close in another thread's loop. Where that loop ends meanwhile, it does so itself, or nobody can: it is not waited for."""

    async def closing() -> None:
        with suppress(RuntimeError):  # the loop ends, and is closing it just now
            await holder.aclose()

    work = closing()
    try:
        done = asyncio.run_coroutine_threadsafe(work, loop)
    except RuntimeError:  # it has been closed since we looked
        work.close()
        return
    while loop.is_running() and not done.done():  # noqa: ASYNC110 - a loop that stops sets no event
        await asyncio.sleep(0.002)
