"""The method on one chat, and which text of it may leave.

One fold over `ecso.events`, for streams and whole answers alike: nothing is handed on before the method is done (live.py is for mode `off`,
where nothing is checked). Knows no HTTP.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Literal

from llava.chat import Chat
from llava.ecso.defences import Method
from llava.ecso.driver import Done, Finished, Started, events
from llava.ecso.policy import Policy
from llava.ecso.trace import CHECKS, RELEASING, Step, Trace
from llava.engines.base import Engine
from llava.errors import EngineClosed, EngineError, EngineTimeout, NoLogprobs, Overloaded
from llava.serve.gateway.logprobs import Piece, spelled

Mode = Literal["guard", "shadow", "off"]
Verdict = Literal["safe", "regenerated", "blocked", "harmful", "unknown", "bypassed"]

# Mode -> defence. In shadow the draft is delivered whatever the check says, so that nothing need be made in its place.
DEFENCES: dict[Mode, str] = {"guard": "ecso", "shadow": "refuse", "off": "direct"}
_VERDICTS: dict[str, Verdict] = {"draft": "safe", "regenerated": "regenerated", "refusal": "blocked"}


class StepFailed(Exception):
    """A step ended with `error`; `steps` are those before it. None of their texts may leave."""

    def __init__(self, step: str, steps: tuple[Step, ...], error: Exception) -> None:
        super().__init__(step)
        self.step = step
        self.steps = steps
        self.error = error


@dataclass(frozen=True, slots=True)
class Decision:
    """`text` may leave, nothing else. `verdict`: safe, regenerated, blocked (`text` is the fixed refusal); in shadow safe, harmful or
    unknown (the check failed); bypassed where nothing was checked. `score` is p(harmful) of the draft, where the model tells it. `pieces`:
    the text with its tokens, where log-probabilities were asked for; a fixed refusal has none. `failed`: why the verdict is unknown."""

    text: str
    finish_reason: Literal["stop", "length", "content_filter"]
    verdict: Verdict
    score: float | None
    steps: tuple[Step, ...]
    pieces: tuple[Piece, ...] | None = None
    failed: StepFailed | None = None

    @property
    def blocked(self) -> bool:
        """Whether `text` is the policy's refusal."""
        return self.verdict == "blocked"


async def decide(mode: Mode, policy: Policy, ask: Chat, engine: Engine, seconds: float) -> Decision:
    """The decision on one chat within `seconds`; raises `StepFailed` for whatever goes wrong."""
    method = Method(DEFENCES[mode], policy)
    try:
        trace = await follow(method, ask, engine, seconds)
    except StepFailed as failed:
        if mode == "shadow" and failed.step in CHECKS:
            return replace(delivered(failed.steps, "unknown", None), failed=failed)
        raise
    if mode == "off":
        return delivered(trace.steps, "bypassed", None)
    if mode == "shadow":
        return delivered(trace.steps, "harmful" if trace.harmful else "safe", trace.p_harmful)
    return released(trace)


async def follow(method: Method, ask: Chat, engine: Engine, seconds: float, draft: str | None = None) -> Trace:
    """The finished trace within `seconds`; raises `StepFailed` with the step that was running.

    Nothing has left yet when a worker dies, in whichever step: the whole method is begun again then, once, unless the engine itself has
    asked again already. That is for what an engine cannot mend, such as an answer that breaks off in the middle.
    """
    end = asyncio.get_running_loop().time() + seconds
    try:
        return await _followed(method, ask, engine, draft, end)
    except StepFailed as failed:
        error = failed.error
        if not isinstance(error, EngineError) or error.tried_again or isinstance(error, Overloaded | EngineTimeout | EngineClosed):
            raise
    return await _followed(method, ask, engine, draft, end)


async def _followed(method: Method, ask: Chat, engine: Engine, draft: str | None, end: float) -> Trace:
    done: list[Step] = []
    running = "answer" if draft is None else "check"
    try:
        async with asyncio.timeout_at(end), aclosing(events(method, ask, engine, draft, whole=True)) as happening:
            async for event in happening:
                if isinstance(event, Started):
                    running = event.call.step
                elif isinstance(event, Finished):
                    done.append(event.step)
                elif isinstance(event, Done):
                    return event.trace
    except TimeoutError:
        raise StepFailed(running, tuple(done), EngineTimeout("The request took longer than all its steps may together.")) from None
    except Exception as error:  # whatever it is: what is not cleared must not leave
        raise StepFailed(running, tuple(done), error) from error
    raise StepFailed(running, tuple(done), EngineError("The method ended without an outcome."))


def released(trace: Trace) -> Decision:
    """What a finished guard lets out. Raises `StepFailed` for a trace without an outcome, and like `_pieces`."""
    if trace.outcome is None:
        raise StepFailed("check", trace.steps, EngineError("The method ended without an outcome."))
    verdict = _VERDICTS[trace.outcome.released]
    if verdict == "blocked":
        return Decision(trace.outcome.answer, "content_filter", verdict, trace.p_harmful, trace.steps)
    reason: Literal["stop", "length"] = "length" if trace.finish_reason == "length" else "stop"
    pieces = _pieces(trace.last(RELEASING[trace.outcome.released]), trace.steps)
    return Decision(trace.outcome.answer, reason, verdict, trace.p_harmful, trace.steps, pieces)


def delivered(steps: tuple[Step, ...], verdict: Verdict, score: float | None) -> Decision:
    """The draft, by the operator's wish."""
    draft = steps[0].reply
    reason: Literal["stop", "length"] = "length" if draft.finish_reason == "length" else "stop"
    return Decision(draft.text, reason, verdict, score, steps, _pieces(steps[0], steps))


def _pieces(said: Step | None, steps: tuple[Step, ...]) -> tuple[Piece, ...] | None:
    """The text of a step with its tokens, where they were asked for. Raises `StepFailed` when the engine's tokens are not those of its
    text: then the request cannot be answered as it is."""
    if said is None or said.call.sampling.logprobs is None:
        return None
    pieces = spelled(said.text, said.reply.tokens or ())
    if pieces is None:
        raise StepFailed("answer", steps, NoLogprobs())
    return pieces
