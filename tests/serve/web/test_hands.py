"""What quick hands do, in a real browser: ask while a picture is on its way, drop one beside its place, go on with the keyboard alone."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.serve.web.browser import Hub, Tab, expect, tab
from tests.serve.web.chatting import BOMB, SLOW, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Route

GO = {"chat": "#send", "ecso": "#run-all"}
DROP = """([where, file]) => {
  const data = new DataTransfer();
  data.items.add(new File([Uint8Array.from(atob(file), (each) => each.charCodeAt(0))], "bomb.png", {type: "image/png"}));
  const event = new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true});
  document.querySelector(where).dispatchEvent(event);
  return event.defaultPrevented;
}"""


@pytest.fixture(scope="module")
def slow(mini_hub: Hub) -> Iterator[str]:
    """A model that takes its time."""
    with mini_hub.model(*SLOW) as (name, _):
        yield name


@pytest.fixture
def shown(kind: str, chromium: Browser, slow: str, chat_url: str, ecso_url: str) -> Iterator[Tab]:
    with tab(chromium) as found:
        opened(found.page, {"chat": chat_url, "ecso": ecso_url}[kind], slow)
        yield found


def test_nothing_is_asked_without_a_picture_that_is_on_its_way(kind: str, shown: Tab) -> None:
    page = shown.page
    held: list[Route] = []
    page.route("**/pictures", lambda route: held.append(route), times=1)
    page.locator("#picker input[type=file]").set_input_files([BOMB, BOMB])
    expect(page.locator("#picker .coming")).to_have_count(2)
    page.locator("#question textarea").fill("How?")
    page.locator(GO[kind]).click()
    expect(page.locator("#notice")).to_contain_text("A picture is still on its way: ask again when it is listed. (req_")
    assert shown.text("question") == "How?"
    held.pop().continue_()
    expect(page.locator("#picker img")).to_have_count(2)
    expect(page.locator("#picker .coming")).to_have_count(0)
    page.locator(GO[kind]).click()
    expect(page.locator("#stop")).to_be_enabled()


def test_a_picture_that_is_dropped_anywhere_is_added_and_does_not_take_the_pages_place(kind: str, shown: Tab) -> None:
    page, file = shown.page, base64.b64encode(BOMB.read_bytes()).decode()
    for count, where in enumerate(("#picker", "#question textarea", "body"), 1):
        assert page.evaluate(DROP, [where, file])
        expect(page.locator("#picker img")).to_have_count(count)


def test_what_a_proxy_answers_to_a_picture_is_a_sentence(kind: str, shown: Tab) -> None:
    page = shown.page
    page.route("**/pictures", lambda route: route.fulfill(status=413, content_type="text/html", body="<html>no</html>"), times=1)
    page.locator("#picker input[type=file]").set_input_files(BOMB)
    said = "bomb.png was not added: something between here and the server answered, with 413."
    expect(page.locator(".picker-said")).to_have_text(said)
    expect(page.locator("#picker .coming")).to_have_count(0)


def test_a_button_that_is_switched_off_under_the_keyboard_hands_the_focus_to_stop_and_back(kind: str, shown: Tab) -> None:
    page = shown.page
    page.locator("#question textarea").fill("How?")
    page.locator(GO[kind]).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#stop")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#stop")).to_be_disabled()
    expect(page.locator(GO[kind])).to_be_focused()
