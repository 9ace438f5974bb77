"""Pictures that visitors have sent: in memory, for a while, under ids that nobody can guess. Conversations keep the ids, not the pictures.

No file is written, and no name of a file is looked at. Knows no page and no gradio.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from llava.chat import Chat, Image
from llava.errors import UserError
from llava.serve.gateway.content import Limits

Look = Callable[[Sequence[str]], tuple[Image, ...]]  # `Pictures.get`

MOST_BYTES = 256 * 2**20
SECONDS = 3600.0
LIMITS = Limits()


def check_size(chat: Chat) -> None:
    """The limits of one request to the gateway hold for a conversation, too; raises `UserError`."""
    if len(chat.messages) > LIMITS.messages:
        raise UserError(f"The conversation is too long: at most {LIMITS.messages // 2} questions are taken. Begin a new one.")
    if sum(len(message.text) for message in chat.messages) > LIMITS.text:
        raise UserError(
            f"The conversation is too long: at most {LIMITS.text} characters are taken. Begin a new one, or ask something shorter."
        )
    if len(chat.images) > LIMITS.images:
        raise UserError(f"A conversation may have at most {LIMITS.images} pictures, and this one has {len(chat.images)}: leave some out.")
    if sum(image.size[0] * image.size[1] for image in chat.images) > LIMITS.pixels:
        raise UserError(f"All pictures together may have at most {LIMITS.pixels / 1e6:g} megapixels: take smaller ones.")


class Pictures:
    """At most `most_bytes` of files, each for `seconds` after it was last asked for; the longest unused leave first. May be used from any
    thread."""

    def __init__(self, most_bytes: int = MOST_BYTES, seconds: float = SECONDS) -> None:
        self._most_bytes = most_bytes
        self._seconds = seconds
        self._lock = threading.Lock()
        self._held: OrderedDict[str, tuple[float, int, Image]] = OrderedDict()
        self._bytes = 0

    def add(self, raw: bytes) -> tuple[str, Image]:
        """Decode a picture's file and keep it; gives the id under which `get` finds it. Raises `ImageError`."""
        image = Image.open(raw)
        name = secrets.token_urlsafe(18)
        with self._lock:
            self._held[name] = (time.monotonic(), len(raw), image)
            self._bytes += len(raw)
            self._forget()
        return name, image

    def get(self, names: Sequence[str]) -> tuple[Image, ...]:
        """The pictures of these ids, which stay; raises `UserError` for one that is not here (any more), and for too many."""
        if len(names) > LIMITS.images:
            raise UserError(f"A question can have at most {LIMITS.images} pictures.")
        with self._lock:
            self._forget()
            if any(name not in self._held for name in names):
                raise UserError("A picture is no longer kept here: remove it and add it again.")
            for name in names:
                _, size, image = self._held.pop(name)
                self._held[name] = (time.monotonic(), size, image)
            return tuple(self._held[name][2] for name in names)

    def _forget(self) -> None:
        oldest = time.monotonic() - self._seconds
        while self._held:
            when, size, _ = next(iter(self._held.values()))
            if when >= oldest and self._bytes <= self._most_bytes:
                return
            self._held.popitem(last=False)
            self._bytes -= size
