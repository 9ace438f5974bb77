"""What a person may pass as images, questions and rows, made into a `Chat`. Every mistake is a `UserError` with a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from llava.chat import Chat, Image
from llava.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

Picture = Union[str, Path, bytes, "PILImage", Image]  # a path, a file's bytes, a data: URL, a Pillow image, an Image
Pictures = Picture | Sequence[Picture] | None
Row = Chat | tuple[Pictures, str] | list[Any] | Mapping[str, object]


def as_chat(image: object, question: object = None) -> Chat:
    """A chat from image(s) and a question, or a `Chat` as it is (in either place)."""
    chats = [value for value in (image, question) if isinstance(value, Chat)]
    if chats:
        if len(chats) == 2 or (image if chats[0] is question else question) is not None:
            raise UserError("A Chat already holds its images and its question: pass the Chat alone.")
        return chats[0]
    text = check_text("question", question)
    several = isinstance(image, Sequence) and not isinstance(image, str | bytes)
    sources: Any = image if several else [] if image is None else [image]
    return Chat.ask(text, [Image.open(source) for source in sources])


def check_text(name: str, value: object) -> str:
    """`value`, which must be a text that can be encoded."""
    if not isinstance(value, str):
        raise UserError(f"A {name} is a text{' or a Chat' if name == 'question' else ''}, not {type(value).__name__}.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UserError(f"The {name} is not valid text: it holds half a character (a lone surrogate).") from None
    return value


def row_chat(row: object) -> Chat:
    """A chat from a row: a `Chat`, an (image, question) pair, or a mapping with `question` and perhaps `image` or `images`."""
    if isinstance(row, Chat):
        return row
    if isinstance(row, Mapping):
        if "question" not in row:
            raise UserError(f"A row needs a question; this one has {', '.join(map(str, row)) or 'nothing'}.")
        if "image" in row and "images" in row:
            raise UserError("A row has image or images, not both.")
        return as_chat(row.get("image", row.get("images")), row["question"])
    if isinstance(row, list | tuple) and len(row) == 2:
        return as_chat(row[0], row[1])
    length = f" of {len(row)}" if isinstance(row, list | tuple) else ""
    raise UserError(f"A row is an (image, question) pair, a mapping or a Chat, not {type(row).__name__}{length}.")
