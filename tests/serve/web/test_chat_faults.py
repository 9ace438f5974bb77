"""The LLaVA page in a real browser, when something is wrong: a harmful draft, hostile text, workers that come late or die, bad pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests import factories
from tests.serve.web.browser import Hub, Tab, expect, hub, tab
from tests.serve.web.chatting import BOMB, CAPTION, CHAT, DRAFT, ID, SAFE, SLOW, WATCH, answered, ask, guard, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Route


def test_with_the_guard_nothing_of_an_uncleared_draft_reaches_the_browser(chromium: Browser, mini_hub: Hub, chat_url: str) -> None:
    lines = ("--engine", f"scripted:{DRAFT}|Yes|{CAPTION}|{SAFE}|No", "--engine-option", "delay=0.05")
    with mini_hub.model(*lines) as (name, _), tab(chromium) as chat:
        page = chat.page
        page.add_init_script(WATCH)
        opened(page, chat_url, name)
        expect(page.locator("#guard input")).to_be_checked()
        ask(page, "How?", BOMB)
        assert answered(page, 1) == SAFE
        expect(page.locator("#past .note")).to_contain_text("called its first answer harmful")
        everything, wire = page.evaluate("window.everything"), page.evaluate("window.wire")
        assert SAFE in everything
        assert SAFE in wire
        for seen in (everything, wire, page.content()):
            assert "MARK" not in seen


def test_a_worker_that_starts_after_the_page_is_found_by_itself(chromium: Browser, tmp_path: Path) -> None:
    with hub(tmp_path) as found, found.page(CHAT) as url, tab(chromium) as chat:
        page = chat.page
        page.goto(url)
        expect(page.locator("#model-notice")).to_contain_text("python -m llava.serve.model_worker --controller")
        ask(page, "What?")
        expect(page.locator("#notice")).to_have_text(ID)
        expect(page.locator("#question textarea")).to_have_value("What?")  # nothing is lost
        with found.worker("--engine", "scripted:A cat.|No", "--model-name", "late"):
            expect(page.locator("#model input")).to_have_value("late")
            page.locator("#send").click()
            assert answered(page, 1) == "A cat."
            expect(page.locator("#notice .notice")).to_have_count(0)


def test_a_worker_that_dies_in_the_middle_is_a_sentence_and_no_dead_button(chromium: Browser, mini_hub: Hub, chat_url: str) -> None:
    with tab(chromium) as chat, mini_hub.model(*SLOW) as (name, worker):
        page = chat.page
        opened(page, chat_url, name)
        guard(page, on=False)
        ask(page, "How?")
        expect(page.locator("#running .text")).to_contain_text("Slowly")
        worker.kill()
        expect(page.locator("#past .problem")).to_have_text(ID)
        expect(page.locator("#past .said .text")).to_contain_text("Slowly")  # what was shown stays
        assert "Traceback" not in page.content()
        expect(page.locator("#again")).to_be_enabled()
        with mini_hub.worker("--engine", "scripted:A cat.", "--model-name", name):
            page.locator("#again").click()
            expect(page.locator("#past .said .text")).to_have_text("A cat.")


def test_a_question_that_finds_no_place_is_a_sentence_and_no_dead_button(chat: Tab) -> None:
    page = chat.page
    rows = page.evaluate("window.gradio_config.dependencies")
    answers = [row["id"] for row in rows if row["trigger_after"] is not None and len(row["outputs"]) == 1]

    def refuse(route: Route) -> None:
        if route.request.post_data_json["fn_index"] in answers:
            route.fulfill(status=429, json={"detail": "Too many questions wait already."})
        else:
            route.continue_()

    page.route("**/gradio_api/queue/join*", refuse)
    ask(page, "What is this?")
    expect(page.get_by_text("Too many questions wait already.")).to_be_visible()
    expect(page.locator("#past .problem")).to_contain_text("not put to the model: press Regenerate")
    expect(page.locator("#send")).to_be_enabled()
    page.unroute("**/gradio_api/queue/join*")
    page.locator("#again").click()
    expect(page.locator("#past .problem")).to_have_count(0)
    assert answered(page, 1).strip()


BAD = {
    "not a picture": (b"<svg onload=alert(1)>", "not a readable"),
    "empty": (b"", "not a readable"),
    "cut off": (factories.encoded(factories.corners((400, 300)))[:600], "cut off"),
    "too many pixels": (factories.png_header(60_000, 60_000), "at most"),
    "too large": (b"\x89PNG" + b"x" * (10 * 2**20), "too large"),
}


def test_pictures_that_are_none_are_a_sentence_and_are_not_added(chat: Tab, tmp_path: Path) -> None:
    page = chat.page
    for name, (content, said) in BAD.items():
        page.locator("#picker input[type=file]").set_input_files({"name": f"{name}.png", "mimeType": "image/png", "buffer": content})
        expect(page.locator(".picker-said")).to_contain_text(said)
        expect(page.locator("#picker li")).to_have_count(0)
    ask(page, "What is in the picture?", BOMB)
    answered(page, 1)


def test_what_cannot_be_asked_is_a_sentence_and_stays_to_be_mended(chat: Tab) -> None:
    page = chat.page
    ask(page, "   ")
    expect(page.locator("#notice")).to_contain_text("The question is empty")
    ask(page, "word " * 2000)
    expect(page.locator("#past .problem")).to_contain_text("too many")
    ask(page, "What is this?")
    expect(page.locator("#past .said .text")).to_have_count(1)
    expect(page.locator("#notice .notice")).to_have_count(0)
