"""What one visitor can hold of a page: connections, places, memory. Others are served all the same."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest
from gradio.utils import get_upload_folder

from llava.engines import ScriptedEngine
from llava.serve.security import Keys, Right, Rules
from llava.serve.web import shell, taming, visits
from llava.serve.web.visits import Visits
from tests.serve.cluster import until
from tests.serve.web.pages import PAGES, Page, served
from tests.serve.web.visitor import Visitor, visitor
from tests.serve.web.weaknesses import KEY, SAID, on_page

ASKING = {"chat": "send", "ecso": "run-all"}
PATIENCE = 120.0


def held(page: Page) -> tuple[Any, Any, Visits]:
    """gradio's queue, its values of all sessions, and what looks after both."""
    watched: Visits = page.app.state.visits
    return watched._blocks._queue, watched._blocks.state_holder, watched


def staying(one: Visitor) -> dict[str, Any]:
    """The event that lasts while a page is shown."""
    ticks = [row for (_, event), row in one.events.items() if event == "tick"]
    return one.request(ticks[-1])


async def ask(one: Visitor, kind: str, queue: Any) -> httpx2.Response:
    """Join with the event in which a model is asked, and wait for nothing."""
    if kind == "ecso":
        return await one.send("run-all", question="Who waits?")
    asked = one.events[("send", "click")]
    following = next(row for row in one.rows if row.get("trigger_after") == asked["id"])
    (await one.send("send", question="Who waits?", guard=False)).raise_for_status()
    await until(lambda: not any(event.fn._id == asked["id"] for event in queue.event_ids_to_events.values()), PATIENCE)
    return await one.client.post("/gradio_api/queue/join", json=one.request(following))


def test_a_tab_holds_one_connection_only_for_a_browser_has_six_for_all(kind: str) -> None:
    async def main(one: Visitor) -> None:
        async with one.client.stream("GET", f"/gradio_api/heartbeat/{one.session}") as beat:  # gradio's never ends
            assert beat.status_code == 204  # an EventSource does not come again after it

    on_page(kind, main)


def test_who_makes_up_pages_takes_nobodys_place(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taming, "EVENTS", 12)
    monkeypatch.setattr(visits, "EACH", 8)
    monkeypatch.setattr(shell, "SIGN_OF_LIFE", 0.2)

    async def main() -> None:
        async with served(PAGES[kind], ScriptedEngine(SAID)) as page, visitor(page.url) as one, visitor(page.url) as other:
            await one.load()
            await one.press(ASKING[kind], question="Who are you?")
            answers = [
                await other.client.post("/gradio_api/queue/join", json=staying(other) | {"session_hash": f"made-up-{n}"}) for n in range(20)
            ]
            assert [answer.status_code for answer in answers] == [200] * 7 + [429] * 13
            assert "Too many pages are open" in answers[-1].json()["detail"]
            assert "(req_" in answers[-1].json()["detail"]
            await one.press(ASKING[kind], question="Who are you now?")
            assert one.problems == []
            queue, _, _ = held(page)
            await until(lambda: not queue.event_ids_to_events, PATIENCE)  # nobody reads what these pages are told

    asyncio.run(main())


def test_what_a_page_left_behind_is_forgotten(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with served(PAGES[kind], ScriptedEngine(SAID)) as page, visitor(page.url) as left, visitor(page.url) as unread:
            queue, values, watched = held(page)
            await left.load()
            (await unread.send("stop")).raise_for_status()
            await until(lambda: not queue.event_ids_to_events, PATIENCE)
            watched.sweep()
            assert {left.session, unread.session} <= values.session_data.keys()
            monkeypatch.setattr(visits, "UNREAD_SECONDS", -1.0)
            watched.sweep()
            assert len(queue.pending_messages_per_session) == len(queue.pending_event_ids_session) == 0
            assert {left.session, unread.session} <= values.session_data.keys()
            monkeypatch.setattr(visits, "FORGOTTEN", -1.0)
            watched.sweep()
            assert not values.session_data
            await left.load()  # it can come back
            assert left.problems == []

    asyncio.run(main())


def test_a_page_that_is_shown_is_never_forgotten(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visits, "FORGOTTEN", -1.0)

    async def main() -> None:
        async with served(PAGES[kind], ScriptedEngine(SAID)) as page, visitor(page.url) as one:
            queue, values, watched = held(page)
            await one.load()
            (await one.client.post("/gradio_api/queue/join", json=staying(one))).raise_for_status()
            await until(lambda: len(queue) == 0 and sum(job is not None for job in queue.active_jobs) == 1, PATIENCE)
            watched.sweep()
            assert one.session in values.session_data

    asyncio.run(main())


def test_a_page_makes_room_for_another_one_only_when_it_was_left(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visits, "VISITORS", 2)

    async def main() -> None:
        async with served(PAGES[kind], ScriptedEngine(SAID)) as page:
            _, values, _ = held(page)
            async with visitor(page.url) as one, visitor(page.url) as two, visitor(page.url) as three:
                await one.load()
                await two.load()
                assert (await three.send("stop")).status_code == 429
                assert values.session_data.keys() == {one.session, two.session}
                monkeypatch.setattr(visits, "RECENT", -1.0)
                await three.load()
                assert values.session_data.keys() == {two.session, three.session}

    asyncio.run(main())


def test_nothing_that_passed_through_a_page_stays_with_it(kind: str) -> None:
    async def main() -> None:
        async with served(PAGES[kind], ScriptedEngine(SAID)) as page, visitor(page.url) as one:
            _, values, _ = held(page)
            await one.load()
            await one.press(ASKING[kind], question="What is this?", model="passing-3c1e" * 1000)
            assert "not served just now" in one.shown["notice"]
            held_by_gradio = [part["props"].get("value") for part in values.session_data[one.session].components]
            assert not [value for value in held_by_gradio if "passing-3c1e" in str(value)]

    asyncio.run(main())


def test_messages_that_nobody_reads_are_bounded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visits, "UNREAD", 10)

    async def main() -> None:
        async with served(PAGES[kind], ScriptedEngine(SAID)) as page, visitor(page.url) as one, visitor(page.url) as other:
            queue, _, _ = held(page)
            statuses = []
            for _ in range(12):
                statuses.append((await one.send("stop")).status_code)
                await until(lambda: not queue.event_ids_to_events, PATIENCE)
            assert statuses[0] == 200
            assert statuses[-1] == 429
            await other.load()
            monkeypatch.setattr(visits, "UNREAD_EACH", 5)
            assert (await other.send("stop")).status_code == 429  # of the same address

    asyncio.run(main())


@pytest.mark.parametrize("keyed", [False, True])
def test_one_visitors_questions_leave_places_for_others(kind: str, keyed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visits, "ASKED", 4)
    other_key = "another-visitors-key"
    rules = Rules(Keys([(KEY, Right.INFERENCE), (other_key, Right.INFERENCE)] if keyed else []))

    async def main() -> None:
        slow = ScriptedEngine({"answer": "word " * 500, "check": "No"}, delay=0.05)
        async with (
            served(PAGES[kind], slow, concurrency=2, rules=rules) as page,
            visitor(page.url, auth=("one", KEY)) as one,
            visitor(page.url, auth=("two", other_key)) as two,
        ):
            queue, _, _ = held(page)
            answers = []
            for number in range(6):
                one.session = f"made-up-{number}"
                answers.append(await ask(one, kind, queue))
            assert [answer.status_code for answer in answers] == [200] * 4 + [429] * 2
            assert "4 questions from here are being answered" in answers[-1].json()["detail"]
            await one.load()  # what asks no model is served
            two.session = "another"
            assert (await ask(two, kind, queue)).status_code == (200 if keyed else 429)
            monkeypatch.setattr(visits, "WAITING", 1)
            two.session = "yet-another"
            refused = await ask(two, kind, queue)
            assert refused.status_code == 429
            assert ("wait already" in refused.json()["detail"]) == keyed
            await two.load()

    asyncio.run(main())


def test_a_chat_whose_question_found_no_place_says_so_and_goes_on() -> None:
    async def main() -> None:
        async with served(PAGES["chat"], ScriptedEngine(SAID)) as page, visitor(page.url) as one:
            _, _, watched = held(page)
            await one.load()
            places, watched._asked = watched._asked, 0
            await one.press("send", question="Who finds no place?")
            assert "questions from here are being answered" in one.problems.pop()
            assert "not put to the model: press Regenerate" in one.shown["past"]
            watched._asked = places
            await one.press("again")
            assert "A cat." in one.shown["past"]
            assert "not put to the model" not in one.shown["past"]
            await one.press("send", question="And who finds one?")
            assert one.shown["past"].count("A cat.") == 2
            assert one.problems == []

    asyncio.run(main())


def test_what_would_make_gradio_fail_is_refused_before_it(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main(one: Visitor) -> None:
        unknown = await one.client.get("/gradio_api/queue/data?session_hash=unknown")
        assert unknown.status_code == 404
        whole = {"session_hash": "x", "event_id": "x", "fn_index": 0}
        assert (await one.client.post("/gradio_api/cancel", json=whole)).status_code == 200
        for changed in ({"session_hash": ["sentinel"]}, {"event_id": None}, {"fn_index": "sentinel"}, {"session_hash": "../sentinel"}):
            answer = await one.client.post("/gradio_api/cancel", json=whole | changed)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_value")
            assert "sentinel" not in answer.text
        assert (await one.client.post("/gradio_api/reset", json={"event_id": 1})).status_code == 400
        assert (await one.client.post("/gradio_api/cancel", json=[])).status_code == 400

    on_page(kind, main)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_nothing_is_kept_on_its_way_and_no_search_engine_looks(kind: str) -> None:
    async def main(one: Visitor) -> None:
        for path in ("/", "/health", "/gradio_api/startup-events", "/nothing"):
            assert (await one.client.get(path)).headers.get_list("cache-control") == ["no-store"]
        assert "Disallow: /\n" in (await one.client.get("/robots.txt")).text

    on_page(kind, main)


def test_gradio_shows_nothing_that_somebody_else_wrote_into_a_folder(kind: str) -> None:
    async def main(one: Visitor) -> None:
        folder = Path(get_upload_folder())
        assert folder.stat().st_mode & 0o077 == 0
        assert not list(folder.iterdir())
        for query in ("deep_link=abc", "deep_link=", "a=1&deep%5flink=abc", "page=x"):
            assert (await one.client.get(f"/?{query}")).status_code == 404

    before = get_upload_folder()
    on_page(kind, main)
    assert get_upload_folder() == before
