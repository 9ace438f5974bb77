"""Model threads of a small model: how many there are, what they share, what each has for itself."""

import asyncio
import threading
from dataclasses import replace

import pytest
import torch

from llava.chat import Call, Chat, Reply, Sampling
from llava.engines import generate
from llava.engines.local import LocalEngine
from llava.engines.local.lanes import lanes_for
from llava.engines.local.runner import ROWS
from llava.model.loaded import Loaded
from tests.engines.local.driving import BLUE, RED, add, call, finish, outcome, over_slots
from tests.engines.local.gate import Gate, Threads, before_forward
from tests.engines.local.gate import call as plain_call
from tests.factories import image, until


@pytest.mark.parametrize(("cores", "max_batch", "places"), [(1, 8, [8]), (2, 8, [4, 4]), (3, 8, [2, 3, 3]), (3, 2, [1, 1]), (2, 1, [1])])
def test_every_core_has_a_lane_as_long_as_there_are_calls_for_it(llava: Loaded, cores: int, max_batch: int, places: list[int]) -> None:
    torch.set_num_threads(cores)
    assert [lane.scheduler.max_batch for lane in lanes_for(llava, max_batch, 256, 2**26)] == places


def test_there_are_no_more_lanes_than_hold_the_longest_call(llava: Loaded) -> None:
    (one,) = lanes_for(llava, 8, 256, 2**26, most=1)
    longest = over_slots(one).slots.needed(1, llava.context_len)
    assert [len(lanes_for(llava, 8, 256, budget, most=4)) for budget in (longest - 1, 3 * longest - 1, 3 * longest)] == [1, 2, 3]


@pytest.mark.parametrize("most", [1, 2])
def test_by_default_all_calls_have_room_for_the_longest_context(llava: Loaded, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llava.engines.local.memory._CPU_LEAST", 0)
    torch.set_num_threads(2)
    for lane in lanes_for(llava, 8, 256, None, most):
        slots = over_slots(lane).slots
        longest = slots.needed(1, llava.context_len)
        assert 8 // most * longest <= over_slots(lane)._budget * ROWS < 8 // most * longest + 8


@pytest.mark.parametrize(("small", "light", "lanes"), [(1000, 1000, 1), (1000, 2**30, 3)])
def test_large_models_have_one_lane(llava: Loaded, small: int, light: int, lanes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llava.engines.local.runner._SMALL", small)
    monkeypatch.setattr("llava.engines.local.runner._LIGHT", light)
    torch.set_num_threads(3)
    assert len(lanes_for(llava, 8, 256, 2**26)) == lanes


def test_a_light_model_uses_all_cores_for_a_call_that_is_alone_and_one_for_each_of_several(
    llava: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llava.engines.local.runner._SMALL", 1000)
    gate, seen = Gate(), list[int]()

    def forward() -> None:
        seen.append(torch.get_num_threads())
        if len(seen) == 1:
            gate()

    async def main() -> None:
        torch.set_num_threads(2)
        engine = LocalEngine(llava)
        with before_forward(llava, forward):
            first = asyncio.create_task(generate(engine, plain_call(max_tokens=3)))
            await until(lambda: gate.steps)
            other = Call("answer", Chat.ask("the dog"), Sampling(max_tokens=3))
            await generate(engine, other)
            beside = len(seen)
            gate.open()
            await first
            assert seen[:beside] == [2, *[1] * (beside - 1)]
            assert seen[beside:] == [2] * (len(seen) - beside)
        await engine.close()

    asyncio.run(main())
    assert torch.get_num_threads() == 2


def test_a_call_waits_in_its_lane_for_an_image_that_another_lane_computes(llava: Loaded) -> None:
    async def main() -> None:
        first, second = lanes_for(llava, 4, 16, 2**26, most=2)
        reads = add(first, call(Chat.ask("the cat", [RED]), 2))
        waits, passes = (add(second, call(Chat.ask("where?", [picture]), 2)) for picture in (RED, BLUE))
        first.scheduler.admit(first.runner.start)  # and before it reads:
        second.step()
        assert (waits.filled, passes.filled > 0) == (0, True)
        finish(first)
        finish(second)
        replies = [(await outcome(answer))[1] for answer in (reads, waits, passes)]
        assert {reply.completion_tokens for reply in replies} == {2}
        stats = first.runner.stats()
        assert (stats.image_hits, stats.image_misses) == (1, 2)
        assert stats == second.runner.stats()

    asyncio.run(main())


def test_a_lane_that_can_do_nothing_says_so(llava: Loaded) -> None:
    async def main() -> None:
        first, second = lanes_for(llava, 4, 16, 2**26, most=2)
        reads = add(first, call(Chat.ask("the cat", [RED]), 2))
        waits = add(second, call(Chat.ask("where?", [RED]), 2))
        first.scheduler.admit(first.runner.start)
        assert not second.step()
        reads.job.cancelled = True  # and with it what the other one waits for
        assert (first.step(), second.step()) == (True, True)
        finish(second)
        assert (await outcome(waits))[1].completion_tokens == 2
        assert (first.step(), second.step()) == (False, False)

    asyncio.run(main())


def test_the_lanes_of_an_engine_answer_as_one_does_and_keep_each_image_once(llava: Loaded, model_threads: Threads) -> None:
    images = [image("red", (20 + i, 30)) for i in range(6)]
    calls = [Call("answer", Chat.ask(f"the cat {i}", [images[i // 4]]), Sampling(max_tokens=1 + i % 7), 5) for i in range(24)]

    async def answers(threads: int) -> list[Reply]:
        torch.set_num_threads(threads)
        engine = LocalEngine(llava, max_batch=6)
        assert len(model_threads()) == threads
        replies = await asyncio.gather(*(generate(engine, one) for one in calls))
        stats = engine.stats()
        assert (stats.image_hits, stats.image_misses, stats.running, stats.waiting) == (18, 6, 0, 0)
        await engine.close()
        assert not model_threads()
        return list(replies)

    one, three = (asyncio.run(answers(threads)) for threads in (1, 3))
    assert [reply.text for reply in three] == [reply.text for reply in one]


def test_a_call_that_comes_while_one_lane_is_busy_is_answered_by_another(llava: Loaded) -> None:
    gate = Gate()

    async def main() -> None:
        torch.set_num_threads(2)
        engine = LocalEngine(llava)
        with before_forward(llava, lambda: gate() if not gate.steps else None):
            busy = asyncio.create_task(generate(engine, plain_call(max_tokens=3)))
            await until(lambda: gate.steps)
            other = Call("answer", Chat.ask("the dog"), Sampling(max_tokens=3))
            assert (await generate(engine, other)).completion_tokens == 3
            assert not busy.done()
            gate.open()
            assert (await busy).completion_tokens == 3
        await engine.close()

    asyncio.run(main())


def test_a_lane_computes_on_one_core_and_other_threads_keep_theirs(llava: Loaded) -> None:
    seen, later = set[int](), list[int]()

    async def main() -> None:
        torch.set_num_threads(3)
        engine = LocalEngine(llava)
        with before_forward(llava, lambda: seen.add(torch.get_num_threads())):
            await generate(engine, plain_call(max_tokens=3))
        await engine.close()

    asyncio.run(main())
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert (seen, later, torch.get_num_threads()) == ({1}, [3], 3)


def test_a_context_that_is_cut_makes_room_for_more_lanes(llava: Loaded) -> None:
    (one,) = lanes_for(llava, 8, 256, 2**26, most=1)
    longest = over_slots(one).slots.needed(1, llava.context_len)
    assert len(lanes_for(replace(llava, context_len=100), 8, 256, longest, most=2)) == 2
