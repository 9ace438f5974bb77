"""How calls and engines end: given up, refused, closed, dropped, forgotten; nothing hangs and nothing stays."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from llava.engines import generate
from llava.engines.local import LocalEngine
from llava.engines.local.batcher import Batcher
from llava.engines.local.runner import SlotRunner
from llava.errors import EngineClosed, EngineError, ModelLost, Overloaded
from llava.model.loaded import Loaded
from tests.engines.local.gate import Gate, Threads, before_forward, call
from tests.factories import until


class Defect(BaseException):
    """What no handler expects."""


def test_a_cancelled_call_frees_the_thread_within_one_token(loaded: Loaded) -> None:
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    async def main() -> None:
        engine = LocalEngine(loaded)
        stream = engine.stream(call(max_tokens=400))
        await anext(stream)
        await stream.aclose()
        at_cancel = steps
        await generate(engine, call(max_tokens=1))
        assert steps - at_cancel <= 3  # the step under way, perhaps one more begun while we left, and the other call's only one
        await engine.close()

    with before_forward(loaded, count):
        asyncio.run(main())


def test_a_call_that_cannot_even_begin_ends_alone(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(tokenizer: object) -> None:
        raise AttributeError("no such table")

    monkeypatch.setattr("llava.engines.local.batcher.speller", unreadable)

    async def main() -> None:
        engine = LocalEngine(loaded)
        with pytest.raises(EngineError, match="failed: AttributeError"):
            await generate(engine, call(max_tokens=2, logprobs=1))
        assert (await generate(engine, call(max_tokens=2))).completion_tokens == 2
        await engine.close()

    asyncio.run(main())


def test_cancelling_the_task_that_reads_cancels_the_call(loaded: Loaded) -> None:
    gate = Gate()

    async def main() -> None:
        engine = LocalEngine(loaded)
        with before_forward(loaded, gate):
            task = asyncio.create_task(generate(engine, call(max_tokens=400)))
            await until(lambda: gate.steps)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            gate.open()
            await generate(engine, call(max_tokens=1))
        assert gate.steps == 2
        await engine.close()

    asyncio.run(main())


def test_more_than_the_waiting_calls_is_overloaded_and_the_others_finish(loaded: Loaded) -> None:
    gate = Gate()

    async def main() -> None:
        engine = LocalEngine(loaded, max_batch=1, max_waiting=2)
        with before_forward(loaded, gate):
            running = asyncio.create_task(generate(engine, call(max_tokens=2)))
            await until(lambda: gate.steps)
            waiting = [asyncio.create_task(generate(engine, call(max_tokens=2))) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(Overloaded, match="3 calls run or wait already"):
                await generate(engine, call())
            waiting[0].cancel()
            await asyncio.wait(waiting[:1])
            late = asyncio.create_task(generate(engine, call(max_tokens=2)))
            await asyncio.sleep(0)
            gate.open()
            replies = [await running, await waiting[1], await late]
        assert {reply.completion_tokens for reply in replies} == {2}
        await engine.close()

    asyncio.run(main())


def test_closing_ends_the_running_and_the_waiting_calls_and_none_hangs(loaded: Loaded, model_threads: Threads) -> None:
    gate = Gate()

    async def main() -> None:
        engine = LocalEngine(loaded, max_batch=2)
        with before_forward(loaded, gate):
            tasks = [asyncio.create_task(generate(engine, call(max_tokens=400))) for _ in range(4)]
            await until(lambda: gate.steps)
            closing = asyncio.create_task(engine.close())
            await asyncio.sleep(0)
            gate.open()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            await closing
        assert [type(error) for error in ended] == [EngineClosed] * 4
        with pytest.raises(EngineClosed):
            await generate(engine, call())
        await engine.close()

    asyncio.run(main())
    assert not model_threads()


def test_a_model_thread_that_dies_leaves_nobody_waiting(loaded: Loaded, model_threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    died: list[object] = []
    monkeypatch.setattr(threading, "excepthook", died.append)

    def die() -> None:
        raise Defect("a defect of ours")

    async def main() -> None:
        engine = LocalEngine(loaded)
        with before_forward(loaded, die), pytest.raises(ModelLost, match=r"failed for good \(Defect\): start it again"):
            await generate(engine, call())
        with pytest.raises(ModelLost):
            await generate(engine, call())
        await engine.close()

    asyncio.run(main())
    assert len(died) == 1
    assert not model_threads()


def test_calls_that_come_while_the_model_thread_dies_do_not_hang(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch, model_threads: Threads
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    gate = Gate()

    def die(*_: object) -> None:
        raise Defect("a defect of ours")

    async def main() -> None:
        engine = LocalEngine(loaded)
        with before_forward(loaded, gate):
            first = asyncio.create_task(generate(engine, call(max_tokens=400)))
            await until(lambda: gate.steps)
            others = [asyncio.create_task(generate(engine, call())) for _ in range(3)]
            await until(lambda: len(engine._inbox._waiting) == 3)
            monkeypatch.setattr(Batcher, "add", die)
            gate.open()
            ended = await asyncio.gather(first, *others, return_exceptions=True)
        assert [type(error) for error in ended] == [ModelLost] * 4
        await engine.close()

    asyncio.run(main())
    assert not model_threads()


@pytest.mark.parametrize("cores", [1, 2])
def test_what_fails_where_no_call_takes_part_is_told_to_all_as_the_end_of_the_model(
    cores: int, loaded: Loaded, model_threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    gate = Gate()

    def refuse(*_: object) -> None:
        raise RuntimeError("CUDA error")

    async def main() -> None:
        torch.set_num_threads(cores)
        engine = LocalEngine(loaded)
        with before_forward(loaded, lambda: gate() if engine.stats().running == 2 else None):
            stays, leaves = (asyncio.create_task(generate(engine, call(text, max_tokens=400))) for text in ("the cat", "the dog"))
            await until(lambda: gate.steps)
            monkeypatch.setattr(SlotRunner, "stop", refuse)  # a device that takes no work cannot free a row either
            leaves.cancel()
            await asyncio.wait([leaves])
            gate.open()
            with pytest.raises(ModelLost, match="failed for good"):
                await stays
        with pytest.raises(ModelLost, match="failed for good"):
            await generate(engine, call())
        await engine.close()
        with pytest.raises(ModelLost):
            await generate(engine, call())

    asyncio.run(main())
    assert not model_threads()


def test_an_engine_that_is_dropped_takes_its_thread_with_it(loaded: Loaded, model_threads: Threads) -> None:
    engine = LocalEngine(loaded)
    asyncio.run(generate(engine, call()))
    assert model_threads()
    del engine
    gc.collect()
    assert not model_threads()


def test_a_program_that_forgets_to_close_still_ends(tiny_llava: Path) -> None:
    program = f"""
import asyncio
from llava.chat import Call, Chat, Sampling
from llava.engines import connect, generate
engine = connect({str(tiny_llava)!r})
print(asyncio.run(generate(engine, Call("answer", Chat.ask("q"), Sampling(max_tokens=3)))).completion_tokens)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert found.stdout.strip() == "3"
    assert "Traceback" not in found.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork there")
def test_in_a_forked_process_an_engine_says_so_instead_of_waiting_for_ever_and_stays_good_in_its_own(tiny_llava: Path) -> None:
    program = f"""
import asyncio, os
from llava.chat import Call, Chat, Sampling
from llava.engines import connect, generate
from llava.errors import EngineClosed
engine = connect({str(tiny_llava)!r})
ask = lambda: asyncio.run(generate(engine, Call("answer", Chat.ask("q"), Sampling(max_tokens=3))))
ask()
child = os.fork()
if child == 0:
    try:
        ask()
    except EngineClosed as error:
        print(error, flush=True)
    asyncio.run(engine.close())
else:
    status = os.waitpid(child, 0)[1]
    print(status, ask().completion_tokens)
"""
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert found.stdout.splitlines() == [
        "This engine was opened in another process, of which this one is a fork: open a new one here.",
        "0 3",
    ]
    assert "Traceback" not in found.stderr
