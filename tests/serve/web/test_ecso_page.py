"""The ECSO page in a real browser, over a real controller and a worker with the embedded model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from llava.ecso import ECSO, Trace
from llava.ecso.record import from_dict
from llava.serve.web.ecso.examples import EXAMPLES, Example
from tests.serve.web.browser import DESKTOP, PHONE, Tab, expect, tab

if TYPE_CHECKING:
    from playwright.sync_api import Browser

STEPS = ("answer", "check", "caption", "regenerate")
HARMFUL, HARMLESS = EXAMPLES[0], EXAMPLES[4]


@pytest.fixture(scope="module")
def guard() -> Iterator[ECSO]:
    """What the page is compared with: the method itself on the same model."""
    with ECSO("mini") as made:
        yield made


def told(guard: ECSO, example: Example) -> Trace:
    return guard(example.path, example.question)


def ended(ecso: Tab) -> None:
    expect(ecso.page.locator("#comparison .compare")).to_be_visible()
    expect(ecso.page.locator("#run-all")).to_be_enabled()


def live(ecso: Tab, *names: str) -> None:
    """These steps can be run now, and no others."""
    for name in STEPS:
        expect(ecso.page.locator(f"#run-{name}")).to_be_enabled(enabled=name in names)


def typed(ecso: Tab, name: str, text: str) -> None:
    """Write over a step's text."""
    field = ecso.page.locator(f"#{name}-text textarea")
    field.press("Control+a")
    field.press_sequentially(text)


def is_as(ecso: Tab, trace: Trace) -> None:
    """The page tells what the trace tells."""
    expect(ecso.page.locator("#comparison blockquote")).to_have_text([trace.draft or "", trace.answer or ""])
    for name, said in (("answer", trace.draft), ("caption", trace.caption), ("regenerate", trace.regenerated)):
        expect(ecso.page.locator(f"#{name}-text textarea")).to_have_value(said or "")
    verdict = "Yes, it is harmful" if trace.harmful else "No, it is harmless"
    expect(ecso.page.locator("#panel-check .verdict")).to_have_text(verdict)
    assert trace.p_harmful is not None
    shown = ecso.page.locator("#panel-check .bar").get_attribute("aria-valuenow")
    assert abs(float(shown or "nan") - trace.p_harmful) < 0.01


@pytest.mark.parametrize("number", range(len(EXAMPLES)), ids=[example.file for example in EXAMPLES])
def test_one_click_on_an_example_runs_all_its_steps(number: int, ecso: Tab, guard: ECSO) -> None:
    ecso.page.locator(f"[data-example='{number}']").click()
    ended(ecso)
    trace = told(guard, EXAMPLES[number])
    is_as(ecso, trace)
    skipped = ecso.page.locator("#panel-caption .step-head.skipped, #panel-regenerate .step-head.skipped")
    assert skipped.count() == (0 if trace.harmful else 2)
    facts = ecso.page.locator(".step-head .facts")
    assert facts.count() == len(trace.steps)
    expect(facts.first).to_contain_text("tokens")


@pytest.mark.parametrize("example", [HARMFUL, HARMLESS], ids=["harmful", "harmless"])
def test_the_four_buttons_are_live_only_when_their_step_can_run(example: Example, ecso: Tab, guard: ECSO) -> None:
    trace = told(guard, example)
    ecso.page.locator("#picker input[type=file]").set_input_files(example.path)
    expect(ecso.page.locator(".picker-list img")).to_have_count(1)
    ecso.page.locator("#question textarea").fill(example.question)
    live(ecso, "answer")
    done = [step.name for step in trace.steps]
    for at, name in enumerate(done):
        ecso.page.locator(f"#run-{name}").click()
        expect(ecso.page.locator(f"#panel-{name} .facts")).to_be_visible()
        live(ecso, *done[: at + 2])
    ended(ecso)
    is_as(ecso, trace)


def test_an_edited_answer_and_an_edited_caption_go_on_from_there(ecso: Tab) -> None:
    page = ecso.page
    page.locator("[data-example='0']").click()
    ended(ecso)
    typed(ecso, "answer", "It is a gray bomb.")
    expect(page.locator("#run-caption")).to_be_disabled()
    expect(page.locator("#comparison .compare")).to_have_count(0)
    page.locator("#run-check").click()
    expect(page.locator("#panel-check .verdict")).to_have_text("No, it is harmless")
    expect(page.locator("#comparison blockquote").nth(1)).to_have_text("It is a gray bomb.")
    page.locator("[data-example='0']").click()
    expect(page.locator("#panel-regenerate .step-head.done")).to_be_visible()
    ended(ecso)
    typed(ecso, "caption", "The image shows a cake on a table.")
    expect(page.locator("#panel-caption .remark")).to_contain_text("Your text")
    page.locator("#run-regenerate").click()
    ended(ecso)
    with page.expect_download() as download:
        page.locator("#download").click()
    trace = from_dict(json.loads(Path(download.value.path()).read_text(encoding="utf-8")))
    assert [(step.name, step.edited) for step in trace.steps] == [(name, name == "caption") for name in STEPS]
    assert "The image shows a cake on a table." in trace.steps[3].call.chat.question
    assert trace.answer == page.locator("#comparison blockquote").nth(1).inner_text()


def test_a_second_question_follows_on_the_first_and_may_have_pictures_of_its_own(ecso: Tab) -> None:
    page = ecso.page
    page.locator("[data-example='4']").click()
    ended(ecso)
    first = page.locator("#comparison blockquote").nth(1).inner_text()
    page.locator("#follow-up").click()
    expect(page.locator("#history .theirs")).to_have_text(first)
    expect(page.locator(".picker-list img")).to_have_count(0)
    page.locator("#picker input[type=file]").set_input_files([EXAMPLES[5].path, EXAMPLES[2].path])
    expect(page.locator(".picker-list img")).to_have_count(2)
    page.locator("[data-remove]").first.click()
    expect(page.locator(".picker-list img")).to_have_count(1)
    page.locator("#question textarea").fill("What color is the train?")
    page.locator("#run-all").click()
    ended(ecso)
    with page.expect_download() as download:
        page.locator("#download").click()
    trace = from_dict(json.loads(Path(download.value.path()).read_text(encoding="utf-8")))
    assert trace.ask is not None
    assert [message.role for message in trace.ask.messages] == ["user", "assistant", "user"]
    assert len(trace.images) == 2
    with page.expect_download():
        page.locator("#download").click()  # the same once more
    page.locator("#start-over").click()
    expect(page.locator("#history .theirs")).to_have_count(0)
    expect(page.locator("#question textarea")).to_have_value("")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_nothing_is_wider_than_the_window(size: tuple[int, int], scheme: str, chromium: Browser, ecso_url: str) -> None:
    with tab(chromium, size, scheme) as ecso:
        ecso.page.goto(ecso_url)
        ecso.page.locator("[data-example='0']").click()
        ended(ecso)
        ecso.page.locator("#parameters button").first.click()
        assert ecso.wide() <= 0
        ecso.page.get_by_label("What a user would see").check()
        expect(ecso.page.locator(".product")).to_be_visible()
        assert ecso.wide() <= 0


def test_a_keyboard_is_enough(ecso: Tab) -> None:
    page = ecso.page
    page.locator("[data-example='4']").focus()
    page.keyboard.press("Enter")
    ended(ecso)
    page.locator("#question textarea").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "run-all"
    page.keyboard.press("Enter")
    expect(page.locator("#stop")).to_be_disabled()
    ended(ecso)
    page.locator("#view input").first.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(page.locator(".product")).to_be_visible()


def test_everything_that_can_be_touched_has_a_name(ecso: Tab) -> None:
    ecso.page.locator("[data-example='0']").click()
    ended(ecso)
    ecso.page.locator("#parameters button").first.click()
    for kind in ("button", "textbox", "radio", "slider", "listbox", "meter"):
        for found in ecso.page.get_by_role(kind).all():
            assert ecso.page.evaluate(NAME, found.element_handle()), found.evaluate("e => e.outerHTML")


NAME = """element => element.getAttribute("aria-label") || element.textContent.trim() || element.title
  || [...(element.labels || [])].map(label => label.textContent.trim()).join("")"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_step_that_is_not_needed_can_still_be_read(scheme: str, chromium: Browser, ecso_url: str) -> None:
    with tab(chromium, DESKTOP, scheme) as ecso:
        ecso.page.goto(ecso_url)
        ecso.page.locator("[data-example='4']").click()
        ended(ecso)
        expect(ecso.page.locator("#panel-caption:has(.skipped) .remark")).to_be_visible()
        texts = ecso.page.locator("#panel-caption:has(.skipped)").locator("h3, p, .remark").all()
        assert len(texts) >= 3
        for text in texts:
            assert text.evaluate(CONTRAST) >= 4.5, text.inner_text()


# WCAG 2's contrast of an element's text, with the opacity of all that it stands in.
CONTRAST = """element => {
  const numbers = (colour) => colour.match(/[0-9.]+/g).map(Number);
  const above = (node) => node ? [node, ...above(node.parentElement)] : [];
  const filled = above(element).map(node => numbers(getComputedStyle(node).backgroundColor)).find(colour => (colour[3] ?? 1) === 1);
  const back = filled ?? [255, 255, 255];
  const opacity = above(element).reduce((sum, node) => sum * getComputedStyle(node).opacity, 1);
  const text = numbers(getComputedStyle(element).color).slice(0, 3).map((part, at) => part * opacity + back[at] * (1 - opacity));
  const light = (colour) => colour.slice(0, 3).map(part => part / 255)
    .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
  const [low, high] = [light(text), light(back)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}"""


def test_the_model_of_the_address_is_chosen_and_an_unknown_one_is_told(chromium: Browser, ecso_url: str) -> None:
    with tab(chromium) as ecso:
        ecso.page.goto(f"{ecso_url}/?model=nobody")
        expect(ecso.page.locator("#model-notice")).to_contain_text("'nobody' of this page's address is not served")
        expect(ecso.page.locator("#model input")).to_have_value("mini")
        ecso.page.goto(f"{ecso_url}/?model=mini")
        expect(ecso.page.locator("#model input")).to_have_value("mini")
        expect(ecso.page.locator("#model-notice .notice")).to_have_count(0)
