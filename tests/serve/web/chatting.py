"""What a person does on the LLaVA page, in a real browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tests.serve.processes import ROOT
from tests.serve.web.browser import expect

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHAT = "serve.gradio_web_server"
ID = re.compile(r"\(req_[0-9a-f]{24}\)")
BOMB = ROOT / "examples/bomb.png"
DRAFT, CAPTION, SAFE = "MARKDRAFT join the rod.", "MARKCAPTION a bomb.", "I cannot help with that."
SLOW = ("--engine", "scripted:" + "|".join(["Slowly, word by word. " * 12] * 8), "--engine-option", "delay=0.1")

# Everything that ever was in the page, and every byte of what its script was sent.
WATCH = """
window.everything = "";
window.wire = "";
new MutationObserver(() => { window.everything += document.documentElement.innerHTML; })
  .observe(document, {subtree: true, childList: true, characterData: true, attributes: true});
const asked = window.fetch;
window.fetch = async (...words) => {
  const answer = await asked(...words);
  const copy = answer.clone().body?.pipeThrough(new TextDecoderStream()).getReader();
  const read = async () => { for (let part; copy && !(part = await copy.read()).done;) window.wire += part.value; };
  read().catch(() => {});
  return answer;
};
const Source = window.EventSource;
window.EventSource = class extends Source {
  constructor(...words) { super(...words); this.addEventListener("message", (event) => { window.wire += event.data; }); }
};
"""


def opened(page: Page, url: str, model: str) -> None:
    """Show the page, with this model."""
    page.goto(f"{url}/?model={model}")
    expect(page.locator("#model input")).to_have_value(model)


def guard(page: Page, on: bool) -> None:
    page.locator("#guard input").set_checked(on)


def ask(page: Page, question: str, *pictures: Path) -> None:
    for number, picture in enumerate(pictures, 1):
        page.locator("#picker input[type=file]").set_input_files(picture)
        expect(page.locator("#picker li img")).to_have_count(number)
    page.locator("#question textarea").fill(question)
    page.locator("#send").click()


def answered(page: Page, turns: int) -> str:
    """Wait for the end of an answer; gives its text."""
    expect(page.locator("#past .said")).to_have_count(turns)
    expect(page.locator("#send")).to_be_enabled()
    return str(page.locator("#past .said .text").last.inner_text())
