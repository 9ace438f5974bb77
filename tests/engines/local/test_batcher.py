"""Steps of many calls: who is served when, what a stream shows, whom a failure ends."""

import asyncio
import threading
import weakref
from typing import Any

import pytest
import torch

from llava.chat import Chat
from llava.engines.local.batcher import takes_no_work
from llava.errors import EngineClosed, EngineError, ModelLost
from llava.model.loaded import Loaded
from tests.engines.local.driving import CHATS, RED, add, ask, batcher, before_pass, call, finish, outcome, over_slots

LONG = Chat.ask("the cat sat on the mat " * 20, [RED])


def test_a_long_prompt_delays_those_that_stream_by_one_chunk_only(llava: Loaded) -> None:
    async def main() -> None:
        inside = batcher(llava, chunk=16)
        streaming = add(inside, call(CHATS[0], 100))
        inside.step()
        long = add(inside, call(LONG, 1))
        while long.reply is None:
            read, said = long.filled, len(streaming.tokens)
            inside.step()
            assert long.filled - read <= 16
            assert len(streaming.tokens) == said + 1
        assert long.prompt_tokens > 100
        finish(inside)

    asyncio.run(main())


def test_a_call_that_comes_late_is_answered_before_a_long_one_ends(llava: Loaded) -> None:
    async def main() -> None:
        inside = batcher(llava)
        long = add(inside, call(CHATS[0], 100))
        for _ in range(5):
            inside.step()
        late = add(inside, call(CHATS[1], 5))
        for _ in range(5):
            inside.step()
        assert late.reply is not None
        assert long.reply is None
        assert len(long.tokens) == 11
        finish(inside)

    asyncio.run(main())


def test_a_first_token_is_sent_before_the_others_decode(llava: Loaded) -> None:
    told = threading.Event()

    def wait(_: torch.Tensor, positions: torch.Tensor) -> None:
        if positions.numel() == 1:
            assert told.wait(60)

    async def main() -> None:
        inside = batcher(llava)
        add(inside, call(CHATS[0], 100))
        inside.step()
        check = add(inside, call(CHATS[1], 1))
        hook = before_pass(llava, wait)
        step = asyncio.create_task(asyncio.to_thread(inside.step))
        try:
            assert (await check.job.receive()).reply is not None
        finally:
            told.set()
            await step
            hook.remove()

    asyncio.run(main())


def test_a_cancelled_call_frees_its_row_in_the_next_step(llava: Loaded) -> None:
    async def main() -> None:
        inside = batcher(llava, max_batch=2)
        gone, stays = (add(inside, call(chat, 100)) for chat in CHATS[:2])
        waits = add(inside, call(CHATS[6], 3))
        inside.step()
        said, owners = len(gone.tokens), over_slots(inside).slots.owners
        assert set(owners) == {gone, stays}
        gone.job.cancelled = True
        inside.step()
        assert set(owners) == {stays, waits}
        assert len(gone.tokens) == said
        finish(inside)

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["llava", "idefics"])
def test_the_pieces_join_to_the_text(kind: str, request: pytest.FixtureRequest) -> None:
    async def main() -> None:
        inside = batcher(request.getfixturevalue(kind))
        answers = [add(inside, call(chat, 50)) for chat in CHATS[:4]]
        finish(inside)
        for answer in answers:
            deltas, reply = await outcome(answer)
            assert "".join(delta.text for delta in deltas) == reply.text
            assert len(deltas) > 10

    asyncio.run(main())


def failing_once(loaded: Loaded, error: Exception) -> Any:
    """The next forward pass of the language model fails."""

    def fail(*_: object) -> None:
        hook.remove()
        raise error

    hook = before_pass(loaded, fail)
    return hook


def test_a_failing_prompt_ends_its_own_call_and_those_that_stream_go_on(llava: Loaded) -> None:
    wanted = ask(llava, call(CHATS[0]))[0].text

    async def main() -> None:
        inside = batcher(llava)
        streaming = add(inside, call(CHATS[0]))
        inside.step()
        broken = add(inside, call(CHATS[1]))
        failing_once(llava, ValueError("shapes differ"))
        finish(inside)
        assert (await outcome(streaming))[1].text == wanted
        with pytest.raises(EngineError, match="llava-tiny failed: ValueError"):
            await outcome(broken)
        assert over_slots(inside).slots.owners == []

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["llava", "idefics"])
def test_a_failing_step_ends_those_that_take_part_and_the_next_call_is_answered(kind: str, request: pytest.FixtureRequest) -> None:
    loaded: Loaded = request.getfixturevalue(kind)

    async def main() -> None:
        inside = batcher(loaded)
        answers = [add(inside, call(chat)) for chat in CHATS[:1] * 3]
        for _ in range(4):
            inside.step()
        failing_once(loaded, MemoryError())
        inside.step()
        heard = list[EngineError]()
        for answer in answers:
            with pytest.raises(EngineError, match="Out of memory") as caught:
                await outcome(answer)
            heard.append(caught.value)
        assert len(set(map(id, heard))) == 3  # an error keeps the frames of those through whom it went
        assert inside.scheduler.idle

    asyncio.run(main())
    assert ask(loaded, call(CHATS[0], 5))[0].completion_tokens == 5


@pytest.mark.parametrize("freeing", [True, False])
def test_when_the_device_takes_no_work_any_more_its_calls_hear_that_only_a_new_process_helps(
    freeing: bool, llava: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("CUDA error")

    async def main() -> None:
        inside = batcher(llava)
        answers = [add(inside, call(chat)) for chat in CHATS[:3]]
        for _ in range(4):
            inside.step()
        monkeypatch.setattr("llava.engines.local.batcher.takes_no_work", lambda _: True)  # there is no broken GPU at hand
        failing_once(llava, RuntimeError("CUDA error: an illegal memory access was encountered"))
        if freeing:
            inside.step()
        else:  # the engine's thread ends like this, and closes what is left
            monkeypatch.setattr(over_slots(inside).slots, "_move", refuse)
            with pytest.raises(RuntimeError):
                inside.step()
            inside.close(lambda: EngineClosed("closed"))
        for answer in answers:
            with pytest.raises(ModelLost, match=r"failed: RuntimeError. Its device cpu takes no work any more .* start it again") as caught:
                await outcome(answer)
            assert isinstance(caught.value.__cause__, RuntimeError)

    asyncio.run(main())


def test_a_device_is_tried_before_it_is_given_up() -> None:
    assert not takes_no_work(torch.device("cpu"))
    assert takes_no_work(torch.device("meta"))  # nothing can be read there


def test_an_error_that_is_kept_keeps_no_tensor_alive(llava: Loaded) -> None:
    seen: list[weakref.ref[torch.Tensor]] = []

    def fail(*_: object) -> None:
        large = torch.zeros(9)
        seen.append(weakref.ref(large))
        raise ValueError("shapes differ")

    hook = before_pass(llava, fail)
    try:
        with pytest.raises(EngineError, match="ValueError") as caught:
            ask(llava, call(CHATS[0]))
    finally:
        hook.remove()
    assert isinstance(caught.value.__cause__, ValueError)
    assert seen[0]() is None


def test_closing_ends_all_that_wait_and_run(llava: Loaded) -> None:
    async def main() -> None:
        inside = batcher(llava, max_batch=2, chunk=8)
        answers = [add(inside, call(chat)) for chat in CHATS[:4]]
        for _ in range(2):
            inside.step()
        inside.close(lambda: EngineClosed("closed"))
        for answer in answers:
            with pytest.raises(EngineClosed):
                await outcome(answer)
        assert inside.scheduler.idle
        stats = inside.runner.stats()
        assert stats.slot_bytes == stats.kept_bytes == 0

    asyncio.run(main())
