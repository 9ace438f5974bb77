"""The local engine: any number of event loops hand their calls to one model thread.

Knows when a call runs and who reads it; how a token is computed is the runner's business.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref
from collections.abc import AsyncGenerator

import torch

from llava.chat import Call, Delta
from llava.engines.local.inbox import Inbox, Job
from llava.engines.local.runner import Runner
from llava.errors import EngineClosed, EngineError, LlavaError, UserError
from llava.model.builder import load
from llava.model.loaded import Loaded

log = logging.getLogger(__name__)


def open_local(
    target: str,
    *,
    device: str | None = None,
    dtype: str | None = None,
    conv_mode: str | None = None,
    attn_implementation: str | None = None,
    **options: int,
) -> LocalEngine:
    """Load the checkpoint `target` (a folder or a hub id) and start its engine; options as in `load` and `LocalEngine`."""
    loaded = load(target, device=device, dtype=dtype, conv_mode=conv_mode, attn_implementation=attn_implementation)
    return LocalEngine(loaded, **options)


class LocalEngine:
    """A loaded model behind the engine protocol.

    At most `max_waiting` calls wait while one runs; one more raises `Overloaded`. `threads` sets how many processor cores torch
    uses (in the whole process).
    """

    def __init__(self, loaded: Loaded, *, max_waiting: int = 256, threads: int | None = None) -> None:
        if max_waiting < 0 or (threads is not None and threads < 1):
            raise UserError(f"max_waiting is {max_waiting} and threads {threads}: give at least 0 and 1.")
        if threads is not None:
            torch.set_num_threads(threads)
        self._name = loaded.name
        self._inbox = Inbox(max_waiting)
        self._thread = threading.Thread(target=_work, args=(Runner(loaded), self._inbox), name="llava-model", daemon=True)
        self._thread.start()
        # An engine that is dropped without `close`, or open at exit, takes its thread with it.
        self._finalizer = weakref.finalize(self, _stop, self._inbox, self._thread)

    @property
    def name(self) -> str:
        return self._name

    async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
        """The model's answer, token by token; see `Engine.stream`."""
        job = Job(call)
        self._inbox.put(job)
        try:
            while True:
                delta = await job.receive()
                yield delta
                if delta.reply is not None:
                    return
        finally:
            self._inbox.cancel(job)

    async def close(self) -> None:
        """Fail what waits or runs with `EngineClosed` and wait for the model thread to end (within one token)."""
        self._inbox.close()
        # Not `join` in an executor's thread: at exit there is no executor any more.
        while self._thread.is_alive():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def _stop(inbox: Inbox, thread: threading.Thread) -> None:
    inbox.close()
    if thread is not threading.current_thread():
        thread.join()


def _work(runner: Runner, inbox: Inbox) -> None:
    """The model thread's life."""
    while (job := inbox.take()) is not None:
        try:
            _run(runner, inbox, job)
        except LlavaError as error:
            job.send(error)
        except Exception as error:
            log.exception("%s failed in step %s", runner.name, job.call.step)
            failure = EngineError(f"The model {runner.name} failed: {type(error).__name__}.")
            failure.__cause__ = error
            job.send(failure)
        del job  # the thread may sleep for long: keep no images alive


def _run(runner: Runner, inbox: Inbox, job: Job) -> None:
    deltas = runner.answer(job.call)
    for delta in deltas:
        if inbox.closed:
            raise EngineClosed("The engine was closed during the call.")
        if job.cancelled:
            return
        if delta.text or delta.reply is not None:
            job.send(delta)
