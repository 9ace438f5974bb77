"""Many samples through one engine at once: what succeeded is handed on as soon as it is there, what failed is tried again or told.

It knows no file: whoever runs it takes the traces, failures and unreadable pictures as they come (`Sink`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from llava.ecso import Trace, run
from llava.engines import Engine
from llava.errors import EngineClosed, EngineError, ImageError, LlavaError, Misconfigured, ModelLost, Overloaded, Unavailable, UnknownModel
from llava.eval.gate import Gate
from llava.eval.presets import Preset
from llava.eval.records import StorageError
from llava.eval.rows import Remembering
from llava.eval.sample import Sample

log = logging.getLogger(__name__)
ATTEMPTS = 3  # at one sample of which the engine fails
ROUNDS_WITHOUT_ROOM = 12  # attempts at a sample for which an engine has no room, minutes in all
STOP_AFTER = 20  # samples in a row of which the engine fails: nobody is there
LONGEST_PAUSE = 30.0  # seconds
FATAL = (Misconfigured, UnknownModel, EngineClosed, ModelLost, StorageError)  # all further samples would fail too


@dataclass(slots=True)
class Job:
    """A sample and the defences that it still lacks. `draft` is an answer from elsewhere; `rows` are its rows of an earlier run."""

    number: int
    sample: Sample
    defences: list[str]
    draft: str | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    attempts: int = 0
    memory: Remembering | None = None  # what the engine said so far, over all attempts


class Sink(Protocol):
    """Who takes what comes out."""

    def finished(self, job: Job, defence: str, trace: Trace) -> None:
        """One defence of a sample is done."""
        ...

    def failed(self, job: Job, error: Exception) -> None:
        """The sample's other defences will not come in this run."""
        ...

    def unreadable(self, job: Job, error: ImageError) -> None:
        """The sample has no picture that can be read."""
        ...

    def through(self, job: Job) -> None:
        """Nothing more comes of this sample."""
        ...


@dataclass(slots=True)
class Runner:
    """Runs jobs. `pause` is the first pause in seconds before another attempt; each further one is twice as long."""

    engine: Engine
    preset: Preset
    sink: Sink
    gate: Gate
    pause: float = 0.5
    _running: set[asyncio.Task[Job]] = field(default_factory=set)
    _jobs: dict[asyncio.Task[Job], Job] = field(default_factory=dict)
    _again: deque[Job] = field(default_factory=deque)
    _failures: int = 0  # in a row
    _answered: bool = False  # whether any sample was
    _nobody: Unavailable | None = None

    async def run(self, jobs: Iterable[Job]) -> None:
        """All of them. Raises what is `FATAL`, `EngineError` when the engine fails `STOP_AFTER` samples in a row or was there for none, and
        what the sink raises at a failed sample or an unreadable picture."""
        waiting = iter(jobs)
        try:
            while self._fill(waiting):
                done, _ = await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    self._take(task)
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)
        if self._nobody and not self._answered:
            raise self._nobody

    def _fill(self, waiting: Iterator[Job]) -> bool:
        """Begin as many as there is room for; whether any is under way."""
        while len(self._running) < self.gate.limit:
            job = self._again.popleft() if self._again else next(waiting, None)
            if job is None:
                break
            task = asyncio.create_task(self._attempt(job))
            self._running.add(task)
            self._jobs[task] = job
        return bool(self._running)

    async def _attempt(self, job: Job) -> Job:
        if job.attempts:
            await asyncio.sleep(min(self.pause * 2 ** (job.attempts - 1), LONGEST_PAUSE))
        job.attempts += 1
        sample = job.sample
        chat = await asyncio.to_thread(sample.chat)  # reading a picture takes as long as several tokens
        engine = job.memory = job.memory or Remembering(self.engine, job.rows)
        while job.defences:
            defence = job.defences[0]
            method = await asyncio.to_thread(self.preset.method, defence, sample, chat)
            self.sink.finished(job, defence, await run(method, chat, engine, job.draft))
            del job.defences[0]
        return job

    def _take(self, task: asyncio.Task[Job]) -> None:
        """Note what became of a job."""
        self._running.remove(task)
        job, error = self._jobs.pop(task), task.exception()
        if error is None:
            self._failures, self._answered = 0, True
            self.gate.finished(time.monotonic())
        elif isinstance(error, ImageError):
            self.sink.unreadable(job, error)
        elif isinstance(error, FATAL) or not isinstance(error, Exception):
            raise error
        elif self._worth_another(job, error):
            self._again.append(job)
            return
        else:
            self._fail(job, error)
        self.sink.through(job)

    def _worth_another(self, job: Job, error: Exception) -> bool:
        if isinstance(error, Overloaded):
            self.gate.overloaded(len(self._running))
            return job.attempts < ROUNDS_WITHOUT_ROOM
        return isinstance(error, EngineError) and job.attempts < ATTEMPTS

    def _fail(self, job: Job, error: Exception) -> None:
        if not isinstance(error, LlavaError):  # a defect of ours: told, but no reason to lose all other samples
            log.error("the sample %s failed", job.sample.id, exc_info=error)
        self.sink.failed(job, error)
        if isinstance(error, Unavailable):
            self._nobody = error
        self._failures = self._failures + 1 if isinstance(error, EngineError) else 0
        if self._failures >= STOP_AFTER:
            raise EngineError(
                f"The last {STOP_AFTER} samples failed, the last one with: {error} Mend it and run the same command."
            ) from error
