"""What was made lately and may be wanted again soon, such as the file of a picture that the steps of one question send in turn.

Bounded in bytes; any thread may ask. Knows nothing of what it keeps.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Makes a value by its key, and keeps those that were asked for last: as many as have `most` bytes together, by `size`."""

    def __init__(self, most: int, size: Callable[[V], int]) -> None:
        self._most = most
        self._size = size
        self._kept: OrderedDict[K, V] = OrderedDict()
        self._held = 0
        self._lock = Lock()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value of `key`, made where it is not there; raises what `make` raises. Two threads may make the same one at a time."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._lock:
            if key not in self._kept and self._size(made) <= self._most:
                self._kept[key] = made
                self._held += self._size(made)
            while self._held > self._most:
                self._held -= self._size(self._kept.popitem(last=False)[1])
        return made
