"""A finished result in OpenAI's form: one object, or a stream of chunks. Both are written from the same `Completion`, after it is done.

Data to bytes: knows no engine and no HTTP.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llava import __version__
from llava.ecso.trace import Step
from llava.serve.gateway.decide import Decision, Mode
from llava.serve.gateway.logprobs import told

Json = dict[str, Any]
_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_PIECES = re.compile(r"\S*\s+|\S+")
DONE = b"data: [DONE]\n\n"
# What JSON leaves as it is, and some clients take for the end of an event's line.
_LINE_ENDS = tuple((character, f"\\u{ord(character):04x}") for character in "\x85\u2028\u2029")


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished request. `model` is the name that the client asked for; `report`: whether it asked for the `guard` object."""

    id: str
    created: int
    model: str
    mode: Mode
    policy: str
    decisions: tuple[Decision, ...]
    report: bool = False

    @property
    def steps(self) -> list[Step]:
        """Of all decisions."""
        return [step for decision in self.decisions for step in decision.steps]


def whole(completion: Completion) -> bytes:
    """The `chat.completion`."""
    choices = [
        {"index": index, "message": _message(decision), "finish_reason": decision.finish_reason, "logprobs": _logprobs(decision)}
        for index, decision in enumerate(completion.decisions)
    ]
    counted = usage(completion.steps)
    told = {"choices": choices} | ({} if counted is None else {"usage": counted})
    return _dump(_frame(completion, "chat.completion") | told | _report(completion))


def streamed(completion: Completion, include_usage: bool) -> bytes:
    """The same as events: all chunks, then `[DONE]`."""
    stream = Events(completion, include_usage)
    spoken = [event for index, decision in enumerate(completion.decisions) for event in stream.spoken(index, decision)]
    return b"".join(spoken) + stream.ended(completion)


class Events:
    """The chunks of a stream. An answer that is not held may be written as it comes: `began`, each piece with `said`, then `ended`."""

    def __init__(self, completion: Completion, include_usage: bool) -> None:
        self._include_usage = include_usage
        self._frame = _frame(completion, "chat.completion.chunk") | ({"usage": None} if include_usage else {})

    def spoken(self, index: int, decision: Decision) -> Iterator[bytes]:
        """All of one answer but its end."""
        yield self.began(index)
        for delta, tokens in _deltas(decision):
            yield self._event(_choice(index, delta, logprobs=tokens))

    def began(self, index: int = 0) -> bytes:
        """The first chunk of an answer."""
        return self._event(_choice(index, {"role": "assistant", "content": "", "refusal": None}))

    def said(self, text: str) -> bytes:
        """A piece of the only answer."""
        return self._event(_choice(0, {"content": text}))

    def ended(self, completion: Completion) -> bytes:
        """How all answers end, the usage where it was asked for, and `[DONE]`."""
        *others, last = (_choice(index, {}, decision.finish_reason) for index, decision in enumerate(completion.decisions))
        ends = [*others, last | _report(completion)]
        counted = usage(completion.steps) if self._include_usage else None
        return b"".join(map(self._event, [*ends, *([{"choices": [], "usage": counted}] if counted else [])])) + DONE

    def _event(self, fields: Json) -> bytes:
        return event(self._frame | fields)


def event(fields: Json) -> bytes:
    """One event of a stream."""
    return b"data: " + _dump(fields) + b"\n\n"


def headers(completion: Completion) -> dict[str, str]:
    """Which guard ran, what it said of each choice, how long each kind of step took (milliseconds)."""
    said = completion.decisions
    fields = {
        "x-llava-guard": guard_name(completion.mode, completion.policy),
        "x-llava-guard-verdict": ", ".join(decision.verdict for decision in said),
        "server-timing": timing(completion.steps),
    }
    if any(decision.score is not None for decision in said):
        fields["x-llava-guard-score"] = ", ".join(score(decision.score) for decision in said)
    return fields


def promised(mode: Mode, policy: str) -> dict[str, str]:
    """The headers of an answer that goes out as it comes: nothing is checked, and no time is known yet."""
    return {"x-llava-guard": guard_name(mode, policy), "x-llava-guard-verdict": "bypassed"}


def guard_name(mode: Mode, policy: str) -> str:
    """`ecso/VERSION; mode=guard; policy=guard`."""
    return f"ecso/{__version__}; mode={mode}; policy={policy}"


def score(value: float | None) -> str:
    """p(harmful) for a header."""
    return "unknown" if value is None else f"{value:.4f}"


def timing(steps: Sequence[Step]) -> str:
    """`answer;dur=12.3, check;dur=4.5`."""
    seconds: dict[str, float] = {}
    for step in steps:
        seconds[step.name] = seconds.get(step.name, 0.0) + step.seconds
    return ", ".join(f"{name};dur={1000 * spent:.1f}" for name, spent in seconds.items())


def usage(steps: Sequence[Step]) -> Json | None:
    """Tokens of all steps together; None where the engine did not count them all, for a part would pass for the whole."""
    prompt = said = 0
    for step in steps:
        if step.reply.prompt_tokens is None or step.reply.completion_tokens is None:
            return None
        prompt += step.reply.prompt_tokens
        said += step.reply.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}


def step_rows(steps: Sequence[Step]) -> list[Json]:
    """The steps without any of their texts."""
    return [
        {
            "step": step.name,
            "seconds": round(step.seconds, 4),
            "usage": usage([step]),
            "harmful": step.verdict and step.verdict.harmful,
            "p_harmful": step.verdict and step.verdict.p_harmful,
        }
        for step in steps
    ]


def _report(completion: Completion) -> Json:
    if not completion.report:
        return {}
    choices = [
        {"index": index, "verdict": decision.verdict, "score": decision.score, "steps": step_rows(decision.steps)}
        for index, decision in enumerate(completion.decisions)
    ]
    return {"guard": {"mode": completion.mode, "policy": completion.policy, "version": __version__, "choices": choices}}


def _deltas(decision: Decision) -> Iterator[tuple[Json, Json | None]]:
    """Each piece of the text, with the `logprobs` that belong to it."""
    if decision.blocked:  # in one piece, so that no client takes its two fields for two texts
        yield {"content": decision.text, "refusal": decision.text}, None
    elif decision.pieces is not None:
        for text, token in decision.pieces:
            yield {"content": text}, told([token]) if token else None
    else:
        for text in _PIECES.findall(decision.text):
            yield {"content": text}, None


def _logprobs(decision: Decision) -> Json | None:
    return None if decision.pieces is None else told(token for _, token in decision.pieces)


def _choice(index: int, delta: Json, finish_reason: str | None = None, logprobs: Json | None = None) -> Json:
    return {"choices": [{"index": index, "delta": delta, "finish_reason": finish_reason, "logprobs": logprobs}]}


def _message(decision: Decision) -> Json:
    return {"role": "assistant", "content": decision.text, "refusal": decision.text if decision.blocked else None}


def _frame(completion: Completion, kind: str) -> Json:
    return {"id": completion.id, "object": kind, "created": completion.created, "model": completion.model}


def _dump(value: Json) -> bytes:
    text = _JSON.encode(value)
    if not text.isascii():
        for character, escaped in _LINE_ENDS:
            text = text.replace(character, escaped)
    return text.encode("utf-8", "replace")
