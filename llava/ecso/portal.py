"""A thread with an event loop of its own, so that plain functions can await: in scripts, and in notebooks whose own loop is busy.

Everything of one guard runs on one portal, whoever calls, so that an engine lives on one loop. It knows nothing of the method.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import inspect
import logging
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
log = logging.getLogger(__name__)
PATIENCE = 10.0  # seconds to wait for cancelled work or a closing engine before going on without


class Portal:
    """Runs coroutines on its own thread. `close` (also at garbage collection and at exit) runs `at_close` there and ends the thread."""

    def __init__(self, at_close: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_run_loop, args=(self._loop,), name="llava-portal", daemon=True)
        self._thread.start()
        self._at_close = at_close
        self.close = weakref.finalize(self, _shut_down, self._loop, self._thread, at_close)
        self.close.atexit = False  # _end_all does it
        _OPEN.add(self)

    def start(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Begin `work` on the portal's loop; raises `RuntimeError` when the portal is closed."""
        if not self.close.alive:
            work.close()
            raise RuntimeError("The portal is closed.")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for `work`. An interrupt (Ctrl-C) cancels it, waits until it has ended, and is raised."""
        ended = threading.Event()
        try:
            future = self.start(_announced(work, ended))
        except RuntimeError:
            work.close()
            raise
        try:
            return future.result()
        except BaseException:
            future.cancel()
            ended.wait(PATIENCE)
            if inspect.getcoroutinestate(work) == inspect.CORO_CREATED:  # cancelled before its first step
                work.close()
            raise


async def _announced(work: Coroutine[Any, Any, T], ended: threading.Event) -> T:
    try:
        return await work
    finally:
        ended.set()


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(_cancel_everything())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _cancel_everything() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _shut_down(
    loop: asyncio.AbstractEventLoop,
    thread: threading.Thread,
    at_close: Callable[[], Coroutine[Any, Any, None]] | None,
    exiting: bool = False,
) -> None:
    async def last_words() -> None:
        try:
            if at_close is not None:
                await at_close()
            if not exiting:
                await loop.shutdown_default_executor()
        finally:
            loop.stop()

    closing = asyncio.run_coroutine_threadsafe(last_words(), loop)
    # Garbage collection may run on the portal's own thread, which cannot wait for itself.
    if threading.current_thread() is not thread:
        thread.join(PATIENCE)
        if closing.done() and not closing.cancelled():
            closing.result()


_OPEN: weakref.WeakSet[Portal] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    for portal in list(_OPEN):
        if portal.close.detach() is not None:
            try:
                _shut_down(portal._loop, portal._thread, portal._at_close, exiting=True)
            except RuntimeError as error:
                # Python starts no threads any more at this point, which some engines' close needs; those end by their own finalizers.
                log.debug("closing at exit: %s", error)
