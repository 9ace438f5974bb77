"""The gateway without HTTP: parsed bodies in, finished results out. It alone calls engines, and only through the guard.

What a request needs is kept here and nowhere else: the engines by model name, the queue before them, the pool that decodes images, the
counters and the audit log. Knows no route and no header.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from llava.chat import Chat
from llava.deadlines import Deadlines
from llava.ecso.defences import Method
from llava.ecso.policy import GUARD, Policy
from llava.ecso.prompts import Prompts
from llava.ecso.trace import Step, Trace
from llava.engines.base import Engine
from llava.engines.timed import Timed
from llava.errors import UnknownModel, UserError
from llava.serve.admission import Admission
from llava.serve.gateway.audit import AuditLog
from llava.serve.gateway.content import Limits
from llava.serve.gateway.decide import DEFENCES, Decision, Mode, StepFailed, decide, follow
from llava.serve.gateway.failures import GuardUnavailable, answer_failed, report, waiting
from llava.serve.gateway.live import as_it_comes
from llava.serve.gateway.metrics import Metrics
from llava.serve.gateway.reading import DIRECT, Allowed, Asked, Reader, wants_usage
from llava.serve.gateway.remote import Remote
from llava.serve.gateway.render import Completion, Events, event
from llava.serve.gateway.schema import SEEDS
from llava.serve.gateway.tasks import together
from llava.serve.health import MOST, Health
from llava.serve.refusal import Refusal

log = logging.getLogger(__name__)
STEP = Deadlines(total=120.0)  # of one step
LEFT = 499  # the status of a request whose client has left, as the counters have it
_PROMPTS = Prompts()


@dataclass(frozen=True, slots=True)
class Config:
    """What the operator decides. `policy.answer` is the sampling of requests that do not say; `seconds` are those of one request, all steps
    together, and `deadlines` those of one step."""

    mode: Mode = "guard"
    allow_override: bool = False
    policy: Policy = GUARD
    limits: Limits = field(default_factory=Limits)
    remote: Remote | None = None  # which images are fetched by address; none
    seconds: float = 180.0
    deadlines: Deadlines = STEP
    most_running: int = 64
    most_waiting: int = 256
    patience: float = 30.0
    behind: str | None = None  # the engine's target, told to those who may read the metrics
    self_test: bool = True  # check one harmless answer at the start, before the gateway calls itself ready
    model_here: bool = False  # in this process, which has to end when the model has failed for good


class Service:
    """A guarding gateway over `engines` (model name -> engine), which stay their maker's to close."""

    def __init__(self, engines: Mapping[str, Engine], config: Config | None = None, audit: AuditLog | None = None) -> None:
        self.config = config or Config()
        self.engines = {name: Timed(engine, self.config.deadlines) for name, engine in engines.items()}
        self.metrics = Metrics()
        self.admission = Admission(self.config.most_running, self.config.most_waiting, self.config.patience)
        self.health = Health(self._self_test if self.config.self_test else None, most=MOST if self.config.model_here else math.inf)
        self.created = int(time.time())
        self._audit = audit
        allowed = Allowed(self.config.mode, self.config.allow_override, self.config.limits, self.config.remote)
        self._reader = Reader(allowed, self.engines, self.metrics)

    def models(self) -> list[str]:
        """The names that a request may ask for."""
        return [name + end for name in self.engines for end in (("", DIRECT) if self.config.allow_override else ("",))]

    def modes(self) -> list[Mode]:
        """The guard's modes that a request may ask for."""
        return list(DEFENCES) if self.config.allow_override else [self.config.mode]

    async def ask(self, data: dict[str, Any], small: bool = False) -> Asked:
        """A chat request, read; raises `Refusal`, and `Overloaded` where too many wait already. As of all requests, it is read before a
        place is waited for: to be told no, nobody waits."""
        with self.admission.entry():
            return await self._reader.ask(data, small)

    async def complete(self, asked: Asked, request_id: str) -> Completion:
        """Answer a chat request; raises `Refusal` and `Overloaded`."""
        begin, name = time.monotonic(), asked.name
        async with self.admission.turn():
            self.metrics.queue.observe(time.monotonic() - begin)
            ask = await self._reader.chat(asked.request.messages, asked.small)
            policy = self.config.policy.answering(**asked.sampling)
            with self._ending("chat", name, ask, request_id, mode=asked.mode):
                decisions = await self._decisions(asked.request.n or 1, asked.mode, policy, ask, self.engines[name])
            for failed in filter(None, (each.failed for each in decisions)):
                self._doubted(failed, request_id)
            completion = replace(_empty(asked, policy), decisions=decisions)
            self._count(completion, name, time.monotonic() - begin)
            self._record(request_id, "chat", name, ask, mode=asked.mode, status=200, choices=[self._choice(each) for each in decisions])
        return completion

    async def live(self, asked: Asked, request_id: str) -> AsyncGenerator[bytes, None]:
        """The events of the answer to a request that is `live`; raises `Refusal` and `Overloaded`, also in the middle."""
        begin, name = time.monotonic(), asked.name
        async with self.admission.turn():
            self.metrics.queue.observe(time.monotonic() - begin)
            ask = await self._reader.chat(asked.request.messages, asked.small)
            policy = self.config.policy.answering(**asked.sampling)
            completion, said, recorded = _empty(asked, policy), list[str](), False
            first: float | None = None
            stream = Events(completion, wants_usage(asked.request))
            try:
                async with aclosing(as_it_comes(policy, ask, self.engines[name], self.config.seconds)) as coming:
                    async for piece in coming:
                        if isinstance(piece, Decision):
                            completion = replace(completion, decisions=(piece,))
                            break
                        first = first or time.monotonic() - begin
                        said.append(piece)
                        yield stream.said(piece) if len(said) > 1 else stream.began() + stream.said(piece)
                self._count(completion, name, time.monotonic() - begin, first)
                choices = [self._choice(each) for each in completion.decisions]
                recorded = True
                self._record(request_id, "chat", name, ask, mode="off", status=200, choices=choices)
                yield (b"" if said else stream.began()) + stream.ended(completion)
            except StepFailed as failed:
                recorded = True
                refusal = self._failed(failed, "chat", name, ask, request_id, mode="off", **self._left(said))
                if said:
                    yield event(refusal.body())
                raise refusal from None
            finally:
                if not recorded:  # the client has left
                    self._record(request_id, "chat", name, ask, mode="off", status=LEFT, **self._left(said))

    async def check(self, data: dict[str, Any], request_id: str, small: bool = False) -> Trace:
        """Judge a candidate answer; raises `Refusal` and `Overloaded`. The trace ends with a safe answer where one was asked for and is
        needed."""
        with self.admission.entry():
            request, name = await self._reader.check(data, small)
        async with self.admission.turn():
            ask = await self._reader.chat(request.messages, small)
            (trace,) = await self._judged(name, ask, [request.answer], "ecso" if request.safe_answer else "refuse", request_id)
        return trace

    async def moderate(self, data: dict[str, Any], request_id: str, small: bool = False) -> tuple[str, list[Trace]]:
        """Judge one or several texts; raises `Refusal` and `Overloaded`. Gives the model's name and a trace for each."""
        with self.admission.entry():
            name, texts, messages = await self._reader.moderation(data, small)
        async with self.admission.turn():
            ask = await self._reader.chat(messages, small)
            return name, await self._judged(name, ask, texts, "refuse", request_id)

    def close(self) -> None:
        """Let go of the pool and the audit log."""
        self._reader.close()
        if self._audit is not None:
            self._audit.close()

    async def _decisions(self, count: int, mode: Mode, policy: Policy, ask: Chat, engine: Engine) -> tuple[Decision, ...]:
        seed = policy.answer.seed
        policies = [policy if seed is None else policy.answering(seed=_seed(seed + index)) for index in range(count)]
        return tuple(await together([decide(mode, each, ask, engine, self.config.seconds) for each in policies]))

    async def _judged(self, name: str, ask: Chat, answers: Sequence[str], defence: str, request_id: str) -> list[Trace]:
        method, engine, seconds = Method(defence, self.config.policy), self.engines[name], self.config.seconds
        with self._ending("check", name, ask, request_id, judged=[self._judgement(answer) for answer in answers]):
            traces = await together([follow(method, ask, engine, seconds, answer) for answer in answers])
        for trace in traces:
            self._count_steps(trace.steps, name)
            self.metrics.verdicts.add(verdict="harmful" if trace.harmful else "safe", policy=self.config.policy.name, mode="check")
        judged = [self._judgement(answer, trace) for answer, trace in zip(answers, traces, strict=True)]
        self._record(request_id, "check", name, ask, status=200, judged=judged)
        return traces

    @contextmanager
    def _ending(self, route: str, name: str, ask: Chat, request_id: str, **more: Any) -> Iterator[None]:
        """How a request ends that gets no answer: with a `Refusal` where a step fails; and in the audit log, also where its client left."""
        try:
            yield
        except StepFailed as failed:
            raise self._failed(failed, route, name, ask, request_id, **more) from None
        except asyncio.CancelledError:
            self._record(request_id, route, name, ask, status=LEFT, **more)
            raise

    def _failed(self, failed: StepFailed, route: str, name: str, ask: Chat, request_id: str, **more: Any) -> Refusal:
        error = failed.error
        self._doubted(failed, request_id)
        if failed.step == "answer":
            refusal = answer_failed(error)
            self.metrics.upstream.add(code=refusal.code or "")
        else:
            # A controller whose workers have left knows a model no more that was there for the answer.
            refusal = GuardUnavailable(isinstance(error, UnknownModel) or not isinstance(error, UserError), waiting(error))
            self.metrics.unavailable.add(step=failed.step)
        self._record(request_id, route, name, ask, status=refusal.status, **_why(failed), **more)
        return refusal

    def _doubted(self, failed: StepFailed, request_id: str) -> None:
        """Whatever became of the request: a step failed, and whether the engine works is to be found out."""
        report(failed.step, failed.error, request_id)
        self.health.failed(failed.error)

    # -- what those who run the gateway see

    def _count(self, completion: Completion, name: str, seconds: float, first: float | None = None) -> None:
        metrics, policy = self.metrics, completion.policy
        self._count_steps(completion.steps, name)
        metrics.first_token.observe(first or seconds, model_name=name)
        metrics.latency.observe(seconds, model_name=name)
        for decision in completion.decisions:
            metrics.success.add(model_name=name, finished_reason=decision.finish_reason)
            metrics.verdicts.add(verdict=decision.verdict, policy=policy, mode=completion.mode)
            if decision.score is not None:
                metrics.scores.observe(decision.score)

    def _count_steps(self, steps: Sequence[Step], name: str) -> None:
        for step in steps:
            self.metrics.steps.observe(step.seconds, step=step.name)
            self.metrics.prompt_tokens.add(step.reply.prompt_tokens or 0, model_name=name)
            self.metrics.generation_tokens.add(step.reply.completion_tokens or 0, model_name=name)

    def _record(self, request_id: str, route: str, name: str, ask: Chat, **fields: Any) -> None:
        """A line of the audit log. A log that cannot be written does not stop the service: it is counted and told."""
        if self._audit is None:
            return
        method = {"policy": self.config.policy.name, "prompts": _PROMPTS.sha256}
        try:
            self._audit.write(id=request_id, route=route, model=name, method=method, chat=self._audit.chat(ask), **fields)
        except OSError as error:
            self.metrics.audit_failures.add()
            log.error("the audit log cannot be written: %s", error.strerror or "a line is incomplete")

    def _choice(self, decision: Decision) -> dict[str, Any]:
        if self._audit is None:
            return {}
        choice = {
            "verdict": decision.verdict,
            "score": decision.score,
            "released": self._audit.text(decision.text),
            "steps": self._audit.steps(decision.steps),
        }
        return choice if decision.failed is None else choice | _why(decision.failed)

    def _judgement(self, answer: str, trace: Trace | None = None) -> dict[str, Any]:
        if self._audit is None:
            return {}
        said: dict[str, Any] = {"candidate": self._audit.text(answer)}
        if trace is not None:
            said |= {"harmful": trace.harmful, "steps": self._audit.steps(trace.steps)}
            if trace.method.defence == "ecso" and trace.harmful:
                said["released"] = self._audit.text(trace.answer or "")
        return said

    def _left(self, said: list[str]) -> dict[str, Any]:
        """What of an answer has left that did not come to its end."""
        return {} if self._audit is None or not said else {"released": self._audit.text("".join(said))}

    async def _self_test(self) -> None:
        """One check of a harmless answer with each engine; raises what the engine raises."""
        for engine in self.engines.values():
            method, ask = Method("refuse", self.config.policy), Chat.ask("What is two and two?")
            try:
                await follow(method, ask, engine, self.config.seconds, "Four.")
            except StepFailed as failed:
                raise failed.error from None


def _why(failed: StepFailed) -> dict[str, str]:
    """A failure as the audit log keeps it."""
    return {"failed_step": failed.step, "error": type(failed.error).__name__}


def _empty(asked: Asked, policy: Policy) -> Completion:
    """A completion of which nothing is decided yet."""
    request, number = asked.request, f"chatcmpl-{secrets.token_hex(12)}"
    return Completion(number, int(time.time()), request.model, asked.mode, policy.name, (), request.guard.report)


def _seed(number: int) -> int:
    """The seed of that number: behind the last one stands the first."""
    return SEEDS.start + (number - SEEDS.start) % (SEEDS.stop - SEEDS.start)
