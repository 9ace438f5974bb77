"""After many calls, of which some are given up, an engine holds what it held before, and says what it said before."""

import asyncio
import gc
import random
import threading
from contextlib import aclosing

import psutil
import pytest

from llava.chat import Call, Chat, Reply, Sampling
from llava.engines import generate
from llava.engines.local import LocalEngine
from llava.model.loaded import Loaded
from tests.factories import image

IMAGES = [image(colour, (20 + 3 * i, 30)) for i, colour in enumerate(["red", "green", "blue", "white", "black", "gray", "pink", "gold"])]
GOLDEN = Call("answer", Chat.ask("what is in the box?", [IMAGES[0]]), Sampling(max_tokens=20), 5)


def mixed(draw: random.Random) -> Call:
    question = " ".join(draw.choices(["the", "cat", "dog", "box", "what", "is", "red"], k=draw.randrange(1, 40)))
    sampling = Sampling(temperature=draw.choice([0.0, 1.0]), max_tokens=draw.randrange(1, 16), seed=draw.randrange(9))
    return Call("answer", Chat.ask(question, draw.sample(IMAGES, draw.randrange(3))), sampling, draw.choice([0, 20]))


async def some_of(engine: LocalEngine, call: Call, deltas: int) -> None:
    """Read so many pieces of the answer, then leave."""
    async with aclosing(engine.stream(call)) as stream:
        async for _ in stream:
            if (deltas := deltas - 1) < 0:
                return


async def many(engine: LocalEngine, draw: random.Random, count: int) -> None:
    """So many calls, twelve at a time; of every four, one reader leaves early and one task is cancelled."""
    for begin in range(0, count, 12):
        tasks = [asyncio.create_task(some_of(engine, mixed(draw), draw.choice([0, 2, 99, 99]))) for _ in range(min(12, count - begin))]
        for task in draw.sample(tasks, len(tasks) // 4):
            await asyncio.sleep(draw.choice([0, 0.001, 0.01]))
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("count", [120, pytest.param(2000, marks=pytest.mark.slow)])
def test_nothing_is_lost_over_many_calls_with_random_cancellations(llava: Loaded, count: int) -> None:
    async def main() -> tuple[list[Reply], list[int]]:
        engine = LocalEngine(llava, max_batch=6, prefill_chunk=32, kv_cache_gb=0.001)
        golden = [await generate(engine, GOLDEN)]
        bytes_held, draw = [], random.Random(1)
        for _ in range(2):  # the first round fills the caches
            await many(engine, draw, count // 2)
            golden.append(await generate(engine, GOLDEN))
            gc.collect()
            bytes_held.append(psutil.Process().memory_info().rss)
        stats = engine.stats()
        assert (stats.running, stats.waiting) == (0, 0)
        assert stats.evictions > 0
        assert stats.slot_bytes + stats.kept_bytes <= 0.001 * 2**30
        await engine.close()
        return golden, bytes_held

    before = set(threading.enumerate())
    golden, bytes_held = asyncio.run(main())
    assert {reply.text for reply in golden} == {golden[0].text}
    assert bytes_held[1] <= bytes_held[0] * 1.02
    assert not {thread for thread in set(threading.enumerate()) - before if thread.name == "llava-model"}
