"""What people pass as images, questions and rows; every mistake is a sentence."""

from pathlib import Path

import pytest
from PIL import Image as PIL

from llava.chat import Chat
from llava.ecso.inputs import as_chat, row_chat
from llava.errors import ImageError, UserError
from tests.ecso.factories import PICTURES, picture

RED = picture("red")
CHAT = Chat.ask("What is this?", PICTURES[:2])


def test_an_image_may_come_in_any_form(tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    path.write_bytes(RED.png())
    for image in (path, str(path), RED.png(), RED.data_url(), RED.pil(), RED, [RED], (path,)):
        assert as_chat(image, "What is this?") == Chat.ask("What is this?", [RED])
    assert as_chat(None, "Hello") == as_chat([], "Hello") == Chat.ask("Hello")
    assert as_chat(list(PICTURES), "Hello").images == PICTURES


def test_a_chat_may_stand_in_either_place_but_alone() -> None:
    assert as_chat(CHAT) == as_chat(None, CHAT) == CHAT
    for pair in [(CHAT, "more"), (RED, CHAT), (CHAT, CHAT)]:
        with pytest.raises(UserError, match="pass the Chat alone"):
            as_chat(*pair)


@pytest.mark.parametrize("question", ["", "  \n", None, 5, "half \ud800", b"bytes"])
def test_a_question_that_is_none_is_refused(question: object) -> None:
    with pytest.raises(UserError, match="question"):
        as_chat(RED, question)


@pytest.mark.parametrize("image", ["no/such.png", 5, b"", b"GIF89a", [RED, None], PIL.new("RGB", (1, 60000)), "bad\0name.png"])
def test_an_image_that_is_none_is_refused(image: object) -> None:
    with pytest.raises(ImageError):
        as_chat(image, "What is this?")


def test_rows_are_pairs_mappings_or_chats() -> None:
    wanted = Chat.ask("What?", [RED])
    for row in (
        (RED, "What?"),
        [RED, "What?"],
        {"image": RED, "question": "What?", "id": 7},
        {"images": [RED], "question": "What?"},
        wanted,
    ):
        assert row_chat(row) == wanted
    assert row_chat({"question": "What?"}) == Chat.ask("What?")


@pytest.mark.parametrize(
    "row", [5, "a text", (RED,), (RED, "What?", 3), {}, {"image": RED}, {"image": RED, "images": [], "question": "What?"}, None]
)
def test_other_rows_are_refused(row: object) -> None:
    with pytest.raises(UserError, match="row"):
        row_chat(row)


def test_a_row_of_another_length_is_told_its_length() -> None:
    with pytest.raises(UserError, match=r"not tuple of 3\.$"):
        row_chat((RED, "What?", 3))
