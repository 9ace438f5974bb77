"""The LLaVA page in a real browser, over a real controller and worker: every button, every width, the keyboard alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llava.serve.web.chat.view import EMPTY
from tests.serve.processes import ROOT
from tests.serve.web.browser import DESKTOP, PHONE, Hub, Tab, expect, tab
from tests.serve.web.chatting import BOMB, SLOW, answered, ask, guard, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def test_several_turns_with_a_picture_stream_and_are_remembered(chat: Tab) -> None:
    page = chat.page
    guard(page, on=False)
    ask(page, "What is in the picture?", ROOT / "examples/cat.png")
    expect(page.locator("#stop")).to_be_enabled()
    assert answered(page, 1).strip()
    expect(page.locator("#past .asked img")).to_have_count(1)
    expect(page.locator("#question textarea")).to_have_value("")
    expect(page.locator("#picker li")).to_have_count(0)
    ask(page, "What colour is it?")
    assert answered(page, 2).strip()
    expect(page.locator("#past .asked .text")).to_have_text(["What is in the picture?", "What colour is it?"])
    expect(page.locator("#past .note").last).to_have_text("Not checked: the guard was off.")


def test_votes_count_once_and_keep_texts_only_with_consent(chat: Tab, votes: Path) -> None:
    page = chat.page
    before = len(kept(votes))
    expect(page.locator("#consent input")).not_to_be_checked()
    for number, (button, kind) in enumerate((("good", "upvote"), ("bad", "downvote"), ("flag", "flag")), 1):
        expect(page.locator(f"#{button}")).to_be_disabled()
        page.locator("#consent input").set_checked(kind == "flag")
        ask(page, f"What is this, secret word {kind}?")
        answered(page, number)
        page.locator(f"#{button}").click()
        expect(page.locator("#past .said").last).to_contain_text("Thank you.")
        expect(page.locator("#good")).to_be_disabled()
    rows = kept(votes)[before:]
    assert [row["type"] for row in rows] == ["upvote", "downvote", "flag"]
    assert all(row["model"] == "mini" and row["guarded"] is True for row in rows)
    assert "secret word" not in json.dumps(rows[:2])
    assert [turn["question"] for turn in rows[2]["conversation"]] == [
        f"What is this, secret word {k}?" for k in ("upvote", "downvote", "flag")
    ]
    (file,) = votes.iterdir()
    assert (file.stat().st_mode & 0o777, votes.stat().st_mode & 0o777) == (0o600, 0o700)


def kept(votes: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in votes.glob("*.jsonl") for line in file.read_text(encoding="utf-8").splitlines()]


def test_regenerating_and_clearing(chat: Tab) -> None:
    page = chat.page
    expect(page.locator("#again")).to_be_disabled()
    expect(page.locator("#clear")).to_be_disabled()
    ask(page, "What is in the picture?", ROOT / "examples/cat.png")
    answered(page, 1)
    page.locator("#good").click()
    expect(page.locator("#past .said")).to_contain_text("Thank you.")
    page.locator("#again").click()
    expect(page.locator("#good")).to_be_enabled()
    answered(page, 1)
    expect(page.locator("#past .asked")).to_have_count(1)
    page.locator("#clear").click()
    expect(page.locator("#past .chat-empty")).to_be_visible()
    expect(page.locator("#past article")).to_have_count(0)
    assert "cleared" in EMPTY


def test_a_stopped_answer_stays_as_far_as_it_was_shown(chromium: Browser, mini_hub: Hub, chat_url: str) -> None:
    with mini_hub.model(*SLOW) as (name, _), tab(chromium) as chat:
        page = chat.page
        opened(page, chat_url, name)
        guard(page, on=False)
        ask(page, "How?")
        expect(page.locator("#running .text")).to_contain_text("Slowly")
        page.locator("#stop").click()
        expect(page.locator("#past .said")).to_contain_text("Stopped.")
        text = answered(page, 1)
        assert text.startswith("Slowly")
        assert len(text) < 200
        ask(page, "And?")
        expect(page.locator("#running .text")).to_contain_text("Slowly")
        page.locator("#clear").click()
        expect(page.locator("#past .chat-empty")).to_be_visible()
        expect(page.locator("#send")).to_be_enabled()
        expect(page.locator("#running .said")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_no_width_scrolls_sideways(chromium: Browser, chat_url: str, size: tuple[int, int], scheme: str) -> None:
    with tab(chromium, size, scheme) as chat:
        page = chat.page
        opened(page, chat_url, "mini")
        assert chat.wide() <= 0
        ask(page, "x" * 300 + " What is in the picture?", BOMB)
        answered(page, 1)
        assert chat.wide() <= 0
        for name in ("send", "stop", "again", "clear", "good", "bad", "flag", "guard", "consent", "picker"):
            box = page.locator(f"#{name}").bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= size[0]


def test_the_keyboard_is_enough(chat: Tab) -> None:
    page = chat.page
    page.locator("#past .chat-past").focus()
    names = ("picker", "question", "send", "good", "again", "clear", "guard", "consent")
    named = ", ".join(f"#{name}" for name in names)
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("(named) => document.activeElement.closest(named)?.id ?? ''", named))
        if reached[-1] == "question":
            page.keyboard.type("What is it?")
            page.keyboard.press("Enter")
            answered(page, 1)
        if reached[-1] == "good":
            page.keyboard.press("Enter")
            expect(page.locator("#past .said")).to_contain_text("You called this answer good.")
        if set(names) <= set(reached):  # not once more around, with a second question
            break
    assert set(names) <= set(reached)


def test_every_control_has_a_name_for_those_who_cannot_see_it(chat: Tab) -> None:
    page = chat.page
    for role, name in (
        ("textbox", "Question"),
        ("button", "Send"),
        ("button", "Stop"),
        ("button", "Regenerate"),
        ("button", "Clear"),
        ("button", "Good answer"),
        ("button", "Bad answer"),
        ("button", "Flag"),
        ("checkbox", "Guard"),
        ("checkbox", "Keep my texts with my votes"),
        ("log", "Conversation"),
    ):
        assert page.get_by_role(role, name=name).count() >= 1, name
