"""What goes wrong, in a real browser: no worker yet, a worker that dies in each step, pictures that are none. Always a sentence with an id,
and a page that goes on working."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image as PIL

from llava.image import MAX_BYTES
from llava.serve.web.ecso.examples import EXAMPLES
from tests.factories import encoded, png_header
from tests.serve.web.browser import Hub, Tab, expect, hub, tab
from tests.serve.web.chatting import opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser

STEPS = ("answer", "check", "caption", "regenerate")
ID = re.compile(r"\(req_[0-9a-f]{24}\)")
# Each step takes a while, so that a worker can die in it.
SLOW_LINES = ("Join the rod. " * 8, "Yes" + " " * 60, "A red bomb. " * 8, "No, never. " * 8)


def saying(lines: Iterable[str]) -> tuple[str, ...]:
    """A worker's options: it says these, one piece after another."""
    return ("--engine", f"scripted:{'|'.join(lines)}", "--engine-option", "delay=0.12")


def lasting(step: str) -> Iterator[str]:
    """The lines, of which that of `step` takes longer than anybody needs to look."""
    return (line * 20 if name == step else line.strip() for name, line in zip(STEPS, SLOW_LINES, strict=True))


def test_a_worker_that_starts_after_the_page_is_found_by_itself(chromium: Browser, tmp_path: Path) -> None:
    with hub(tmp_path) as found, found.page() as url, tab(chromium) as ecso:
        ecso.page.goto(url)
        expect(ecso.page.locator("#model-notice")).to_contain_text("python -m llava.serve.model_worker --controller")
        ecso.page.locator("[data-example='4']").click()
        expect(ecso.page.locator("#notice")).to_have_text(ID)
        with found.worker("--engine", "scripted:A cat.|No", "--model-name", "late"):
            expect(ecso.page.locator("#model input")).to_have_value("late")
            expect(ecso.page.locator("#model-notice .notice")).to_have_count(0)
            ecso.page.locator("#run-all").click()
            expect(ecso.page.locator("#comparison blockquote")).to_have_text(["A cat.", "A cat."])


@pytest.mark.parametrize("step", STEPS)
def test_a_worker_that_dies_in_a_step_is_a_sentence_and_no_dead_button(step: str, chromium: Browser, mini_hub: Hub, ecso_url: str) -> None:
    with tab(chromium) as ecso, mini_hub.model(*saying(lasting(step))) as (name, worker):
        page = ecso.page
        opened(page, ecso_url, name)
        page.locator("[data-example='0']").click()
        expect(page.locator(f"#panel-{step} .step-head.running")).to_be_visible()
        worker.kill()
        expect(page.locator("#notice .problem")).to_have_text(ID)
        assert "Traceback" not in page.content()
        expect(page.locator("#run-all")).to_be_enabled()
        for done in STEPS[: STEPS.index(step) + 1]:  # what was done before stays, and the step can be tried again
            expect(page.locator(f"#run-{done}")).to_be_enabled()
        expect(page.locator("#comparison .compare")).to_have_count(0)


def test_a_stopped_step_can_be_run_again(chromium: Browser, mini_hub: Hub, ecso_url: str) -> None:
    with tab(chromium) as ecso, mini_hub.model(*saying(SLOW_LINES)) as (name, _):
        page = ecso.page
        opened(page, ecso_url, name)
        page.locator("[data-example='0']").click()
        expect(page.locator("#answer-text textarea")).to_have_value(re.compile("Join"))
        page.locator("#stop").click()
        expect(page.locator("#notice")).to_contain_text("Stopped")
        expect(page.locator("#stop")).to_be_disabled()
        page.locator("#run-answer").click()
        expect(page.locator("#panel-answer .step-head.running")).to_be_visible()


def bad_pictures() -> dict[str, tuple[bytes, str]]:
    """Name -> bytes, and what is said of them."""
    png = encoded(PIL.new("RGB", (64, 64), "red"), "PNG")
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    return {
        "empty.png": (b"", "not a readable"),
        "words.png": (b"These are words.", "not a readable"),
        "drawing.svg": (svg, "not a readable"),
        "picture.tiff": (encoded(PIL.new("RGB", (8, 8)), "TIFF"), "not a readable"),
        "cut.png": (png[: len(png) // 2], "damaged or cut off|not a readable"),
        "bomb.png": (png_header(100_000, 100_000), "a side may have at most 8192"),
        "thin.png": (encoded(PIL.new("1", (400, 1)), "PNG"), "differ by at most 200"),
        "frames.gif": (b"GIF89a" + struct.pack("<HH", 60_000, 60_000), "a side may have|not a readable"),
        "large.jpg": (b"\xff\xd8\xff" + bytes(MAX_BYTES), "too large"),
    }


def test_each_kind_of_bad_picture_is_told_in_a_sentence(ecso: Tab) -> None:
    page = ecso.page
    for name, (data, said) in bad_pictures().items():
        page.locator("#picker input[type=file]").set_input_files({"name": name, "mimeType": "image/png", "buffer": data})
        expect(page.locator(".picker-said")).to_have_text(re.compile(said))
        expect(page.locator(".picker-list img")).to_have_count(0)
    page.locator("#picker input[type=file]").set_input_files(EXAMPLES[4].path)
    expect(page.locator(".picker-list img")).to_have_count(1)
    expect(page.locator(".picker-said")).to_have_text("")


def test_a_question_that_is_empty_or_too_long_is_a_sentence(ecso: Tab) -> None:
    page = ecso.page
    for text, said in (("", "The question is empty"), ("why " * 20_000, "too many|too long")):
        page.locator("#question textarea").fill(text)
        page.locator("#run-all").click()
        expect(page.locator("#notice")).to_have_text(re.compile(f"{said}.*\\(req_"))
        expect(page.locator("#run-all")).to_be_enabled()
