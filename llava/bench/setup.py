"""What all parts of the engine's benchmark share: the model, its engines, the machine's rates, how much to run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image as PIL

from llava.bench.floor import Size
from llava.bench.machine import Rates
from llava.bench.plain import Plain
from llava.chat import Call, Chat, Image, Sampling
from llava.ecso import PAPER, Method, Policy
from llava.engines.base import generate
from llava.engines.local import LocalEngine
from llava.model.loaded import Loaded

CHECK_TOKENS = 2  # what a model that was trained says: the word and the end


@dataclass(frozen=True, slots=True)
class Setup:
    """`tokens` is the length of answers and captions, `samples` the number of rows of a workload, `used` how many pictures an engine may
    have read before one."""

    loaded: Loaded
    size: Size
    rates: Rates
    tokens: int
    samples: int
    used: int

    @property
    def device(self) -> torch.device:
        return self.loaded.device

    @property
    def policy(self) -> Policy:
        """The published method with answers of the wanted length."""
        answer, check = Sampling(max_tokens=self.tokens), CHECK_TOKENS
        return replace(PAPER, answer=answer, caption_tokens=self.tokens, check_tokens=check, check_tokens_most=check)

    @property
    def method(self) -> Method:
        """ECSO under `policy`."""
        return Method("ecso", self.policy)


@contextmanager
def opened(loaded: Loaded, **options: Any) -> Iterator[LocalEngine]:
    """A fresh engine with `options` over loaded weights, warmed up by one call about a picture that comes nowhere else."""
    if loaded.device.type == "cuda":
        torch.cuda.empty_cache()  # the engine asks how much memory is free: what others have left counts
    engine = LocalEngine(loaded, **options)
    try:
        asyncio.run(generate(engine, _first_call()))
        yield engine
    finally:
        asyncio.run(engine.close())


def use(engine: LocalEngine, chats: Sequence[Chat], in_flight: int) -> None:
    """Has the engine read `chats`, `in_flight` at a time, until its cache is full: it then holds images and memory like one that has been
    in use. On a virtual machine memory that a process never had costs many times what it costs to use again."""
    calls = [Call("answer", chat, Sampling(max_tokens=1)) for chat in chats]

    async def together(some: Sequence[Call]) -> None:
        await asyncio.gather(*(generate(engine, call) for call in some))

    for at in range(0, len(calls), in_flight):
        asyncio.run(together(calls[at : at + in_flight]))
        if engine.stats().evictions:
            break


def warmed(loaded: Loaded) -> Plain:
    """The plain way over loaded weights, warmed up like an engine."""
    plain = Plain(loaded)
    plain.answer(_first_call())
    return plain


def _first_call() -> Call:
    picture = Image(PIL.new("RGB", (32, 32), "white"))
    return Call("answer", Chat.ask("Hello?", [picture]), Sampling(max_tokens=2))


@dataclass(frozen=True, slots=True)
class Hits:
    """How often the engine's image prefix cache had what a call needed, and how often not."""

    hits: int
    misses: int

    @classmethod
    def of(cls, engine: LocalEngine) -> Hits:
        """Since the engine was opened."""
        stats = engine.stats()
        return cls(stats.image_hits, stats.image_misses)

    def __sub__(self, other: Hits) -> Hits:
        return Hits(self.hits - other.hits, self.misses - other.misses)
