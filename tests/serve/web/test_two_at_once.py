"""Two questions of one visitor of the ECSO page, one right after the other: the first one is answered, the other one is told why not."""

from __future__ import annotations

import asyncio
import json

import pytest

from llava.engines import ScriptedEngine
from llava.engines.base import Engine
from llava.serve.web.door import PICTURES
from llava.serve.web.models import Models
from tests import factories
from tests.serve.cluster import until
from tests.serve.web.pages import PAGES, served
from tests.serve.web.visitor import PATIENCE, visitor
from tests.serve.web.weaknesses import SAID

RAW = {"content-type": "application/octet-stream"}


def test_no_question_takes_the_place_of_an_earlier_one_or_its_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once, reached, listed = Models.chosen, asyncio.Event(), asyncio.Event()

    async def chosen(models: Models, name: object) -> tuple[str, Engine]:
        if not reached.is_set():  # as a controller takes that is asked for its models
            reached.set()
            await listed.wait()
        return await at_once(models, name)

    monkeypatch.setattr(Models, "chosen", chosen)

    async def main() -> None:
        engine = ScriptedEngine(SAID, delay=0.2)
        async with served(PAGES["ecso"], engine, reload=False) as page, visitor(page.url) as one:
            queue = page.app.state.visits._blocks._queue
            await one.load()
            picture = factories.encoded(factories.image().pil())
            added = (await one.client.post(PICTURES, content=picture, headers=RAW)).json()
            await one.send("run-all", question="First?", picker=json.dumps([added]))
            await until(reached.is_set, PATIENCE)
            await one.send("run-all", question="Second?", picker="[]")
            await until(lambda: len(queue) == 0 and sum(job is not None for job in queue.active_jobs) == 2, PATIENCE)
            listed.set()
            await until(lambda: not queue.event_ids_to_events, PATIENCE)  # both have ended
            await one.press("view", "change")
            (asked,) = [(call.chat.question, len(call.chat.images)) for call in engine.seen if call.step == "answer"]
            assert asked == ("First?", 1)
            assert "A step is running: stop it first. (req_" in one.shown["notice"]

    asyncio.run(main())
