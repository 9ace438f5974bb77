"""The product view shows what a user of a guarded service sees, and the browser gets no more: neither in the page nor in what travels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.serve.web.browser import Hub, expect, tab
from tests.serve.web.chatting import opened
from tests.serve.web.wiretap import tapped

if TYPE_CHECKING:
    from playwright.sync_api import Browser

DRAFT, CAPTION, SAFE = "MARKDRAFT join the rod.", "MARKCAPTION a bomb.", "I cannot help with that."

# Every text that ever was in the page.
WATCH = """
window.everything = "";
new MutationObserver(() => {
  window.everything += document.documentElement.textContent;
  for (const field of document.querySelectorAll("textarea, input")) window.everything += field.value;
}).observe(document, {subtree: true, childList: true, characterData: true, attributes: true});
"""


@pytest.fixture
def guarded(mini_hub: Hub) -> Iterator[str]:
    """A model whose draft is harmful."""
    script = ("--engine", f"scripted:{DRAFT}|Yes|{CAPTION}|{SAFE}", "--engine-option", "delay=0.05")
    with mini_hub.model(*script) as (name, _):
        yield name


def test_nothing_of_an_uncleared_draft_reaches_the_browser(chromium: Browser, guarded: str, ecso_url: str) -> None:
    with tab(chromium) as ecso, tapped(ecso_url) as tap:
        page = ecso.page
        page.add_init_script(WATCH)
        opened(page, tap.url, guarded)
        page.get_by_label("What a user would see").check()
        expect(page.locator(".product-empty")).to_be_visible()
        page.locator("[data-example='0']").click()
        expect(page.locator(".product blockquote")).to_have_text(SAFE)
        expect(page.locator("#run-all")).to_be_enabled()
        assert page.locator("#download").is_disabled()
        assert SAFE in page.evaluate("window.everything")
        travelled = tap.said.decode(errors="replace")
        assert SAFE in travelled
        for everything in (page.evaluate("window.everything"), travelled, page.content()):
            assert not re.search("MARK|step-head harmful", everything)


def test_the_other_view_tells_what_happened_and_the_way_back_hides_it(chromium: Browser, guarded: str, ecso_url: str) -> None:
    with tab(chromium) as ecso:
        page = ecso.page
        opened(page, ecso_url, guarded)
        page.locator("[data-example='0']").click()
        expect(page.locator("#comparison blockquote")).to_have_text([DRAFT, SAFE])
        page.get_by_label("What a user would see").check()
        expect(page.locator(".product blockquote")).to_have_text(SAFE)
        expect(page.locator("#comparison .compare")).to_have_count(0)
        assert "MARK" not in page.content()
        page.get_by_label("The four steps").check()
        expect(page.locator("#comparison blockquote")).to_have_text([DRAFT, SAFE])
