"""A thread with an event loop of its own, so that plain functions can await: in scripts, and in notebooks whose own loop is busy.

Everything of one guard runs on one portal, whoever calls. It knows nothing of the method.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import logging
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Generic, TypeVar

from llava.errors import EngineClosed, UserError

T = TypeVar("T")
log = logging.getLogger(__name__)
PATIENCE = 10.0  # seconds to wait for cancelled work or a closing engine before going on without


class Work(concurrent.futures.Future[T], Generic[T]):
    """A coroutine on a portal, seen from other threads: done when the coroutine has really ended, also after `cancel`.

    One that was cancelled, as all are when the portal is closed, ends with `EngineClosed`.
    """

    def __init__(self, work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._work = work
        self._portal_loop = loop
        loop.call_soon_threadsafe(self._begin)

    def cancel(self) -> bool:
        """Ask the coroutine to end. A finished one stays as it is."""
        if self.done():
            return False
        try:
            self._portal_loop.call_soon_threadsafe(self._cancel_task)
        except RuntimeError:  # the loop has ended meanwhile, and all work with it
            return False
        return True

    def _begin(self) -> None:
        self._task = self._portal_loop.create_task(self._work)
        self._task.add_done_callback(self._end)

    def _cancel_task(self) -> None:
        self._task.cancel()  # `_begin` ran before: a loop keeps the order

    def _end(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self.set_exception(EngineClosed("The guard was closed during the call."))
        elif (error := task.exception()) is not None:
            self.set_exception(error)
        else:
            self.set_result(task.result())


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

    def start(self, work: Coroutine[Any, Any, T]) -> Work[T]:
        """Begin `work` on the portal's loop; raises `UserError` when the portal is closed, and in a forked process."""
        try:
            self._check_open()
            return Work(work, self._loop)
        except UserError:
            work.close()
            raise
        except RuntimeError:  # closed this very moment
            work.close()
            raise _closed() from None

    def _check_open(self) -> None:
        if not self.close.alive:
            raise _closed()
        if not self._thread.is_alive():  # a fork copies this thread's objects, and no other thread
            raise UserError("This guard was made in another process, of which this one is a fork: make a new one here.")

    def check_can_wait(self) -> None:
        """Raises `UserError` where `start` does, and on the portal's own thread, which cannot wait for itself."""
        self._check_open()
        if threading.current_thread() is self._thread:
            raise UserError("A guard cannot be called and waited for inside one of its own calls: await its `ask`, or use another guard.")

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for `work`. An interrupt (Ctrl-C) cancels it, waits until it has ended, and is raised. See `check_can_wait`."""
        try:
            self.check_can_wait()
        except UserError:
            work.close()
            raise
        begun = self.start(work)
        try:
            return begun.result()
        except BaseException:
            stop([begun])
            raise


def _closed() -> UserError:
    return UserError("This guard is closed: make a new one.")


def stop(works: Iterable[Work[T]]) -> None:
    """Cancel, and wait until all have ended."""
    rest = list(works)
    for work in rest:
        work.cancel()
    concurrent.futures.wait(rest, PATIENCE)


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(_cancel_everything())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _cancel_everything() -> None:
    while tasks := asyncio.all_tasks() - {asyncio.current_task()}:  # again: some may have begun meanwhile
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _shut_down(
    loop: asyncio.AbstractEventLoop,
    thread: threading.Thread,
    at_close: Callable[[], Coroutine[Any, Any, None]] | None,
    exiting: bool = False,
) -> None:
    if not thread.is_alive():  # in a forked process: loop, engine and connections are the other's
        return

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
