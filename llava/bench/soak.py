"""A long run of mixed calls of which many are cancelled: nothing may be lost, and the model must still say what it said.

On the embedded model: with and without an image, greedy and sampled, with stop strings and log-probabilities, left at a random token
or in the queue.
"""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from contextlib import aclosing
from dataclasses import dataclass

from llava.bench import pictures
from llava.bench.machine import resident
from llava.bench.setup import opened
from llava.chat import Call, Chat, Image, Sampling
from llava.engines.base import generate
from llava.engines.local import LocalEngine
from llava.model.builder import load
from llava.paths import MINI

TOGETHER = 16
WARM = 0.25  # share of the calls after which caches are full and memory should not grow any more


@dataclass(frozen=True, slots=True)
class Soak:
    """MiB and threads after the first quarter of the calls and after all; `held`: calls that the engine still holds at the end."""

    calls: int
    cancelled: int
    before_mib: float
    after_mib: float
    before_threads: int
    after_threads: int
    held: int
    golden_equal: bool

    @property
    def growth(self) -> float:
        """Of memory, as a share."""
        return self.after_mib / self.before_mib - 1


def soak(calls: int, seed: int) -> Soak:
    """Run `calls` calls, `TOGETHER` at a time."""
    golden = Call("answer", Chat.ask(pictures.QUESTIONS[0], [Image(pictures.drawn(seed))]), Sampling(max_tokens=48))
    draw = random.Random(seed)
    chats = pictures.mixed(32, None, seed)
    warm = max(1, int(calls * WARM))
    with opened(load(str(MINI), device="cpu", dtype="float32")) as engine:
        said = asyncio.run(generate(engine, golden))
        cancelled = asyncio.run(_many(engine, warm, chats, draw))
        before = _memory(), threading.active_count()
        cancelled += asyncio.run(_many(engine, calls - warm, chats, draw))
        after = _memory(), threading.active_count()
        again = asyncio.run(generate(engine, golden))
        stats = engine.stats()  # only now: the last calls that were left are given up before the next step
    equal = (said.text, said.completion_tokens) == (again.text, again.completion_tokens)
    return Soak(calls, cancelled, before[0], after[0], before[1], after[1], stats.running + stats.waiting, equal)


async def _many(engine: LocalEngine, calls: int, chats: list[Chat], draw: random.Random) -> int:
    """Run calls; the number of those that were left early."""
    room = asyncio.Semaphore(TOGETHER)
    left = 0

    async def one(call: Call, leave: int | None, patience: float | None) -> None:
        nonlocal left
        async with room:
            try:
                async with asyncio.timeout(patience):
                    left += await _read(engine, call, leave)
            except TimeoutError:
                left += 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(calls):
            chance = draw.random()
            leave = draw.randrange(12) if chance < 0.25 else None
            patience = draw.random() * 0.2 if chance > 0.75 else None
            tasks.create_task(one(_call(chats, draw), leave, patience))
    return left


async def _read(engine: LocalEngine, call: Call, leave: int | None) -> bool:
    """Read a call's stream, or only `leave` pieces of it; whether it was left early."""
    pieces = 0
    async with aclosing(engine.stream(call)) as deltas:
        async for delta in deltas:
            if delta.reply is not None:
                return False
            pieces += 1
            if leave is not None and pieces > leave:
                return True
    return False


def _call(chats: list[Chat], draw: random.Random) -> Call:
    chat = draw.choice(chats)
    sampled = {"temperature": 0.8, "top_p": 0.9, "seed": draw.randrange(2**31)} if draw.random() < 0.4 else {}
    stop = ("the", ". ") if draw.random() < 0.2 else ()
    sampling = Sampling(max_tokens=draw.choice((1, 8, 24, 64)), stop=stop, **sampled)  # type: ignore[arg-type]
    return Call("answer", chat if draw.random() < 0.7 else chat.blind(), sampling, 20 if draw.random() < 0.3 else 0)


def _memory() -> float:
    gc.collect()
    return resident()
