"""The turns of one chat, and the images that wait for its next question. Plain data: knows no terminal and no engine."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from llava.chat import Chat, Image, Message
from llava.ecso.inputs import check_text
from llava.errors import ImageError, UserError


class Conversation:
    """Begins with `images`, which go with the first question."""

    def __init__(self, images: Iterable[Image] = ()) -> None:
        self._first = tuple(images)
        self.reset()

    def reset(self) -> None:
        """Forget everything; the images that it began with wait again."""
        self.turns: tuple[Message, ...] = ()
        self.waiting = self._first

    def attach(self, images: Sequence[Image]) -> None:
        """These go with the next question."""
        self.waiting = (*self.waiting, *images)

    def asking(self, question: str) -> Chat:
        """The chat that asks `question`; nothing is kept of it until it is `answered`. Raises `UserError`."""
        return Chat((*self.turns, Message("user", check_text("question", question), self.waiting)))

    def answered(self, chat: Chat, answer: str) -> None:
        """Keep both."""
        self.turns = (*chat.messages, Message("assistant", answer))
        self.waiting = ()


def pictures(words: str) -> list[Image]:
    """The image files that a person names: one path, with or without spaces in it, or several, quoted where they have spaces.

    All or none: raises `UserError`, or `ImageError` for the first that is none.
    """
    if not words:
        raise UserError("Say which: /image FILE, or several files.")
    if _exists(words):
        return [Image.open(words)]
    try:
        names = shlex.split(words)
    except ValueError:
        raise ImageError(f"There is no image file {words}, and as several files it has a quotation mark too few.") from None
    return [Image.open(name) for name in names]


def _exists(name: str) -> bool:
    try:
        return Path(name).expanduser().exists()
    except (OSError, RuntimeError):  # longer than a name may be; `~` of somebody who has no home here
        return False
