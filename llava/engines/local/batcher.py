"""Joins policy and arithmetic: one `step` lets calls in, reads prompts, says one token of every answer, and sends what was said.

A failure ends the calls that took part in what failed, and no others. Runs on the model thread; knows no tensor but logits.
"""

from __future__ import annotations

import copy
import logging
import math
import traceback
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Generic, ParamSpec, Protocol, TypeVar

import torch
from torch import Tensor

from llava.chat import Call, Delta
from llava.engines.local.answer import Answer
from llava.engines.local.inbox import Job, P, deliver
from llava.engines.local.logprobs import Spell, TokenLog, speller
from llava.engines.local.memory import Stats, is_out_of_memory
from llava.engines.local.scheduler import Admission, Scheduler
from llava.engines.local.text import remembered
from llava.errors import EngineError, LlavaError, ModelLost
from llava.model.loaded import Loaded

log = logging.getLogger(__name__)
T = TypeVar("T")
A = ParamSpec("A")


class Runner(Protocol[P]):
    """Who computes. `prepare` is called on another thread than all else."""

    def prepare(self, call: Call) -> P: ...

    def prompt_tokens(self, prompt: P) -> int: ...

    def start(self, answer: Answer[P]) -> Admission: ...

    def prefill(self, group: Sequence[tuple[Answer[P], int]]) -> Tensor: ...

    def decode(self) -> tuple[list[Answer[P]], Tensor]: ...

    def stop(self, answer: Answer[P]) -> None: ...

    def free(self) -> None: ...

    def stats(self) -> Stats: ...


class Batcher(Generic[P]):
    """The calls of one engine, from their coming to their end."""

    def __init__(self, loaded: Loaded, runner: Runner[P], scheduler: Scheduler[Answer[P]]) -> None:
        self._loaded = loaded
        self._decode = remembered(loaded.decode)
        self.runner = runner
        self.scheduler = scheduler
        self._said: list[tuple[Job[P], Delta | Exception]] = []

    @cached_property
    def _spell(self) -> Spell:
        return speller(self._loaded.tokenizer)

    def add(self, job: Job[P]) -> Answer[P]:
        """A call that has come; it waits for its turn."""
        wanted = job.call.sampling.logprobs
        log = None if wanted is None else TokenLog(wanted, self._spell)
        answer = Answer(job, self._loaded, self.runner.prompt_tokens(job.prompt), self._decode, log)
        self.scheduler.waiting.append(answer)
        return answer

    def accept(self, job: Job[P]) -> None:
        """`add`; what fails in it is told to that call's reader."""
        try:
            self.add(job)
        except Exception as failure:  # noqa: BLE001 - logged and told by `explained`
            self._said.append((job, explained(failure, self._loaded, job.call.step)))

    def step(self) -> bool:
        """One round of everything; whether there was anything that could be done."""
        scheduler = self.scheduler
        dropped = self._drop_cancelled()
        scheduler.admit(self._start)
        if group := scheduler.chunks():
            self._attempt([answer for answer, _ in group], self._prefill, group)
            self._send()  # whoever is done with the first token asks the next thing while the others decode
            self._drop_cancelled()  # reading a prompt takes a while
        if scheduler.decoding:
            self._attempt(scheduler.decoding, self._decode_all)
        worked = bool(dropped or group or scheduler.decoding or self._said)
        self._send()
        return worked

    def _drop_cancelled(self) -> int:
        cancelled = [answer for answer in (*self.scheduler.waiting, *self.scheduler.running) if answer.job.cancelled]
        for answer in cancelled:
            self._end(answer)
        return len(cancelled)

    def close(self, error: Callable[[], LlavaError]) -> None:
        """Fail everything that waits or runs, and free what it holds. Nothing comes after it."""
        self._said += [(answer.job, error()) for answer in (*self.scheduler.waiting, *self.scheduler.running)]
        self._send()
        self.scheduler.clear()
        self.runner.free()

    def _send(self) -> None:
        deliver(self._said)
        self._said = []

    def _start(self, answer: Answer[P]) -> Admission:
        return self._attempt([answer], self.runner.start, answer) or Admission.REFUSED

    def _prefill(self, group: list[tuple[Answer[P], int]]) -> None:
        logits = self.runner.prefill(group)
        done = [i for i, (answer, _) in enumerate(group) if answer.filled == answer.prompt_tokens]
        for i in done:
            self.scheduler.prompt_done(group[i][0])
        if done:
            self._say([group[i][0] for i in done], logits[done])

    def _decode_all(self) -> None:
        self._say(*self.runner.decode())

    def _say(self, answers: Sequence[Answer[P]], logits: Tensor) -> None:
        """The next token of each, from `logits` (N, vocabulary). What fails here is one call's own: a strange token, no number."""
        likeliest = logits.argmax(-1)
        best: list[float] = logits.gather(-1, likeliest[:, None])[:, 0].tolist()
        for answer, token, number, row in zip(answers, likeliest.tolist(), best, logits, strict=True):
            self._attempt([answer], self._say_one, answer, token, number, row)

    def _say_one(self, answer: Answer[P], likeliest: int, best: float, logits: Tensor) -> None:
        if not math.isfinite(best):
            answer.odd = True
            raise EngineError(
                f"The model {self._loaded.name} gave no number for its next word. In {logits.dtype} large values run over: load it with "
                "another dtype, such as float32 or bfloat16. Where that does not help, its weights are damaged."
            )
        delta = answer.say(likeliest if answer.sampler.greedy else answer.sampler.pick(logits), logits)
        if delta.text or delta.reply is not None:
            self._said.append((answer.job, delta))
        if delta.reply is not None:
            self._end(answer)

    def _end(self, answer: Answer[P]) -> None:
        self.scheduler.remove(answer)
        self.runner.stop(answer)

    def _attempt(self, answers: Sequence[Answer[P]], work: Callable[A, T], *args: A.args, **named: A.kwargs) -> T | None:
        """`work(...)`; what fails in it ends these answers, and gives None."""
        answers = list(answers)
        try:
            return work(*args, **named)
        except Exception as failure:  # noqa: BLE001 - logged and told to every reader by `explained`
            error = explained(failure, self._loaded, answers[0].job.call.step)
            if error.__cause__ is not None and takes_no_work(self._loaded.device):
                error = ModelLost(
                    f"{error} Its device {self._loaded.device} takes no work any more until this process ends: start it again."
                )
                error.__cause__ = failure
        self._said += [(answer.job, _another(error)) for answer in answers]  # first: what cannot compute cannot free rows either
        for answer in answers:
            self._end(answer)
        return None


def _another(error: LlavaError) -> LlavaError:
    """The same error for one more reader: raising it hangs frames on it, and with them that reader's chat and images."""
    other = copy.copy(error)
    other.__cause__ = error.__cause__
    return other


def takes_no_work(device: torch.device) -> bool:
    """Whether nothing at all can be computed there: after some errors, such as an illegal access, a GPU refuses all work of its process.

    For the model thread only: on another one it could disturb the capture of a graph.
    """
    try:
        torch.zeros(1, device=device).item()
    except torch.OutOfMemoryError:
        return False
    except RuntimeError:
        return True
    return False


def explained(failure: Exception, loaded: Loaded, step: str) -> LlavaError:
    """What a caller is told of a failure: itself where it is ours, else that memory has run out, or that the model failed."""
    if isinstance(failure, LlavaError):
        return failure
    traceback.clear_frames(failure.__traceback__)  # they hold tensors, and a reader may keep the error for long
    if is_out_of_memory(failure):
        if loaded.device.type == "cuda":
            torch.cuda.empty_cache()
        # Without its cause: that one's traceback would keep the tensors alive.
        return EngineError(f"Out of memory on {loaded.device}: ask for less (fewer or smaller images, a shorter text).")
    log.error("%s failed in step %s", loaded.name, step, exc_info=failure)
    error = EngineError(f"The model {loaded.name} failed: {type(failure).__name__}.")
    error.__cause__ = failure
    return error
