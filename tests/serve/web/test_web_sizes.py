"""How much of a page's memory a visitor's questions may take while they wait."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest

from llava.engines import ScriptedEngine
from llava.image import MAX_BYTES
from llava.serve.web import visits
from llava.serve.web.site import CAPS
from tests.serve.web.pages import PAGES, served
from tests.serve.web.visitor import visitor


def test_the_questions_of_one_visitor_have_a_bound_of_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visits, "ASKED_BYTES", 150_000)

    async def main() -> None:
        slow = ScriptedEngine({"answer": "word " * 500, "check": "No"}, delay=0.05)
        async with served(PAGES["ecso"], slow, concurrency=1) as page, visitor(page.url) as one:
            answers = []
            for number, question in enumerate(["w" * 100_000, "w" * 100_000, "Who waits?"]):
                one.session = f"made-up-{number}"
                answers.append(await one.send("run-all", question=question))
            assert [answer.status_code for answer in answers] == [200, 429, 200]
            assert "long enough" in answers[1].json()["detail"]
            events = page.app.state.visits._blocks._queue.event_ids_to_events.values()
            waiting = [event.request.scope["state"] for event in events]
            assert sorted(state["size"] > 100_000 for state in waiting) == [False, True]
            assert [state["json"] for state in waiting] == [None, None]  # gradio has its own

    asyncio.run(main())


@pytest.mark.parametrize(
    ("path", "kind", "most"),
    [("/gradio_api/queue/join", "application/json", CAPS.body), ("/pictures", "application/octet-stream", MAX_BYTES + 1)],
    ids=["an event", "a picture"],
)
def test_an_event_is_smaller_than_a_picture_which_comes_another_way(path: str, kind: str, most: int) -> None:
    async def main() -> bytes:
        async with served(PAGES["ecso"], ScriptedEngine("A cat.")) as page:
            parts = urlsplit(page.url)
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            writer.write(
                f"POST {path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: {kind}\r\ncontent-length: {most + 1}\r\n\r\n".encode()
            )
            answer = await reader.read()  # it is not waited for what is too large
            writer.close()
            return answer

    answer = asyncio.run(main())
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert f"at most {most / 2**20:g} MiB".encode() in answer
