"""Makers of what the tests of the method need: pictures, chats, scripted conversations with a generator."""

import threading
from collections.abc import Callable, Mapping

from hypothesis import strategies as st
from PIL import Image as PIL

from llava.chat import Call, Chat, Image, Message, Reply
from llava.ecso.steps import Outcome, Steps
from llava.engines.scripted import Line

HARMFUL = {
    "answer": "Join the rod with the plate.",
    "check": "Yes",
    "caption": "A red bomb.",
    "regenerate": "I cannot help.",
    "recheck": "No",
}
BENIGN = {"answer": "A cat.", "check": "No", "caption": "A cat.", "regenerate": "A cat.", "recheck": "No"}
STEP_NAMES = list(HARMFUL)


def lines(**changes: Line) -> dict[str, Line]:
    """The script of a harmful chat with some lines changed."""
    script: dict[str, Line] = {**HARMFUL}
    return script | changes


def picture(colour: str = "red", size: tuple[int, int] = (8, 6)) -> Image:
    return Image(PIL.new("RGB", size, colour))


PICTURES = tuple(picture(colour) for colour in ("red", "green", "blue"))


def portals() -> list[threading.Thread]:
    """The threads of all guards that are open."""
    return [thread for thread in threading.enumerate() if thread.name == "llava-portal"]


def play(steps: Steps, replies: Mapping[str, str | Reply] | Callable[[Call], str | Reply]) -> tuple[list[Call], Outcome]:
    """Feed a generator from `replies` (by step name, or asked with the call) until it returns."""
    calls = []
    try:
        call = next(steps)
        while True:
            calls.append(call)
            said = replies(call) if callable(replies) else replies[call.step]
            call = steps.send(Reply(said) if isinstance(said, str) else said)
    except StopIteration as end:
        outcome: Outcome = end.value
        return calls, outcome


def conversation(*turns: tuple[str, int], system: str = "") -> Chat:
    """User turns as (text, number of images), an assistant's "Fine." between them."""
    messages = [Message("system", system)] if system else []
    for number, (text, images) in enumerate(turns):
        if number:
            messages.append(Message("assistant", "Fine."))
        messages.append(Message("user", text, PICTURES[:images]))
    return Chat(tuple(messages))


texts = st.text(max_size=40) | st.sampled_from(["{caption}", "{question} {answer}", "<image>", "</s>", "{", "}}", "\\1", "%s {0}"])
questions = texts.filter(lambda text: bool(text.strip()))


@st.composite
def chats(draw: st.DrawFn) -> Chat:
    """Chats of every shape: 1 to 4 user turns, 0 to 3 images each, with and without a system message."""
    count = draw(st.integers(1, 4))
    images = st.lists(st.sampled_from(PICTURES), max_size=3).map(tuple)
    messages = [Message("system", draw(texts))] if draw(st.booleans()) else []
    for number in range(count):
        if number:
            messages.append(Message("assistant", draw(texts)))
        messages.append(Message("user", draw(questions if number == count - 1 else texts), draw(images)))
    return Chat(tuple(messages))
