"""Visitors' pictures on the pages: one bound for those that are kept and those that answers use, and no visitor pushes out another's."""

from __future__ import annotations

import asyncio
import gc
import json
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from PIL import Image as PIL

from llava.chat import Image
from llava.engines import ScriptedEngine
from llava.recent import Recent
from llava.serve.security import Keys, Right, Rules
from llava.serve.web.door import PICTURES
from llava.serve.web.models import Models
from llava.serve.web.options import Settings
from llava.serve.web.pictures import LEAST_BYTES, Pictures
from tests.ecso.factories import picture
from tests.factories import encoded
from tests.serve.cluster import until
from tests.serve.web.pages import PAGES, served
from tests.serve.web.visitor import Visitor, visitor
from tests.serve.web.weaknesses import KEY, SAID

if TYPE_CHECKING:
    import gradio as gr

ASKING = {"chat": "send", "ecso": "run-all"}
FOLLOWING = {"chat": "send", "ecso": "run-check"}
PATIENCE = 120.0
RAW = {"Content-Type": "application/octet-stream"}
OTHER_KEY = "another-visitors-key"
TWO = Rules(Keys([(KEY, Right.INFERENCE), (OTHER_KEY, Right.INFERENCE)]))
PHOTO = encoded(PIL.effect_noise((300, 300), 99.0), "PNG")


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Says how many bytes of pictures are kept at most. The workers, which are in this process here, keep none of their own."""
    monkeypatch.setattr(Recent, "get", lambda _self, _key, make: make())
    return lambda most: monkeypatch.setattr(Pictures.__init__, "__defaults__", (most, 3600.0))


async def sent(one: Visitor, file: bytes) -> httpx2.Response:
    return await one.client.post(PICTURES, content=file, headers=RAW)


async def added(one: Visitor, file: bytes) -> str:
    """The value of a picker to which this picture was added."""
    return json.dumps([(await sent(one, file)).raise_for_status().json()])


def alive(wide: int) -> int:
    """How many pictures of that width somebody holds."""
    gc.collect()
    return sum(type(each) is Image and each.size[0] == wide for each in gc.get_objects())


def test_conversations_hold_no_pictures_beyond_those_that_all_pages_may_keep(kind: str, room: Any) -> None:
    files = [picture(size=(9, 8 + number)).png() for number in range(6)]
    room(LEAST_BYTES)

    async def main() -> None:
        engine = ScriptedEngine(SAID)
        async with served(PAGES[kind], engine) as page, visitor(page.url) as one:
            mine = one.session
            for number, file in enumerate(files):
                one.session = f"{mine}-{number}"
                await one.press(ASKING[kind], question="What is this?", picker=await added(one, file))
            assert len(engine.seen) >= len(files)
            engine.seen.clear()
            assert alive(9) <= 2  # one may be on its way still
            one.session = f"{mine}-0"
            await one.press(FOLLOWING[kind], question="And what colour is it?", picker="[]")
            assert "no longer kept here" in one.shown["notice"]
            assert not engine.seen
            assert not one.problems

    asyncio.run(main())


def test_questions_whose_answers_nobody_asks_for_hold_no_pictures(room: Any) -> None:
    files = [picture(size=(10, 8 + number)).png() for number in range(6)]
    room(LEAST_BYTES)

    async def main() -> None:
        async with served(PAGES["chat"], ScriptedEngine(SAID)) as page, visitor(page.url) as one:
            queue, mine = page.app.state.visits._blocks._queue, one.session
            for number, file in enumerate(files):
                one.session = f"{mine}-{number}"
                (await one.send("send", question="What is this?", picker=await added(one, file))).raise_for_status()
                await until(lambda: not queue.event_ids_to_events, PATIENCE)
            assert alive(10) <= 2

    asyncio.run(main())


def test_a_picture_that_an_answer_uses_stays_and_one_more_is_refused_in_a_sentence(kind: str, room: Any) -> None:
    room(3 * len(PHOTO))  # and its small copy counts as much

    async def main() -> None:
        slow = ScriptedEngine({"answer": "word " * 5000, "check": "No"}, delay=0.05)
        async with served(PAGES[kind], slow) as page, visitor(page.url) as one:
            await one.load()
            picker = await added(one, PHOTO)
            asking = asyncio.create_task(one.press(ASKING[kind], question="What is this?", picker=picker))
            await until(lambda: bool(slow.seen), PATIENCE)
            refused = await sent(one, PHOTO)
            assert refused.status_code == 429
            assert refused.json()["error"]["message"].endswith(
                "need all the room that there is for pictures: add this one when some have ended."
            )
            await one.send("stop")
            await asyncio.wait_for(asking, PATIENCE)
            (await sent(one, PHOTO)).raise_for_status()

    asyncio.run(main())


def test_a_stranger_who_adds_many_pictures_pushes_out_nobody_elses(kind: str, room: Any) -> None:
    room(5 * len(PHOTO))

    async def main() -> None:
        engine = ScriptedEngine(SAID)
        async with (
            served(PAGES[kind], engine, rules=TWO) as page,
            visitor(page.url, auth=("me", KEY)) as me,
            visitor(page.url, auth=("stranger", OTHER_KEY)) as stranger,
        ):
            await me.load()
            await me.press(ASKING[kind], question="What is this?", picker=await added(me, PHOTO))
            for _ in range(8):
                (await sent(stranger, PHOTO)).raise_for_status()
            engine.seen.clear()
            await me.press(FOLLOWING[kind], question="And what colour is it?", picker="[]")
            assert me.shown["notice"] == ""
            assert engine.seen[0].chat.images == (Image.open(PHOTO),)

    asyncio.run(main())


def test_an_example_for_which_there_is_no_room_leaves_the_conversation_as_it_is(room: Any) -> None:
    room(LEAST_BYTES)
    store = []

    def build(settings: Settings, models: Models, pictures: Pictures) -> gr.Blocks:
        store.append(pictures)
        return PAGES["ecso"](settings, models, pictures)

    async def main() -> None:
        async with served(build, ScriptedEngine(SAID)) as page, visitor(page.url) as one:
            await one.load()
            await one.press("run-all", question="What is this?")
            with store[0].use([store[0].add(picture().png()).id]):
                await one.press("examples", event_data={"example": 0})
                assert "for pictures: add this one when some have ended. (req_" in one.shown["notice"]
                await one.press("view", "change")
                assert one.shown["answer-text"] == "A cat."
            await one.press("examples", event_data={"example": 0})
            await one.press("view", "change")
            assert one.shown["notice"] == ""

    asyncio.run(main())


def test_a_picture_is_decoded_when_it_is_added_and_not_with_each_question(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    pil = Image.pil

    def counted(image: Image) -> PIL.Image:
        decoded.append(image)
        return pil(image)

    monkeypatch.setattr(Image, "pil", counted)

    async def main() -> None:
        async with served(PAGES[kind], ScriptedEngine(SAID)) as page, visitor(page.url) as one:
            await one.load()
            picker = await added(one, picture(size=(9, 8)).png())
            decoded.clear()
            await one.press(ASKING[kind], question="What is this?", picker=picker)
            assert one.problems == []
            assert decoded == []

    asyncio.run(main())
