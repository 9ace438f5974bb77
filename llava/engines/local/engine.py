"""The local engine: any number of event loops hand their calls to one model thread.

Knows when a call comes, who reads it and how it ends; what is computed in which order is the business of `batcher`.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import torch

from llava.chat import Call, Delta
from llava.engines.base import CONCURRENCY
from llava.engines.local.batcher import Batcher, explained
from llava.engines.local.foreign import ForeignRunner
from llava.engines.local.inbox import Inbox, Job
from llava.engines.local.memory import GIB, Stats, default_budget
from llava.engines.local.runner import SlotRunner, fits
from llava.engines.local.scheduler import Scheduler
from llava.errors import ContextTooLong, EngineClosed, LlavaError, UserError
from llava.model.builder import load
from llava.model.loaded import Loaded

_STEP_OPERATIONS = 5 * 10**9  # about a twentieth of a second on a small machine


def open_local(
    target: str,
    *,
    device: str | None = None,
    dtype: str | None = None,
    conv_mode: str | None = None,
    attn_implementation: str | None = None,
    **options: Any,
) -> LocalEngine:
    """Load the checkpoint `target` (a folder or a hub id) and start its engine; options as in `load` and `LocalEngine`."""
    loaded = load(target, device=device, dtype=dtype, conv_mode=conv_mode, attn_implementation=attn_implementation)
    return LocalEngine(loaded, **options)


class LocalEngine:
    """A loaded model behind the engine protocol.

    At most `max_batch` calls run together and `max_waiting` wait; one more raises `Overloaded`. While answers stream, prompts are read in
    chunks of `prefill_chunk` tokens; None sets it by the model's size. `kv_cache_gb` (GiB) holds the running calls' keys and values and
    those of images that were seen; None takes a share of what is free. `threads` sets how many processor cores torch uses (in the whole
    process). Raises `UserError`.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        max_batch: int = 32,
        max_waiting: int = 256,
        prefill_chunk: int | None = None,
        kv_cache_gb: float | None = None,
        threads: int | None = None,
    ) -> None:
        _check(max_batch=(max_batch, 1), max_waiting=(max_waiting, 0), prefill_chunk=(prefill_chunk, 1), threads=(threads, 1))
        if kv_cache_gb is not None and not kv_cache_gb > 0:
            raise UserError(f"kv_cache_gb is {kv_cache_gb!r}: give a number above 0.")
        if threads is not None:
            torch.set_num_threads(threads)
        self._loaded = loaded
        budget = default_budget(loaded.device) if kv_cache_gb is None else int(kv_cache_gb * GIB)
        batcher = batcher_for(loaded, max_batch, prefill_chunk or default_chunk(loaded), budget)
        self._runner, self._scheduler = batcher.runner, batcher.scheduler
        self._inbox: Inbox[Any] = Inbox(max_batch, max_waiting)
        # Prompts are prepared one after another, beside the model thread: reading an image takes as long as several tokens.
        self._preparing = ThreadPoolExecutor(1, "llava-prepare")
        self._thread = threading.Thread(target=_work, args=(batcher, self._inbox), name="llava-model", daemon=True)
        self._thread.start()
        # An engine that is dropped without `close`, or open at exit, takes its threads with it.
        self._finalizer = weakref.finalize(self, _stop, self._inbox, self._preparing, self._thread)

    @property
    def name(self) -> str:
        return self._loaded.name

    @property
    def computing(self) -> dict[str, str]:
        """Where it computes and in what precision, for records: both may have been left to it."""
        return {"device": str(self._loaded.device), "dtype": str(self._loaded.dtype).removeprefix("torch.")}

    @property
    def concurrency(self) -> int:
        """Calls at once that keep the batch full while some are still being prepared; few where all of a group are read as one."""
        most = self._scheduler.max_batch if isinstance(self._runner, SlotRunner) else min(self._scheduler.max_batch, CONCURRENCY)
        return most + min(most // 2, self._inbox.max_waiting)

    def stats(self) -> Stats:
        """Counters, as they are now. Any thread may ask."""
        running = len(self._scheduler.prefilling) + len(self._scheduler.decoding)
        return replace(self._runner.stats(), running=running, waiting=max(self._inbox.taken - running, 0))

    async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
        """The model's answer, token by token; see `Engine.stream`."""
        if not (self._thread.is_alive() or self._inbox.closed):
            raise EngineClosed("This engine was opened in another process, of which this one is a fork: open a new one here.")
        with self._inbox.place():
            try:
                preparing = asyncio.get_running_loop().run_in_executor(self._preparing, self._prepare, call)
            except RuntimeError:
                self._inbox.check_open()  # closed by another thread, just now
                raise
            job = Job(call, await preparing)
            self._inbox.put(job)
            try:
                while True:
                    delta = await job.receive()
                    yield delta
                    if delta.reply is not None:
                        return
            finally:
                self._inbox.cancel(job)

    def _prepare(self, call: Call) -> Any:
        self._inbox.check_open()
        try:
            prompt = self._runner.prepare(call)
        except LlavaError:
            raise
        except Exception as failure:
            raise explained(failure, self._loaded, call.step) from failure
        tokens, context = self._runner.prompt_tokens(prompt), self._loaded.context_len
        if tokens >= context:
            raise ContextTooLong(tokens, 1, context)
        return prompt

    async def close(self) -> None:
        """Fail what waits or runs with `EngineClosed` and wait for the model thread to end (within one step)."""
        if self._thread.is_alive():
            self._inbox.close()
        self._preparing.shutdown(wait=False)
        # Not `join` in an executor's thread: at exit there is no executor any more.
        while self._thread.is_alive():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def default_chunk(loaded: Loaded) -> int:
    """Prompt positions that a step may read: a small model reads many prompts in the time in which a large one reads a part of one."""
    weights: int = sum(weight.numel() for weight in loaded.model.get_decoder().parameters())
    return min(max(_STEP_OPERATIONS // (2 * weights), 256), 2048)


def batcher_for(loaded: Loaded, max_batch: int, chunk: int, budget: int) -> Batcher[Any]:
    """The right runner for the model, with its policy; `budget` in bytes."""
    if fits(loaded):
        return Batcher(loaded, SlotRunner(loaded, budget), Scheduler(max_batch, chunk))
    return Batcher(loaded, ForeignRunner(loaded), Scheduler(max_batch, None))  # prompts are read whole, all of a group at once


def _check(**values: tuple[int | None, int]) -> None:
    for name, (value, least) in values.items():
        if value is not None and value < least:
            raise UserError(f"{name} is {value}: give at least {least}.")


def _stop(inbox: Inbox[Any], preparing: ThreadPoolExecutor, thread: threading.Thread) -> None:
    if thread.is_alive():  # else it is closed, or another process's, of which this one is a fork: a lock may have come along locked
        inbox.close()
    preparing.shutdown(wait=False)
    if thread is not threading.current_thread():
        thread.join()


def _work(batcher: Batcher[Any], inbox: Inbox[Any]) -> None:
    """The model thread's life."""
    came: list[Job[Any]] = []
    try:
        while (jobs := inbox.take(wait=batcher.scheduler.idle)) is not None:
            came = jobs
            while came:
                batcher.add(came[0])
                del came[0]  # the thread may sleep for long: keep no images alive
            batcher.step()
    finally:  # whatever ends it, nobody waits for it in vain
        inbox.close()
        for job in came:
            job.send(EngineClosed("The engine was closed while the call waited."))
        batcher.close(lambda: EngineClosed("The engine was closed during the call."))
