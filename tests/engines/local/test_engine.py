"""The local engine as its users meet it: many calls at once, several loops, wrong options, failures."""

import asyncio
import random
import threading
import time
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from llava.chat import Call, Chat, Delta, Reply, Sampling
from llava.engines import Engine, connect, generate
from llava.engines.base import concurrency
from llava.engines.local import LocalEngine, Stats
from llava.errors import ContextTooLong, EngineError, UserError
from llava.model.loaded import Loaded
from tests.engines.local.gate import RED, Threads, before_forward, call
from tests.factories import image


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


@pytest.mark.parametrize(
    "options",
    [
        {"device": "gpu"},
        {"dtype": "int7"},
        {"conv_mode": "vicuna_v9"},
        {"max_waiting": -1},
        {"threads": 0},
        {"max_batch": 0},
        {"prefill_chunk": 0},
        {"kv_cache_gb": 0},
        {"kv_cache_gb": "4"},
    ],
)
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
            assert (found.text, found.finish_reason) == (wanted.text, wanted.finish_reason)
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


def test_options_are_checked_without_connect_too(loaded: Loaded) -> None:
    for options in ({"max_batch": 0}, {"max_waiting": -1}, {"prefill_chunk": 0}, {"kv_cache_gb": -1}, {"threads": 0}):
        with pytest.raises(UserError, match=rf"{next(iter(options))} is {next(iter(options.values()))}: give "):
            LocalEngine(loaded, **options)


def test_a_prompt_over_the_context_names_both_numbers_before_it_takes_a_row(loaded: Loaded) -> None:
    prompt = loaded.encode(call().chat)["input_ids"].shape[1]
    said = rf"has {prompt} tokens, images included: 1 too many\. .* holds {prompt}, .* gets 1\. Shorten the question\.$"

    async def main() -> None:
        engine = LocalEngine(replace(loaded, context_len=prompt))
        with pytest.raises(ContextTooLong, match=said):
            await generate(engine, call())
        assert engine.stats().running == engine.stats().waiting == 0
        await engine.close()

    asyncio.run(main())


def test_the_stats_tell_what_was_saved(loaded: Loaded) -> None:
    async def main() -> Stats:
        engine = LocalEngine(loaded)
        for question in ("what is this?", "where is it?"):
            await generate(engine, call(question, max_tokens=1))
        stats = engine.stats()
        await engine.close()
        return stats

    stats = asyncio.run(main())
    assert (stats.image_hits, stats.image_misses, stats.running, stats.waiting) == (1, 1, 0, 0)
    assert stats.reused_tokens > 16
    assert stats.slot_bytes > 0


@pytest.mark.parametrize(("kind", "options", "likes"), [("llava", {}, 48), ("llava", {"max_waiting": 3}, 35), ("idefics", {}, 12)])
def test_an_engine_likes_more_calls_than_it_runs_together(
    kind: str, options: dict[str, int], likes: int, request: pytest.FixtureRequest
) -> None:
    engine = LocalEngine(request.getfixturevalue(kind), **options)
    assert concurrency(engine) == likes
    asyncio.run(engine.close())


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


def test_the_seconds_of_a_reply_count_from_when_it_was_asked_and_not_from_when_its_prompt_was_ready(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready: list[float] = []

    async def main() -> Reply:
        engine = LocalEngine(loaded)
        prepare = engine._runner.prepare

        def noted(one: Call) -> object:
            ready.append(time.monotonic())
            return prepare(one)

        monkeypatch.setattr(engine._runner, "prepare", noted)
        monkeypatch.setattr("llava.engines.local.answer.time", SimpleNamespace(monotonic=lambda: ready[0] + 1000))
        reply = await generate(engine, call(max_tokens=1))
        await engine.close()
        return reply

    assert asyncio.run(main()).seconds >= 1000


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
