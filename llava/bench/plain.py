"""The plain way, which everything here is compared with: one `generate` of transformers after another, one sample at a time.

As the scripts of LLaVA and ECSO do it, and everyone's first version: each call reads its image again, encodes it again and runs
through the whole prompt again. As in those scripts torch keeps no books for gradients (`inference_mode`); the weights and the prompts
are those that the engine uses.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from llava.bench.machine import apart
from llava.chat import Call, Chat, Reply
from llava.ecso import Method
from llava.ecso.steps import Outcome
from llava.ecso.trace import CHECKS
from llava.mm_utils import KeywordsStoppingCriteria
from llava.model.loaded import Loaded


@dataclass(frozen=True, slots=True)
class Said:
    """What a call gave: its reply, seconds until its first token (text, where it was streamed) and until its last."""

    reply: Reply
    first: float
    seconds: float

    @property
    def prompt_tokens(self) -> int:
        return self.reply.prompt_tokens or 0

    @property
    def completion_tokens(self) -> int:
        return self.reply.completion_tokens or 0


class _FirstToken(StoppingCriteria):
    """Stops nothing; notes when the first token was there."""

    at: float | None = None

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        if self.at is None:
            input_ids[:, -1].tolist()  # a card may still be computing it
            self.at = time.perf_counter()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


class Plain:
    """Answers calls with `loaded` and remembers what was `said`: a call that comes again is not run again, its time is known."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.said: dict[Call, Said] = {}

    def answer(self, call: Call) -> Said:
        """One greedy `generate`."""
        if call not in self.said:
            self.said[call] = apart(lambda: self._generate(call))
        return self.said[call]

    @torch.inference_mode()
    def _generate(self, call: Call) -> Said:
        begin = time.perf_counter()
        loaded, first = self.loaded, _FirstToken()
        inputs = loaded.encode(call.chat)
        prompt = inputs["input_ids"]
        stops = StoppingCriteriaList([KeywordsStoppingCriteria(loaded.stop, loaded.tokenizer, prompt)] if loaded.stop else [])
        stops.append(first)
        longest = prompt.shape[1] + call.sampling.max_tokens  # not `max_new_tokens`: transformers warns where a checkpoint has a max_length
        ids = loaded.model.generate(**inputs, do_sample=False, max_length=longest, stopping_criteria=stops)
        new = ids[0, prompt.shape[1] :].tolist()
        end = time.perf_counter()
        ended = new[-1] in loaded.eos_ids or len(new) < call.sampling.max_tokens
        reply = Reply(self._text(new), prompt.shape[1], len(new), "stop" if ended else "length")
        return Said(reply, (first.at or end) - begin, end - begin)

    def _text(self, new: Sequence[int]) -> str:
        text = self.loaded.decode(new)
        for stop in self.loaded.stop:
            text = text.partition(stop)[0]
        return text.lstrip()

    def flow(self, method: Method, chat: Chat, verdict: str | None) -> list[tuple[Call, Said]]:
        """The calls of `method` for one chat and what they gave; `verdict` replaces what the checks say."""
        return self.run(method, chat, verdict)[0]

    def run(self, method: Method, chat: Chat, verdict: str | None, draft: str | None = None) -> tuple[list[tuple[Call, Said]], Outcome]:
        """The same, and what `method` releases; `draft` is a first answer from elsewhere."""
        done: list[tuple[Call, Said]] = []
        steps = method.steps(chat, draft)
        try:
            call = next(steps)
            while True:
                said = self.answer(call)
                done.append((call, said))
                call = steps.send(forced(call, said.reply, verdict))
        except StopIteration as end:
            outcome: Outcome = end.value
            return done, outcome

    def decode_seconds(self, chats: Sequence[Chat], tokens: int) -> float:
        """Seconds from the first to the last of `tokens` tokens in one `generate` over `chats` as a batch; their prompts must be of one
        length."""
        return apart(lambda: self._decode_seconds(chats, tokens))

    @torch.inference_mode()
    def _decode_seconds(self, chats: Sequence[Chat], tokens: int) -> float:
        encoded, first = [self.loaded.encode(chat) for chat in chats], _FirstToken()
        inputs = {name: torch.cat([one[name] for one in encoded]) for name in encoded[0]}
        longest = inputs["input_ids"].shape[1] + tokens
        self.loaded.model.generate(**inputs, do_sample=False, max_length=longest, stopping_criteria=StoppingCriteriaList([first])).tolist()
        end = time.perf_counter()
        return end - (first.at or end)


def forced(call: Call, reply: Reply, verdict: str | None) -> Reply:
    """The reply of a check with `verdict` for its text; other replies, and all where `verdict` is None, as they are."""
    if verdict is None or call.step not in CHECKS:
        return reply
    return replace(reply, text=verdict, finish_reason="stop", first_logprobs=None)


def same(call: Call, plain: Said | None, engine: Said) -> bool:
    """Whether both ways said the same. An engine may end a check as soon as its verdict is fixed: then its text is a beginning."""
    if plain is None:
        return False
    if call.step in CHECKS and engine.completion_tokens < plain.completion_tokens:
        return plain.reply.text.startswith(engine.reply.text)
    return (plain.reply.text, plain.completion_tokens) == (engine.reply.text, engine.completion_tokens)
