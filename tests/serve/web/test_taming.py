"""What gradio does by itself and our pages do not want, as far as no other test shows it: changes that a browser loses."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from llava.engines import ScriptedEngine
from tests.serve.web.browser import Tab, expect
from tests.serve.web.pages import PAGES, served
from tests.serve.web.visitor import visitor
from tests.serve.web.weaknesses import SAID

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = "A cat on a mat. " * 5
# The script is as slow as on a busy machine while the steps run, so that it gets many messages at once.
HELD_UP = """() => {
  const begin = performance.now();
  const hold = () => {
    const until = performance.now() + 400;
    while (performance.now() < until);
    if (until < begin + 4000) setTimeout(hold, 20);
  };
  document.querySelector("[data-example='0']").click();
  setTimeout(hold, 100);
}"""


def edits(received: str) -> Iterator[Any]:
    """How each piece of an answer but the first differs from the one before, output by output."""
    begun = set()
    for message in (json.loads(part) for part in received.split("data: ")[1:]):
        if message["msg"] == "process_generating":
            if message["event_id"] in begun:
                yield from message["output"]["data"]
            begun.add(message["event_id"])


def test_no_change_reaches_into_a_value_that_the_browser_may_not_have_shown() -> None:
    async def main() -> None:
        async with served(PAGES["ecso"], ScriptedEngine(SAID | {"answer": LONG}, delay=0.05)) as page, visitor(page.url) as one:
            await one.load()
            await one.press("run-all", question="What is this?")
            told = [edit for edited in edits(one.received) for edit in edited]
            assert {action for action, _, _ in told} == {"append", "replace"}
            assert all(path == [] for _, path, _ in told)
            await one.press("view", "change")  # draws all of it
            assert one.shown["answer-text"] == LONG

    asyncio.run(main())


def test_half_a_character_of_a_worker_ends_no_page() -> None:
    async def main() -> None:
        async with served(PAGES["ecso"], ScriptedEngine(SAID | {"answer": "half \ud800"})) as page, visitor(page.url) as one:
            await one.load()
            await one.press("run-all", question="What is this?")
            await one.press("view", "change")  # draws all of it
            assert one.shown["answer-text"] == "half \ufffd"
            assert one.problems == []

    asyncio.run(main())


def test_a_browser_that_is_held_up_shows_the_end_of_a_run(ecso: Tab) -> None:
    page = ecso.page
    page.evaluate(HELD_UP)
    expect(page.locator("#comparison .compare")).to_be_visible()
    expect(page.locator("#run-all")).to_be_enabled()
    expect(page.locator("#stop")).to_be_disabled()
    for name in ("answer", "caption"):
        expect(page.locator(f"#{name}-text textarea")).to_be_enabled()
        expect(page.locator(f"#{name}-text textarea")).not_to_have_value("")
    expect(page.locator("#regenerate-text textarea")).not_to_have_value("")
    expect(page.locator("#question textarea")).not_to_have_value("")
