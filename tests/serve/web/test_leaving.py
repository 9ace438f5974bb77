"""Who leaves a page ends the model's work; what was said to others goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import pytest

from llava.chat import Call, Delta
from llava.engines import ScriptedEngine
from tests.serve.cluster import until
from tests.serve.web.pages import PAGES, Page, served
from tests.serve.web.visitor import Visitor, visitor

ASKING = {"chat": "send", "ecso": "run-all"}
PATIENCE = 120.0


class Counted(ScriptedEngine):
    """Speaks for minutes; knows how many calls run."""

    running = 0

    async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
        self.running += 1
        try:
            async for delta in super().stream(call):
                yield delta
        finally:
            self.running -= 1


@asynccontextmanager
async def asked(kind: str, guarded: bool) -> AsyncIterator[tuple[Counted, Page, Visitor, asyncio.Task[None]]]:
    """A model that answers slowly, its page, and a visitor there whose question it answers."""
    engine = Counted({"answer": "word " * 5000, "check": "No"}, delay=0.05)
    async with served(PAGES[kind], engine) as page, visitor(page.url) as one:
        await one.load()
        asking = asyncio.create_task(one.press(ASKING[kind], question="Who asks?", guard=guarded))
        await until(lambda: engine.running == 1, PATIENCE)
        yield engine, page, one, asking


@pytest.mark.parametrize("guarded", [False, True])
def test_who_leaves_ends_the_models_work_and_nobody_elses(kind: str, guarded: bool) -> None:
    async def main() -> None:
        async with asked(kind, guarded) as (engine, page, stays, staying):
            async with visitor(page.url) as leaves:
                await leaves.load()
                leaving = asyncio.create_task(leaves.press(ASKING[kind], question="Who leaves?", guard=guarded))
                await until(lambda: engine.running == 2, PATIENCE)
                leaving.cancel()
                await asyncio.gather(leaving, return_exceptions=True)
            await until(lambda: engine.running == 1, PATIENCE)
            assert not staying.done()
            await stays.send("stop")
            await asyncio.wait_for(staying, PATIENCE)
            assert engine.running == 0

    asyncio.run(main())


def test_a_page_that_lost_its_connection_in_the_middle_of_an_answer_has_no_dead_button(kind: str) -> None:
    async def main() -> None:
        async with asked(kind, guarded=False) as (engine, _, one, asking):
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await until(lambda: engine.running == 0, PATIENCE)
            await one.press("stop")
            assert (one.live[ASKING[kind]], one.live["stop"]) == (True, False)
            assert one.problems == []

    asyncio.run(main())
