"""Numbers that run over, as large ones do in float16: whose call ends, and what of it stays."""

import asyncio
from pathlib import Path

import pytest
import torch

from llava.chat import Chat
from llava.errors import EngineError
from llava.model.builder import load
from llava.model.loaded import Loaded
from tests.engines.local.driving import CHATS, RED, add, ask, batcher, before_pass, call, finish, generated, outcome

LONG = Chat.ask("the cat sat on the mat " * 20, [RED])


@pytest.fixture(scope="module")
def half(tiny_llava: Path) -> Loaded:
    """The model in float16."""
    return load(str(tiny_llava), device="cpu", dtype="float16")


def test_a_call_whose_numbers_run_over_ends_alone_and_leaves_nothing_behind(llava: Loaded) -> None:
    def run_over(hidden: torch.Tensor, _: torch.Tensor) -> None:
        hidden[row] = torch.nan

    async def main() -> None:
        inside = batcher(llava, max_batch=3)
        long, broken, other = (add(inside, call(chat, 60)) for chat in (LONG, CHATS[1], CHATS[3]))
        while len(inside.scheduler.decoding) < 3:
            inside.step()
        hook = before_pass(llava, run_over)
        inside.step()
        hook.remove()
        with pytest.raises(EngineError, match=r"llava-tiny gave no number .* In torch.float32 large values run over"):
            await outcome(broken)
        late = add(inside, call(CHATS[0], 60))  # takes the row, and is shorter than what is read of it
        finish(inside)
        for answer, chat in ((long, LONG), (other, CHATS[3]), (late, CHATS[0])):
            assert answer.tokens == generated(llava, chat, 60)

    row = 1
    asyncio.run(main())


@pytest.mark.parametrize("leaves", ["before anybody looks", "in the same step"])
@pytest.mark.parametrize("model", ["half", "llava"])
def test_a_call_whose_numbers_run_over_leaves_nothing_behind_when_its_reader_has_gone(
    model: str, leaves: str, request: pytest.FixtureRequest
) -> None:
    loaded: Loaded = request.getfixturevalue(model)

    def run_over(hidden: torch.Tensor, positions: torch.Tensor) -> None:
        if positions.numel() > 1:
            hidden[:] = torch.inf
            for broken in inside.scheduler.prefilling:
                broken.job.cancelled = leaves == "in the same step"

    wanted = [reply.text for reply in ask(loaded, call(LONG, 40), call(CHATS[0], 40))]
    inside = batcher(loaded, chunk=90)

    async def main() -> None:
        long = add(inside, call(LONG, 40))
        inside.step()
        broken = add(inside, call(LONG if leaves == "before anybody looks" else CHATS[6], 40))
        hook = before_pass(loaded, run_over)
        inside.step()
        hook.remove()
        assert (broken.reply, broken.tokens) == (None, [])
        broken.job.cancelled = True
        late = add(inside, call(CHATS[0], 40))  # takes the row, and is shorter than what is read of it
        finish(inside)
        assert [(await outcome(answer))[1].text for answer in (long, late)] == wanted

    asyncio.run(main())


@pytest.mark.parametrize("chunk", [16, 256])
def test_a_picture_whose_numbers_run_over_once_is_not_kept(llava: Loaded, chunk: int) -> None:
    passes = 0

    def run_over(hidden: torch.Tensor, positions: torch.Tensor) -> None:
        nonlocal passes
        if positions.numel() > 1:
            passes += 1
            if passes == 1:
                hidden[:] = torch.inf

    async def main() -> None:
        inside = batcher(llava, chunk=chunk)
        streaming = add(inside, call(CHATS[0], 60))
        inside.step()
        hook = before_pass(llava, run_over)
        broken, waits = add(inside, call(CHATS[1], 20)), add(inside, call(CHATS[4], 20))
        finish(inside)
        hook.remove()
        late = add(inside, call(CHATS[1], 20))
        finish(inside)
        with pytest.raises(EngineError, match="gave no number"):
            await outcome(broken)
        for answer, chat, count in ((streaming, CHATS[0], 60), (waits, CHATS[4], 20), (late, CHATS[1], 20)):
            assert answer.tokens == generated(llava, chat, count)

    asyncio.run(main())
