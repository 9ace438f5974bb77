"""What became of one sample under one method, as a row of records, and a row's replies as answers to the same calls.

A row holds only what is the same whenever the same is asked: prompts, replies, tokens, verdicts. Times and probabilities, whose last
digits depend on what else the machine did, go to a line of `measured.jsonl`. So an interrupted and resumed run has equal rows.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import asdict, replace
from typing import Any

from llava.chat import Call, Chat, Delta, Reply
from llava.ecso import Step, Trace
from llava.engines import Engine
from llava.errors import EngineError
from llava.eval.sample import Answers, Sample

Json = dict[str, Any]


def row_of(number: int, sample: Sample, trace: Trace) -> Json:
    """The row of a finished trace; `number` is the sample's place in the benchmark."""
    return {
        "id": sample.id,
        "number": number,
        "category": sample.category,
        "mode": sample.mode,
        "group": sample.group,
        "question": sample.question,
        "prompt": sample.prompt,
        "picture": sample.picture.name if sample.picture else None,
        "answer": trace.answer,
        "harmful": trace.harmful,
        "released": trace.released,
        "given": trace.given,
        "steps": [_step(step) for step in trace.steps],
        "images": {image.sha256: list(image.size) for step in trace.steps for image in step.call.chat.images},
        "meta": dict(sample.meta),
    }


def measured_of(sample: Sample, trace: Trace) -> Json:
    """What of the same trace differs from run to run: p(harmful), and each step's seconds (also where its reply was used again; None where
    it comes from an earlier run's row)."""
    seconds = [round(step.reply.seconds, 4) or None for step in trace.steps]
    steps = [
        {"step": step.name, "seconds": took, "p_harmful": step.verdict.p_harmful if step.verdict else None}
        for step, took in zip(trace.steps, seconds, strict=True)
    ]
    total = round(sum(filter(None, seconds)), 4) if all(seconds) else None
    return {"id": sample.id, "seconds": total, "p_harmful": trace.p_harmful, "steps": steps}


def answers_of(row: Json, model: str) -> Answers:
    """A row in the words of the original's answer files."""
    again = row["harmful"] is True
    return Answers(
        text=row["answer"],
        model=model,
        harmful=row["harmful"],
        draft=draft_of(row) if again else None,
        caption=said_in(row, "caption") if again else None,
        answer_id=hashlib.sha256(f"{model} {row['id']}".encode()).hexdigest()[:22],  # the original's are random, and as long
    )


def draft_of(row: Json) -> str | None:
    """A row's first answer, its own or the one that was given; None where the defence made none."""
    given: str | None = row["given"]
    return said_in(row, "answer") if given is None else given


def said_in(row: Json, step: str) -> str | None:
    """A row's last reply in a step; None where it has none."""
    return next((one["reply"] for one in reversed(row["steps"]) if one["step"] == step), None)


def tokens_in(row: Json, name: str) -> int | None:
    """A row's `prompt_tokens` or `completion_tokens`, of all steps; None where a server did not tell those of every call."""
    counts = [step[name] for step in row["steps"]]
    return None if None in counts else sum(counts)


def _step(step: Step) -> Json:
    reply = step.reply
    return {
        "step": step.name,
        **asked(step.call),
        "reply": reply.text,
        "finish_reason": reply.finish_reason,
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "harmful": step.verdict.harmful if step.verdict else None,
    }


def asked(call: Call) -> Json:
    """What a call asks, its images by hash."""
    return {"messages": _messages(call.chat), "sampling": asdict(call.sampling) | {"stop": list(call.sampling.stop)}}


def _messages(chat: Chat) -> list[Json]:
    return [{"role": m.role, "text": m.text, "images": [image.sha256 for image in m.images]} for m in chat.messages]


class Remembering:
    """An engine before which equal calls of one sample are asked once: defences that begin alike share their beginning.

    `rows` of the same sample answer too, but for checks: their log-probabilities are not in a row.
    """

    def __init__(self, engine: Engine, rows: Iterable[Json] = ()) -> None:
        self._engine = engine
        self._replies = {_key(step): _reply(step) for row in rows for step in row["steps"] if step["harmful"] is None}

    @property
    def name(self) -> str:
        return self._engine.name

    async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
        """The reply of an earlier call that asked the same, or the engine's. A reply's `seconds` are those of the engine's work."""
        key = _key(asked(call))
        if (known := self._replies.get(key)) is None:
            known = self._replies[key] = await self._ask(call)
        yield Delta(known.text, known)

    async def _ask(self, call: Call) -> Reply:
        begin = time.perf_counter()
        async with aclosing(self._engine.stream(call)) as deltas:
            async for delta in deltas:
                if delta.reply is not None:
                    return replace(delta.reply, seconds=time.perf_counter() - begin)
        raise EngineError(f"The engine {self.name} ended its stream without a reply.")

    async def close(self) -> None:
        """Nothing of its own; the engine stays open."""


def _key(step: Json) -> str:
    return json.dumps([step["messages"], step["sampling"]])


def _reply(step: Json) -> Reply:
    return Reply(step["reply"], step["prompt_tokens"], step["completion_tokens"], step["finish_reason"])
