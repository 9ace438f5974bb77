"""The local engine: any number of event loops hand their calls to its model threads.

Knows when a call comes, who reads it and how it ends; what is computed in which order is the business of `batcher`.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import torch

from llava.chat import Call, Delta
from llava.engines.base import CONCURRENCY
from llava.engines.local import cores
from llava.engines.local.batcher import explained
from llava.engines.local.inbox import Inbox, Job
from llava.engines.local.lanes import begin, lanes_for
from llava.engines.local.memory import GIB, Stats
from llava.engines.local.runner import SlotRunner
from llava.errors import ContextTooLong, EngineClosed, LlavaError, UserError
from llava.model.builder import load
from llava.model.loaded import Loaded


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
    with cores.one():
        loaded = load(target, device=device, dtype=dtype, conv_mode=conv_mode, attn_implementation=attn_implementation)
    return LocalEngine(loaded, **options)


class LocalEngine:
    """A loaded model behind the engine protocol.

    At most `max_batch` calls run together and `max_waiting` wait; one more raises `Overloaded`. While answers stream, prompts are read in
    chunks of `prefill_chunk` tokens; None sets it by the model's size. `kv_cache_gb` (GiB) holds the running calls' keys and values and
    those of images that were seen; None takes what its calls can fill, no more than a share of what is free. `threads` sets how many
    processor cores torch uses (in the whole process). Raises `UserError`.
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
        budget = None if kv_cache_gb is None else int(kv_cache_gb * GIB)
        lanes = lanes_for(loaded, max_batch, prefill_chunk, budget)
        self._schedulers, self._runner = [lane.scheduler for lane in lanes], lanes[0].runner
        self._max_batch = max_batch
        self._inbox: Inbox[Any] = Inbox([one.max_batch for one in self._schedulers], max_waiting)
        # Prompts are prepared one after another, beside the model threads: reading an image takes as long as several tokens.
        self._preparing = ThreadPoolExecutor(1, "llava-prepare", cores.use, (1, torch.get_num_threads()))
        self._threads = begin(lanes, self._inbox)
        # An engine that is dropped without `close`, or open at exit, takes its threads with it.
        self._finalizer = weakref.finalize(self, _stop, self._inbox, self._preparing, self._threads)

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
        most = self._max_batch if isinstance(self._runner, SlotRunner) else min(self._max_batch, CONCURRENCY)
        return most + min(most // 2, self._inbox.max_waiting)

    def stats(self) -> Stats:
        """Counters, as they are now. Any thread may ask."""
        running = sum(len(one.prefilling) + len(one.decoding) for one in self._schedulers)
        return replace(self._runner.stats(), running=running, waiting=max(self._inbox.taken - running, 0))

    async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
        """The model's answer, token by token; see `Engine.stream`."""
        asked = time.monotonic()
        if not (_alive(self._threads) or self._inbox.closed):
            raise EngineClosed("This engine was opened in another process, of which this one is a fork: open a new one here.")
        with self._inbox.place():
            try:
                preparing = asyncio.get_running_loop().run_in_executor(self._preparing, self._prepare, call)
            except RuntimeError:
                self._inbox.check_open()  # closed by another thread, just now
                raise
            job = Job(call, await preparing, asked)
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
        """Fail what waits or runs with `EngineClosed` and wait for the model threads to end (within one step)."""
        if _alive(self._threads):
            self._inbox.close()
        self._preparing.shutdown(wait=False)
        # Not `join` in an executor's thread: at exit there is no executor any more.
        while _alive(self._threads):  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def _check(**values: tuple[int | None, int]) -> None:
    for name, (value, least) in values.items():
        if value is not None and value < least:
            raise UserError(f"{name} is {value}: give at least {least}.")


def _stop(inbox: Inbox[Any], preparing: ThreadPoolExecutor, threads: list[threading.Thread]) -> None:
    if _alive(threads):  # else it is closed, or another process's, of which this one is a fork: a lock may have come along locked
        inbox.close()
    preparing.shutdown(wait=False)
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join()


def _alive(threads: list[threading.Thread]) -> bool:
    return any(thread.is_alive() for thread in threads)
