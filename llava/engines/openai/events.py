"""A stream of server-sent events as it comes: bytes in, the data of whole events out. Knows neither socket nor JSON."""

from __future__ import annotations

from llava.errors import EngineError

MAX_EVENT = 16 * 2**20  # bytes of one event


class Events:
    """Lines end with a line feed, with or without a carriage return before it; an empty one ends an event. Other fields than `data` and
    comments, which keep connections alive, are passed over. Not `str.splitlines`: a text may hold other characters that end lines there."""

    def __init__(self) -> None:
        self._line: list[bytes] = []  # joined once, when its end comes: a long line arrives in very many pieces
        self._data: list[bytes] = []
        self._kept = 0  # bytes of the data, a line without any counted too
        self._size = 0  # with those of the line

    def add(self, piece: bytes) -> list[bytes]:
        """The data of the events that `piece` completes; raises `EngineError` for one that has no end."""
        *ended, rest = piece.split(b"\n")
        whole: list[bytes] = []
        for part in ended:
            line = b"".join([*self._line, part]).removesuffix(b"\r")
            self._line = []
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
                self._kept += len(line)
            elif not line and self._data:
                whole.append(b"\n".join(self._data))
                self._data, self._kept = [], 0
            self._size = self._kept
        self._line.append(rest)
        self._size += len(rest)
        if self._size > MAX_EVENT:
            raise EngineError("The server sends an event without an end.")
        return whole
