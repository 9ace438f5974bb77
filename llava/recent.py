"""What was made lately and may be wanted again soon, such as the file of a picture that the steps of one question send in turn.

Bounded in bytes. Knows nothing of what it keeps.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(Generic[V]):
    """Values with a size in bytes; beyond `limit`, those that were not used for the longest time go. Keys are contents."""

    def __init__(self, limit: int) -> None:
        self.bytes = 0
        self.evictions = 0
        self._limit = limit
        self._items: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()

    def get(self, key: Hashable) -> V | None:
        """The value, now used last; None when it is not there."""
        item = self._items.get(key)
        if item is None:
            return None
        self._items.move_to_end(key)
        return item[0]

    def __contains__(self, key: Hashable) -> bool:
        return key in self._items

    def put(self, key: Hashable, value: V, size: int) -> list[V]:
        """Keep a value of `size` bytes, if that is possible at all; what had to go for it."""
        if key in self._items or size > self._limit:
            return []
        gone = self.make_room(size)
        self._items[key] = value, size
        self.bytes += size
        return gone

    def shrink(self, limit: int) -> None:
        """From now on at most `limit` bytes."""
        self._limit = max(limit, 0)
        self.make_room(0)

    def make_room(self, size: int) -> list[V]:
        """What has to go, and is gone now, for a value of `size` bytes; nothing goes for one that is never kept."""
        gone: list[V] = []
        while size <= self._limit < self.bytes + size:
            value, freed = self._items.popitem(last=False)[1]
            gone.append(value)
            self.bytes -= freed
            self.evictions += 1
        return gone


class Recent(Generic[K, V]):
    """Makes a value by its key, and keeps those that were asked for last: as many as have `most` bytes together, by `size`. Any thread may
    ask."""

    def __init__(self, most: int, size: Callable[[V], int]) -> None:
        self._size = size
        self._kept: Kept[V] = Kept(most)
        self._lock = Lock()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value of `key`, made where it is not there; raises what `make` raises. Two threads may make the same one at a time."""
        with self._lock:
            found = self._kept.get(key)
        if found is not None:
            return found
        made = make()
        with self._lock:
            self._kept.put(key, made, self._size(made))
        return made
