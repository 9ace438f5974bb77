"""One piece of work of a visitor at a time, on a task of its own, and when to draw what it has done so far. Knows no gradio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import suppress
from typing import Any

from llava.errors import UserError

Changed = Callable[[], None]

PACE = 0.03  # seconds between two drawings: a fast model's words come together
SIGN_OF_LIFE = 2.0  # seconds after which what has not changed is drawn again; who draws it learns whether anybody still looks


class Running:
    """The work, and `stop`, which any other event may call."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether there is work."""
        return self._task is not None

    def check_free(self) -> None:
        """Raise `UserError` while there is work."""
        if self._task is not None:
            raise UserError("A step is running: stop it first.")

    def stop(self) -> None:
        """End the work, if there is any, once: told again it would break off what it does to end."""
        if self._task is not None and not self._task.cancelling():
            self._task.cancel()

    async def changes(self, work: Callable[[Changed], Coroutine[Any, Any, None]]) -> AsyncGenerator[bool, None]:
        """Do `work`, which calls what it is given whenever something changed; yields when it is time to draw. The last item, True where it
        was stopped, comes when nothing runs any more. Closing the generator stops the work. Raises what `work` raises, and `UserError`
        while other work goes on."""
        self.check_free()
        changed = asyncio.Event()
        self._task = task = asyncio.create_task(work(changed.set))
        task.add_done_callback(lambda _: changed.set())
        try:
            while not task.done():
                yield False
                await asyncio.sleep(PACE)
                with suppress(TimeoutError):
                    async with asyncio.timeout(SIGN_OF_LIFE):
                        await changed.wait()
                changed.clear()
        finally:
            self.stop()
            try:
                (ended,) = await asyncio.gather(task, return_exceptions=True)
            finally:  # who waits for the end may be cancelled, too
                self._task = None
        if isinstance(ended, Exception):
            raise ended
        yield task.cancelled()
