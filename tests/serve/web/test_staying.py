"""The event that lasts while its page is shown: one for each page, whatever else there is to read, and none for who reads nothing."""

from __future__ import annotations

import asyncio
import json

import gradio as gr
import pytest

from llava.engines import ScriptedEngine
from llava.serve.web import shell
from tests.serve.cluster import until
from tests.serve.web.pages import PAGES, served
from tests.serve.web.test_web_bounds import PATIENCE, held, staying
from tests.serve.web.visitor import Visitor, visitor
from tests.serve.web.weaknesses import SAID


async def join(one: Visitor) -> str:
    """One more such event; its id."""
    joined = await one.client.post("/gradio_api/queue/join", json=staying(one))
    return str(joined.raise_for_status().json()["event_id"])


async def first_words(one: Visitor, events: set[str]) -> list[str]:
    """How each of these events began: with what it yields, or with its end."""
    said: dict[str, str] = {}
    async with one.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": one.session}) as stream:
        async for line in stream.aiter_lines():
            message = json.loads(line[6:]) if line.startswith("data: ") else {}
            if message.get("event_id") in events and message["msg"] in ("process_generating", "process_completed"):
                said.setdefault(message["event_id"], message["msg"])
            if said.keys() == events:
                break
    return sorted(said.values())


@pytest.mark.parametrize("unread", [0, 3])
def test_a_page_stays_once_whatever_it_has_not_read_yet(kind: str, unread: int) -> None:
    async def main() -> None:
        async with served(PAGES[kind], ScriptedEngine(SAID)) as page, visitor(page.url) as one:
            queue, _, _ = held(page)
            for _ in range(unread):
                (await one.send("stop")).raise_for_status()
            await until(lambda: not queue.event_ids_to_events, PATIENCE)
            events = {await join(one) for _ in range(9)}
            assert await first_words(one, events) == ["process_completed"] * 8 + ["process_generating"]

    asyncio.run(main())


def test_who_reads_stays_however_much_waits_and_who_reads_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "SIGN_OF_LIFE", 0.0)

    async def main() -> None:
        messages: asyncio.Queue[object] = asyncio.Queue()
        with gr.Blocks() as blocks:
            blocks._queue.pending_messages_per_session["shown"] = messages
        stays = shell._Staying(blocks).stay(gr.Request(session_hash="shown"))
        for _ in range(5):
            messages.put_nowait(object())
        for _ in range(5):
            assert await anext(stays)
            messages.put_nowait(object())  # faster than they are read
            messages.get_nowait()
        assert await anext(stays)
        with pytest.raises(StopAsyncIteration):
            await anext(stays)

    asyncio.run(main())


def test_a_page_whose_messages_are_gone_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "SIGN_OF_LIFE", 0.0)

    async def main() -> None:
        with gr.Blocks() as blocks:
            told = blocks._queue.pending_messages_per_session
            told["shown"] = asyncio.Queue()
        stays = shell._Staying(blocks).stay(gr.Request(session_hash="shown"))
        assert await anext(stays)
        assert await anext(stays)
        del told["shown"]
        with pytest.raises(StopAsyncIteration):
            await anext(stays)

    asyncio.run(main())
