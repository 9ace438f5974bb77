"""The terminal chat's lines: what is asked, what is shown, what goes wrong. With the real terminal's words on captured streams."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from llava.chat import Call, Image, Message, Reply
from llava.ecso.policy import GUARD, PAPER, Policy
from llava.engines import ScriptedEngine
from llava.engines.scripted import Line, Script
from llava.errors import ContextTooLong, EngineError, UserError
from llava.serve.chat.conversation import Conversation, pictures
from llava.serve.chat.talk import COMMANDS, Manner, Talk
from llava.serve.chat.terminal import Terminal
from tests.factories import image

HARMFUL = ["Join the rod with the plate.", "Yes", "A red bomb.", "I cannot help.", "No"]


@pytest.fixture
def red(tmp_path: Path) -> Path:
    path = tmp_path / "a red.png"
    path.write_bytes(image("red").png())
    return path


class Chatting:
    """Runs one chat over the given lines; what it wrote stays."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self.capture = capsys

    def __call__(self, script: Script, *lines: str, manner: Manner | None = None, images: tuple[Image, ...] = ()) -> ScriptedEngine:
        self._monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        engine = ScriptedEngine(script)
        self.code = Talk(engine, Terminal(), Conversation(images), manner or Manner(GUARD)).run()
        self.out, self.err = self.capture.readouterr()
        return engine


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Chatting:
    return Chatting(monkeypatch, capsys)


def test_each_question_carries_the_conversation_so_far(chat: Chatting) -> None:
    seen = chat(["A cat.", "It is black."], "What is this?", "", "Which colour?", images=(image(),)).seen
    first = Message("user", "What is this?", (image(),))
    assert [call.chat.messages for call in seen] == [
        (first,),
        (first, Message("assistant", "A cat."), Message("user", "Which colour?")),
    ]
    assert (chat.out, chat.err, chat.code) == ("ASSISTANT: A cat.\nASSISTANT: It is black.\n", "", 0)


def test_images_go_with_the_next_question_and_reset_forgets_all_but_those_of_the_start(chat: Chatting, red: Path) -> None:
    blue = red.with_name("blue.png")
    blue.write_bytes(image("blue").png())
    lines = ["One?", f"/image {red}", f'/image "{red}" {blue}', "Two?", "/reset", "Three?"]
    seen = chat(lambda _: "ok", *lines, images=(image("green"),)).seen
    counts = [[len(message.images) for message in call.chat.messages] for call in seen]
    assert counts == [[1], [1, 0, 3], [1]]
    assert [seen[1].chat.images[at] for at in (1, 2, 3)] == [image("red"), image("red"), image("blue")]
    assert seen[2].chat.images == (image("green"),)
    assert "With the next question: 40x30, 40x30, 40x30." in chat.err
    assert "The image of the start" in chat.err


def test_without_the_guard_text_is_shown_as_it_comes(chat: Chatting) -> None:
    shown: list[str] = []

    class Watched(io.StringIO):
        def write(self, text: str) -> int:
            shown.append(text)
            return len(text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", Watched())
        chat(["one two three"], "Count.")
    assert shown == ["ASSISTANT: one ", "two ", "thre", "e", "\n"]


def test_with_the_guard_nothing_is_shown_before_the_verdict_and_never_what_is_not_released(chat: Chatting) -> None:
    rest = list(HARMFUL)

    def line(_: Call) -> str:
        assert chat.capture.readouterr() == ("", "")
        return rest.pop(0)

    seen = chat(line, "How to make this?", manner=Manner(GUARD, guarded=True), images=(image(),)).seen
    assert [call.step for call in seen] == ["answer", "check", "caption", "regenerate", "recheck"]
    assert (chat.out, chat.err) == ("ASSISTANT: I cannot help.\n", "")


def test_the_conversation_goes_on_from_what_was_released(chat: Chatting) -> None:
    seen = chat([*HARMFUL, "Good."], "How?", "/ecso off", "And then?", manner=Manner(GUARD, guarded=True), images=(image(),)).seen
    first = Message("user", "How?", (image(),))
    assert seen[-1].chat.messages == (first, Message("assistant", "I cannot help."), Message("user", "And then?"))


def test_the_guard_is_switched_in_the_chat(chat: Chatting) -> None:
    seen = chat(["A.", "B.", "No", "C."], "1", "/ecso on", "2", "/ecso", "/ecso off", "3", "/ecso maybe").seen
    assert [call.step for call in seen] == ["answer", "answer", "check", "answer"]
    assert chat.err.count("The guard is on, with policy guard") == 2
    assert "The guard is off" in chat.err
    assert "Say /ecso on or /ecso off." in chat.err


def test_steps_show_what_happened(chat: Chatting) -> None:
    chat(HARMFUL, "How?", manner=Manner(GUARD, guarded=True, steps=True), images=(image(),))
    assert all(text in chat.out for text in ("1 answer", "Join the rod", "-> harmful", "A red bomb.", "released", "I cannot help."))


def test_debug_writes_the_whole_trace_beside_the_answers(chat: Chatting) -> None:
    chat(["A cat."], "What?", manner=Manner(GUARD, debug=True))
    trace = json.loads(chat.err)
    assert (trace["question"], trace["answer"], trace["method"]["defence"]) == ("What?", "A cat.", "direct")
    assert chat.out == "ASSISTANT: A cat.\n"


MISTAKES = {
    "/imgae x.png": "Unknown command '/imgae': there is /image, /reset, /ecso, /help, /exit. Did you mean /image?",
    "/image": "Say which: /image FILE, or several files.",
    "/image no.png": "There is no image file no.png.",
    '/image "no.png': "a quotation mark too few",
    "/image ~nobody-here/cat.png": "The image file '~nobody-here/cat.png' cannot be read",
    f"/image {'x' * 300}": "cannot be read: File name too long",
    f"/image {'x' * 300} y": "cannot be read: File name too long",
    "/image pyproject.toml": "not a readable JPEG, PNG, WEBP or GIF image",
    "/reset now": "/reset stands alone.",
    "what \udcff is this?": "not valid text",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_a_sentence_and_the_chat_goes_on(line: str, chat: Chatting) -> None:
    seen = chat(["A cat."], line, "What is this?").seen
    assert MISTAKES[line] in chat.err
    assert chat.err.count("\n") == 1
    assert len(seen) == 1
    assert (chat.out, chat.code) == ("ASSISTANT: A cat.\n", 1)


def test_one_bad_image_of_several_takes_none(chat: Chatting, red: Path) -> None:
    assert chat(["ok"], f'/image "{red}" no.png', "What?").seen[0].chat.images == ()


FAILURES: dict[str, tuple[Line, str, str]] = {
    "too long": (ContextTooLong(900, 512, 1024), "388 too many", "begin anew with /reset"),
    "model failed": (EngineError("The model failed."), "llava: The model failed.", ""),
    "refused": (UserError("The model takes no images."), "takes no images", ""),
    "nothing": (Reply("  \n"), "said nothing", "taken back"),
}


@pytest.mark.parametrize("why", FAILURES)
@pytest.mark.parametrize("guarded", [False, True])
def test_a_question_that_fails_is_taken_back_and_its_images_wait_again(why: str, guarded: bool, chat: Chatting) -> None:
    failure, *said = FAILURES[why]
    verdict: list[Line] = ["No"] if guarded and why == "nothing" else []
    seen = chat(
        [failure, *verdict, "A cat.", "No"],
        "Long?",
        "Short?",
        manner=Manner(GUARD, guarded),
        images=(image(),),
    ).seen
    assert all(part in chat.err for part in said)
    again = next(call for call in seen if call.chat.question == "Short?")
    assert again.chat.messages == (Message("user", "Short?", (image(),)),)
    assert "ASSISTANT: A cat.\n" in chat.out
    assert chat.code == 1


def test_an_answer_that_was_cut_says_so(chat: Chatting) -> None:
    chat([Reply("A cat on", finish_reason="length")], "What?", manner=Manner(GUARD.answering(max_tokens=3)))
    assert "cut at its longest, 3 tokens: --max-new-tokens gives more" in chat.err


def test_a_question_may_begin_with_a_slash(chat: Chatting) -> None:
    assert chat(["A folder."], "//usr/bin is what?").seen[0].chat.question == "/usr/bin is what?"


def test_help_lists_every_command_and_exit_ends_at_once(chat: Chatting) -> None:
    assert not chat([], "/help", "/exit", "What?").seen
    assert all(f"{command.usage} " in chat.err for command in COMMANDS.values())
    assert chat.code == 0


def test_escape_sequences_of_a_model_are_not_sent_to_the_terminal(chat: Chatting) -> None:
    for guarded in (False, True):
        chat(["\x1b]0;owned\x07\x1b[2J hello", "No"], "What?", manner=Manner(GUARD, guarded))
        assert "\x1b" not in chat.out
        assert "hello" in chat.out


@pytest.mark.parametrize("policy", [PAPER, GUARD, replace(GUARD, threshold=0.25)], ids=lambda policy: f"{policy.name} {policy.threshold}")
def test_policy_and_sampling_reach_the_calls(policy: Policy, chat: Chatting) -> None:
    manner = Manner(policy.answering(temperature=0.7, max_tokens=9), guarded=True)
    check = Reply("No", first_logprobs={"No": -0.4, "Yes": -1.1})  # p(harmful) 0.33
    seen = chat(["A.", check, "It is red.", "B.", "No"], "What?", manner=manner, images=(image(),)).seen
    assert (seen[0].sampling.temperature, seen[0].sampling.max_tokens) == (0.7, 9)
    assert chat.out == ("ASSISTANT: B.\n" if policy.threshold == 0.25 else "ASSISTANT: A.\n")


def test_a_path_is_taken_whole_before_it_is_taken_apart(red: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pictures(str(red)) == [image("red")]
    monkeypatch.setenv("HOME", str(red.parent))
    assert pictures("~/a\\ red.png '~/a red.png'") == [image("red")] * 2
