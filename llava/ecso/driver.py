"""The one driver: it carries calls from a method to an engine and replies back, and tells what happens meanwhile.

Evaluation, gateway, web page and command line all fold over `events`, so they cannot disagree. It knows no prompt and decides
nothing: what is asked and what is released is the method's.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llava.chat import Call, Chat, Reply
from llava.ecso.defences import Method
from llava.ecso.steps import Outcome, Steps
from llava.ecso.trace import CHECKS, Step, Trace
from llava.errors import EngineError, UserError

if TYPE_CHECKING:
    from llava.engines.base import Engine


@dataclass(frozen=True, slots=True)
class Started:
    """A step begins."""

    call: Call


@dataclass(frozen=True, slots=True)
class Piece:
    """Text of the running step as it comes. It is not cleared: never show it to those whom the guard protects."""

    call: Call
    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """A step is done."""

    step: Step


@dataclass(frozen=True, slots=True)
class Done:
    """The method is done; nothing follows."""

    trace: Trace


Event = Started | Piece | Finished | Done


async def events(
    method: Method, ask: Chat, engine: Engine, draft: str | None = None, done: Sequence[Step] = (), *, whole: bool = False
) -> AsyncGenerator[Event, None]:
    """Run `method` on `ask`; `draft` is a candidate answer that takes the place of step 1, `done` are the first steps, if they are done
    already (by this method on this chat; else `UserError`): they are taken as they are, without asking the engine or telling of them.
    `whole`: nobody reads the pieces, and the engine is told so.

    Whatever the engine raises (`UserError`, `EngineError`) ends the method and goes to the caller: nothing is released then. Closing
    the generator, or cancelling the task that reads it, cancels the running call.
    """
    taken = list(done)
    with closing(method.steps(ask, draft)) as steps:
        try:
            call = _after(steps, taken)
            while True:
                yield Started(call)
                begin = time.perf_counter()
                reply = None
                async with aclosing(engine.stream(replace(call, whole=True) if whole else call)) as deltas:
                    async for delta in deltas:
                        if delta.text:
                            yield Piece(call, delta.text)
                        if delta.reply is not None:
                            reply = delta.reply
                            break
                taken.append(_step(method, call, reply, engine, time.perf_counter() - begin))
                yield Finished(taken[-1])
                call = steps.send(taken[-1].reply)
        except StopIteration as end:
            outcome: Outcome = end.value
    yield Done(Trace(ask, method, engine.name, tuple(taken), outcome, draft))


def upcoming(method: Method, ask: Chat, draft: str | None = None, done: Sequence[Step] = ()) -> Call | Outcome:
    """What `events` would ask the engine next, or what is released when nothing is left to ask; raises `UserError` and `EngineError`."""
    with closing(method.steps(ask, draft)) as steps:
        try:
            return _after(steps, done)
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome


def _after(steps: Steps, done: Sequence[Step]) -> Call:
    """The call that follows on `done`; raises `StopIteration` when none does."""
    call = next(steps)
    for step in done:
        if step.call != call:
            raise UserError("The steps that are done already belong to another chat or another method.")
        call = steps.send(step.reply)
    return call


def _step(method: Method, call: Call, reply: Reply | None, engine: Engine, seconds: float) -> Step:
    if reply is None:
        raise EngineError(f"The engine {engine.name} ended its stream without a reply.")
    return Step(call, reply, seconds, method.policy.verdict(reply) if call.step in CHECKS else None)


async def run(method: Method, ask: Chat, engine: Engine, draft: str | None = None) -> Trace:
    """The finished trace of one chat; raises what `events` raises."""
    async with aclosing(events(method, ask, engine, draft, whole=True)) as happening:
        async for event in happening:
            if isinstance(event, Done):
                return event.trace
    raise EngineError("The method ended without an outcome.")
