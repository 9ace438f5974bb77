"""KV of images and of the text before them, kept by content and copied into the rows of calls that begin alike.

A piece is what lies between the end of one image and the end of the next; it can be used where all pieces before it are the same. Calls
that come while a piece is being computed wait for it. Image features are kept in the same memory. All lanes of a model share it.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from itertools import takewhile
from typing import Any, Protocol, cast

from torch import Tensor

from llava.engines.local.prompt import Prompt, Span
from llava.engines.local.slots import Owner, Slots
from llava.recent import Kept

_SHORT = 8  # a shared text of fewer tokens is not worth a copy


class Reader(Owner, Protocol):
    """A call that reads its prompt."""

    prompt: Prompt


class Prefixes:
    """What is kept: together with all rows, within `budget` bytes, and one piece that went lately. `hits` and `misses` count images of
    calls: found, or computed.

    Any thread may ask, each about readers and rows of its own.
    """

    def __init__(self, budget: int) -> None:
        self._lock = threading.RLock()
        self._kept: Kept[Tensor] = Kept(budget)
        self._spare: list[Tensor] = []  # the largest of what features have driven out: a next piece of its size is written over it
        self._budget = self._limit = budget
        self._rows: dict[Slots[Any], int] = {}  # bytes that rows take
        self._computing: dict[Hashable, Reader] = {}
        self._text: tuple[list[int], Hashable] = ([], None)  # the newest piece that begins a prompt: its text, its key
        self.hits = 0
        self.misses = 0
        self.reused_tokens = 0

    @property
    def bytes(self) -> int:
        """What is held."""
        return self._kept.bytes

    @property
    def row_bytes(self) -> int:
        """What all rows take."""
        return sum(self._rows.values())

    @property
    def evictions(self) -> int:
        """What had to go."""
        return self._kept.evictions

    def make_room(self, slots: Slots[Any], size: int) -> None:
        """`slots` take `size` bytes of the budget from now on."""
        with self._lock:
            self._rows[slots] = size
            self.shrink(self._budget - self.row_bytes)

    def shrink(self, limit: int) -> None:
        """From now on at most `limit` bytes, until rows take more or less."""
        with self._lock:
            self._limit = max(limit, 0)
            self._kept.shrink(self._limit)
            self._spare = []

    def free(self, slots: Slots[Any]) -> None:
        """Keep nothing any more: `slots` are gone, and their lane with them."""
        with self._lock:
            self._budget = 0
            self.make_room(slots, 0)

    def has_pixels_of(self, span: Span) -> bool:
        """Whether the image need not be encoded; the answer may be out of date soon."""
        return span.key in self._kept or ("features", span.image.sha256) in self._kept

    def claim(self, reader: Reader) -> bool:
        """Whether the reader may begin; others then wait for what it has to compute. Not while another call computes what it needs."""
        with self._lock:
            missing = [span.key for span in reader.prompt.spans if span.key not in self._kept]
            free = not any(key in self._computing for key in missing)
            if free:
                self._computing.update(dict.fromkeys(missing, reader))
                self._use(reader)  # lest what it needs be the first to go when its row takes memory
            return free

    def _use(self, reader: Reader) -> None:
        """What is kept of the reader's prompt is used now; what later pieces stand on last, so that they go before it."""
        for span in reversed(reader.prompt.spans):
            self._kept.get(span.key)

    def begin(self, reader: Reader, slots: Slots[Any]) -> int:
        """Copy what is there into the reader's row; the number of positions that are filled now. The last one is left to compute."""
        with self._lock:
            filled = self._begin(reader, slots)
            self.reused_tokens += filled
            return filled

    def _begin(self, reader: Reader, slots: Slots[Any]) -> int:
        prompt = reader.prompt
        found = list(takewhile(lambda span: span.key in self._kept, prompt.spans))
        held = slots.held(reader)
        slots.hold(reader, frozenset())
        ends = [0, *(min(span.end, prompt.tokens - 1) for span in found)]
        for i, span in reversed(list(enumerate(found))):  # as in `_use`
            piece = cast(Tensor, self._kept.get(span.key))
            if span.key not in held:  # else it lies there from the call before
                slots.load(reader, piece, ends[i], ends[i + 1] - ends[i])
        slots.hold(reader, frozenset(span.key for span in found if span.end <= ends[-1]))
        for span in prompt.spans[len(found) :]:
            self._computing.setdefault(span.key, reader)
        self.hits += len(found)
        self.misses += len(prompt.spans) - len(found)
        return ends[-1] or self._shared_text(reader, slots)

    def _shared_text(self, reader: Reader, slots: Slots[Any]) -> int:
        """Where no image is known: the beginning that the prompt shares with the text before some image, such as the system line."""
        text, key = self._text
        pairs = zip(text, reader.prompt.ids[:-1], strict=False)
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        piece = self._kept.get(key) if shared >= _SHORT else None
        if piece is None:
            return 0
        slots.load(reader, piece, 0, shared)
        return shared

    def store(self, reader: Reader, slots: Slots[Any]) -> None:
        """Keep the pieces of the reader's row that are complete and not there yet."""
        with self._lock:
            self._store(reader, slots)

    def _store(self, reader: Reader, slots: Slots[Any]) -> None:
        begin = 0
        for span in reader.prompt.spans:
            if span.end > reader.filled:
                break
            size = (span.end - begin) * slots.position_bytes
            if span.key not in self._kept and size <= self._limit:
                gone, self._spare = [*self._kept.make_room(size), *self._spare], []
                self._kept.put(span.key, slots.snapshot(reader, begin, span.end, gone), size)
                if begin == 0:
                    self._text = reader.prompt.head, span.key
            slots.hold(reader, slots.held(reader) | {span.key})
            self._computing.pop(span.key, None)
            begin = span.end
        self._use(reader)

    def give_up(self, reader: Reader) -> None:
        """The reader has ended, or cannot begin: whoever waits for its pieces computes them."""
        with self._lock:
            for key in [key for key, owner in self._computing.items() if owner is reader]:
                del self._computing[key]

    def features(self, image_hash: str) -> Tensor | None:
        """Features (positions, width) of an image, if they are there."""
        with self._lock:
            return self._kept.get(("features", image_hash))

    def keep_features(self, image_hash: str, features: Tensor) -> None:
        """For calls with the same image elsewhere in their prompt."""
        with self._lock:
            gone = self._kept.put(("features", image_hash), features, features.nbytes)
            self._spare = sorted([*gone, *self._spare], key=lambda value: value.nbytes)[-1:]
