"""How soon the web pages can be used, and how soon they say something, in a real browser with the embedded model.

    .venv-demo/bin/python -m scripts.bench_web [--rounds 5] [--json FILE]

Starts a controller, a worker with the embedded model and each page on free ports of this machine; each round is a fresh browser profile.
Told are the seconds from the browser's `load` event until a question can be put (its model is chosen), and from the click until the first
text of the answer is in the page. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser

from scripts.pages import chromium, running


@dataclass(frozen=True, slots=True)
class Page:
    """A page: its program, what must be there before a question can be put, what to do before the click, the click, the first text."""

    program: str
    ready: str
    before: str
    button: str
    first: str


PAGES = {
    "LLaVA page": Page(
        "serve.gradio_web_server",
        "#question textarea:enabled",
        "#guard input",
        "#send",
        "document.querySelector('#running .text, #past .said .text')",
    ),
    "ECSO page": Page(
        "serve.gradio_web_server_ecso",
        "#question textarea:enabled",
        "",
        "#run-all",
        "document.querySelector('#answer-text textarea').value",
    ),
}
USABLE = "document.querySelector('#model input')?.value && document.querySelector('{ready}')"
# Seconds from now until `found` is true, looked at with each frame.
UNTIL = "() => new Promise((done) => { const begin = performance.now(); const look = () => (%s) ? done((performance.now() - begin) / 1000)"
UNTIL += " : requestAnimationFrame(look); %s; look(); })"


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="fresh browser profiles for each page (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    found: dict[str, dict[str, list[float]]] = {}
    with ExitStack() as stack:
        hub = stack.enter_context(running("serve.controller"))
        stack.enter_context(running("serve.model_worker", "--controller", hub, "--model-path", "mini", itself="--worker"))
        browser = stack.enter_context(chromium())
        for name, page in PAGES.items():
            with running(page.program, "--controller", hub, "--model-list-mode", "reload") as url:
                rounds = [measured(browser, url, page) for _ in range(options.rounds + 1)][1:]  # the first one warms the server
            found[name] = {"usable after load": [usable for usable, _ in rounds], "first text after click": [first for _, first in rounds]}
    for name, figures in found.items():
        for what, seconds in figures.items():
            print(f"{name:12} {what:24} median {statistics.median(seconds):.2f} s, most {max(seconds):.2f} s, of {len(seconds)}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def measured(browser: Browser, url: str, page: Page) -> tuple[float, float]:
    """Seconds until the page can be used, after its `load`; and until its first text, after the click."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    try:
        tab = context.new_page()
        tab.goto(url, wait_until="commit")
        tab.evaluate(UNTIL % (USABLE.format(ready=page.ready), ""))
        # `loadEventEnd` is 0 where the page can be used before that event: the time is then counted from the navigation.
        usable = tab.evaluate("(performance.now() - performance.getEntriesByType('navigation')[0].loadEventEnd) / 1000")
        if page.before:
            tab.locator(page.before).uncheck()
        tab.locator("#question textarea").fill("What is in the picture?")
        first = tab.evaluate(UNTIL % (page.first, f"document.querySelector('{page.button}').click()"))
    finally:
        context.close()
    return float(usable), float(first)


if __name__ == "__main__":
    sys.exit(main())
