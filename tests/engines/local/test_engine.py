"""The local engine as its users meet it: many calls, several loops, cancellation, closing."""

import asyncio
import gc
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path

import pytest

from llava.chat import Call, Chat, Delta, Reply, Sampling
from llava.engines import Engine, connect, generate
from llava.engines.local import LocalEngine
from llava.errors import EngineClosed, EngineError, Overloaded, UserError
from llava.model.builder import load
from llava.model.loaded import Loaded
from tests.factories import image, until

RED = image("red")
Threads = Callable[[], set[threading.Thread]]


def call(question: str = "what is in the box?", max_tokens: int = 20, **sampling: object) -> Call:
    return Call("answer", Chat.ask(question, [RED]), Sampling(max_tokens=max_tokens, **sampling))  # type: ignore[arg-type]


@pytest.fixture
def model_threads() -> Threads:
    """Gives the model threads that this test has started and that still run."""

    def running() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "llava-model"}

    before = running()
    return lambda: running() - before


@pytest.fixture(scope="module")
def loaded(tiny_llava: Path) -> Loaded:
    return load(str(tiny_llava), device="cpu")


@contextmanager
def before_forward(loaded: Loaded, action: object) -> Iterator[None]:
    """Run `action` on the model thread before each of the model's steps."""
    hook = loaded.model.register_forward_pre_hook(lambda *_: action())  # type: ignore[operator]
    try:
        yield
    finally:
        hook.remove()


class Gate:
    """Stops the model thread before its next step until it is opened."""

    def __init__(self) -> None:
        self.steps = 0
        self._open = threading.Event()

    def __call__(self) -> None:
        self.steps += 1
        self._open.wait()

    def open(self) -> None:
        self._open.set()


def test_a_checkpoint_folder_becomes_an_engine(tiny_llava: Path, model_threads: Threads) -> None:
    async def main() -> Reply:
        engine = connect(tiny_llava, device="cpu", dtype="float32", max_waiting=3, threads=1)
        assert isinstance(engine, Engine)
        assert "llava-tiny" in engine.name
        try:
            return await generate(engine, call())
        finally:
            await engine.close()

    assert asyncio.run(main()).text
    assert not model_threads()


@pytest.mark.parametrize("options", [{"device": "gpu"}, {"dtype": "int7"}, {"conv_mode": "vicuna_v9"}, {"max_waiting": -1}, {"threads": 0}])
def test_wrong_options_are_refused(tiny_llava: Path, options: dict[str, object], model_threads: Threads) -> None:
    with pytest.raises(UserError):
        connect(tiny_llava, **options)
    assert not model_threads()


def test_fifty_mixed_calls_with_random_cancellations_answer_as_if_alone(loaded: Loaded, model_threads: Threads) -> None:
    draw = random.Random(3)
    calls = [
        Call(
            "answer",
            Chat.ask(f"the cat {i} {'dog ' * draw.randrange(9)}", [RED, image("blue")][: draw.randrange(3)]),
            Sampling(temperature=draw.choice([0.0, 1.0]), top_p=0.9, seed=i, max_tokens=draw.randrange(1, 25)),
            draw.choice([0, 5]),
        )
        for i in range(50)
    ]
    cancelled = {i: draw.randrange(8) for i in draw.sample(range(50), 15)}

    async def alone(engine: Engine) -> list[Reply]:
        return [await generate(engine, one) for one in calls]

    async def partly(engine: Engine, i: int) -> Reply | None:
        async with aclosing(engine.stream(calls[i])) as deltas:
            seen = 0
            async for delta in deltas:
                if delta.reply is not None:
                    return delta.reply
                if (seen := seen + 1) > cancelled.get(i, 1000):
                    return None
        raise AssertionError("no reply")

    async def main() -> tuple[list[Reply], list[Reply | None]]:
        engine = LocalEngine(loaded)
        one_by_one = await alone(engine)
        together = await asyncio.gather(*(partly(engine, i) for i in range(50)))
        await engine.close()
        return one_by_one, together

    for wanted, found in zip(*asyncio.run(main()), strict=True):
        if found is not None:
            assert (found.text, found.finish_reason, found.first_logprobs) == (wanted.text, wanted.finish_reason, wanted.first_logprobs)
    assert not model_threads()


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
        engine = LocalEngine(loaded, max_waiting=2)
        with before_forward(loaded, gate):
            running = asyncio.create_task(generate(engine, call(max_tokens=2)))
            await until(lambda: gate.steps)
            waiting = [asyncio.create_task(generate(engine, call(max_tokens=2))) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(Overloaded, match="2 calls wait already"):
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
        engine = LocalEngine(loaded)
        with before_forward(loaded, gate):
            tasks = [asyncio.create_task(generate(engine, call(max_tokens=400))) for _ in range(4)]
            await until(lambda: gate.steps)
            closing = asyncio.create_task(engine.close())
            ended = await asyncio.gather(*tasks[1:], return_exceptions=True)
            gate.open()
            ended += await asyncio.gather(tasks[0], return_exceptions=True)
            await closing
        assert [type(error) for error in ended] == [EngineClosed] * 4
        with pytest.raises(EngineClosed):
            await generate(engine, call())
        await engine.close()

    asyncio.run(main())
    assert not model_threads()


def test_a_failing_model_fails_the_call_only_and_tells_no_prompt(loaded: Loaded, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise RuntimeError("shapes differ")

    async def main() -> None:
        engine = LocalEngine(loaded)
        with before_forward(loaded, fail), pytest.raises(EngineError, match="llava-tiny failed: RuntimeError") as caught:
            await generate(engine, call("a secret question"))
        assert isinstance(caught.value.__cause__, RuntimeError)
        assert (await generate(engine, call())).text
        await engine.close()

    asyncio.run(main())
    assert "failed in step answer" in caplog.text
    assert "secret" not in caplog.text


def test_several_event_loops_share_one_engine(loaded: Loaded) -> None:
    engine = LocalEngine(loaded)
    texts: list[str] = []

    def from_a_loop_of_its_own() -> None:
        texts.append(asyncio.run(generate(engine, call())).text)

    threads = [threading.Thread(target=from_a_loop_of_its_own) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    from_a_loop_of_its_own()
    asyncio.run(engine.close())
    assert len(texts) == 5
    assert len(set(texts)) == 1


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


def test_a_reader_that_stops_reading_does_not_hold_up_others(loaded: Loaded) -> None:
    async def main() -> list[Delta]:
        engine = LocalEngine(loaded)
        slow = engine.stream(call(max_tokens=30))
        first = await anext(slow)
        assert (await generate(engine, call())).text
        rest = [delta async for delta in slow]
        await engine.close()
        return [first, *rest]

    deltas = asyncio.run(main())
    assert deltas[-1].reply is not None
    assert "".join(delta.text for delta in deltas) == deltas[-1].reply.text
