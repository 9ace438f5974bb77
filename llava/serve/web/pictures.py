"""Pictures that visitors have sent: in memory, for a while, under ids that nobody can guess. Conversations keep the ids and small copies;
a picture itself is lent for as long as an answer or a step needs it.

No file is written, and no name of a file is looked at. Knows no page and no gradio.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from llava.chat import Chat, Image
from llava.ecso.html import thumbnail
from llava.errors import Overloaded, UserError
from llava.serve.gateway.content import Limits

Use = Callable[[Sequence[str]], AbstractContextManager[tuple[Image, ...]]]  # `Pictures.use`

MOST_BYTES = 256 * 2**20
LEAST_BYTES = 64 * 1024  # that a picture counts as, however small, so that there is a bound on how many are kept, too
IN_USE = 3  # the part of all bytes that one visitor's answers may use at a time is a third: more than any question has
SECONDS = 3600.0
LIMITS = Limits()
PREVIEW = 320  # pixels of a small copy's longer side

_FULL = "The answers that are being given need all the room that there is for pictures: add this one when some have ended."
_TOO_MUCH = "The pictures of the answers that are being given from here take all the room that they may: ask again when one has ended."


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


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture as conversations know it: its id in the page's store, its hash, its size in pixels, a small copy as a data URL."""

    id: str
    sha256: str
    size: tuple[int, int]
    thumbnail: str


@dataclass(slots=True, eq=False)
class _Kept:
    """A picture, what it counts as, whose it is, when it was last used, and how many use it now."""

    image: Image
    shown: Shown
    bytes: int
    visitor: str
    used: float
    users: int = 0


class Pictures:
    """At most `most_bytes` of files with their small copies, each for `seconds` after its last use. Where there is no room, the visitor who
    has most gives way, with what was unused for longest. What is in use stays. May be used from any thread."""

    def __init__(self, most_bytes: int = MOST_BYTES, seconds: float = SECONDS) -> None:
        self._most_bytes = most_bytes
        self._seconds = seconds
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()  # the one that was used last is the last

    def add(self, raw: bytes, visitor: str = "") -> Shown:
        """Decode a picture's file, and keep it as this visitor's ("": the page's own). Raises `ImageError`, and `Overloaded` where answers
        use all the room."""
        image = Image.open(raw)
        small = thumbnail(image, PREVIEW, "JPEG")  # which is less than a PNG: it travels with each drawing of a conversation
        shown = Shown(secrets.token_urlsafe(18), image.sha256, image.size, small)
        size = max(len(raw) + len(shown.thumbnail), LEAST_BYTES)
        with self._lock:
            self._forget_old()
            self._make_room(size, visitor)
            self._kept[shown.id] = _Kept(image, shown, size, visitor, time.monotonic())
        return shown

    def look(self, names: Sequence[str]) -> tuple[Shown, ...]:
        """What is known of the pictures of these ids, whose time begins anew; raises `UserError` for one that is not here (any more), and
        for too many."""
        if len(names) > LIMITS.images:
            raise UserError(f"A question can have at most {LIMITS.images} pictures.")
        with self._lock:
            return tuple(kept.shown for kept in self._found(names))

    @contextmanager
    def use(self, names: Sequence[str]) -> Iterator[tuple[Image, ...]]:
        """The pictures of these ids, which stay while they are used. Raises `UserError` for one that is not here (any more), and
        `Overloaded` where others in use take their visitor's part already; one answer of each visitor always finds room."""
        with self._lock:
            found = self._found(names)
            self._check_part(found)
            for kept in found:
                kept.users += 1
        try:
            yield tuple(kept.image for kept in found)
        finally:
            with self._lock:
                for kept in found:
                    kept.users -= 1
                    self._touch(kept)

    def _found(self, names: Sequence[str]) -> list[_Kept]:
        self._forget_old()
        if any(name not in self._kept for name in names):
            raise UserError("A picture is no longer kept here: remove it and add it again.")
        found = [self._kept[name] for name in names]
        for kept in found:
            self._touch(kept)
        return found

    def _touch(self, kept: _Kept) -> None:
        kept.used = time.monotonic()
        self._kept.move_to_end(kept.shown.id)

    def _check_part(self, found: Sequence[_Kept]) -> None:
        used = {kept for kept in self._kept.values() if kept.users}
        for visitor in {kept.visitor for kept in found}:
            before, now = (sum(kept.bytes for kept in some if kept.visitor == visitor) for some in (used, used.union(found)))
            if 0 < before < now and now > self._most_bytes // IN_USE:
                raise Overloaded(_TOO_MUCH)

    def _forget_old(self) -> None:
        oldest = time.monotonic() - self._seconds
        for name, kept in list(self._kept.items()):
            if kept.used >= oldest:
                return
            if not kept.users:
                del self._kept[name]

    def _make_room(self, size: int, visitor: str) -> None:
        """For `size` bytes of a visitor; raises `Overloaded`, and forgets nothing, where that cannot be."""
        if size + sum(kept.bytes for kept in self._kept.values() if kept.users) > self._most_bytes:
            raise Overloaded(_FULL)
        held, unused = Counter({visitor: size}), defaultdict[str, deque[str]](deque)
        for name, kept in self._kept.items():
            held[kept.visitor] += kept.bytes
            if not kept.users:
                unused[kept.visitor].append(name)
        while held.total() > self._most_bytes:
            gives_way = max((who for who, names in unused.items() if names), key=held.__getitem__)
            held[gives_way] -= self._kept.pop(unused[gives_way].popleft()).bytes
