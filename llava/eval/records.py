"""Records: a file of JSON lines that only ever grows, and loses nothing when its writer dies.

The first line is a header, every other one a row with an `id` and a `number` (its sample's place in the benchmark). A line is there whole
or not at all: whoever dies while writing leaves at most a torn last line, which is mended when the file is opened again. A disk that is
full takes back what it took of a line. Nothing here knows what is in a row.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from llava.errors import LlavaError, UserError

Json = dict[str, Any]
FORMAT = 1
SYNC_SECONDS = 5.0  # at most this much of a run is lost when the machine itself loses power
_HEADER = "llava_records"
_OF_DATA = ("task.samples ", "data.")  # what of a header no option decides
_PASSING = ("versions", "git")  # in a header, but no reason not to go on with its file


class StorageError(LlavaError):
    """A folder or disk does not take what is written; what was written before is safe."""


def storage_error(path: Path, error: OSError) -> StorageError:
    """The sentence for an `OSError` while writing."""
    return StorageError(
        f"{path} cannot be written: {error.strerror or error}. What was recorded so far is safe: mend it and run the same command."
    )


def line(value: Mapping[str, Any]) -> bytes:
    """One line of JSON, the same bytes for equal values. Half a character (a lone surrogate) is escaped; NaN raises ValueError."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace") + b"\n"


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file's content at once: readers see the old or the new one. Raises `StorageError`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:  # Ctrl-C too: nobody else would remove it
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise storage_error(path, error) from error
        raise


def write_changed(path: Path, data: bytes) -> None:
    """The same, but that a file with this content is not touched. Raises `StorageError`."""
    try:
        there = path.read_bytes() if path.exists() else None
    except OSError as error:
        raise storage_error(path, error) from error
    if there != data:
        write_whole(path, data)


def tell(path: Path, lines: Iterable[bytes]) -> None:
    """A file of lines for people, which is not there when there is nothing to tell; raises `StorageError`."""
    if data := b"".join(lines):
        write_changed(path, data)
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(path, error) from error


def lines_of(path: Path) -> Iterator[tuple[int, Json]]:
    """Each whole line of a file of JSON objects with the byte where it begins; a torn last line is left out.

    Raises `UserError` for a line in the middle that is no object.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from None
    with file:
        begin = 0
        for number, data in enumerate(file, 1):
            value = _object(data)
            if value is None:
                if not data.endswith(b"\n"):
                    return
                raise UserError(f"{path}, line {number} is damaged: remove that line.")
            yield begin, value
            begin += len(data)


def _object(data: bytes) -> Json | None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


class Appender:
    """A file that grows by whole lines. Opening it mends a torn end: a last line that is a whole object stays, any other is cut off."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            self._size = self._mended()
        except OSError as error:
            raise storage_error(path, error) from error
        self._synced = time.monotonic()

    def append(self, value: Mapping[str, Any]) -> int:
        """Add a line; returns the byte where it begins. Raises `StorageError`; the file is then as it was before."""
        data, begin = line(value), self._size
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            self._size += len(data)
            if time.monotonic() - self._synced > SYNC_SECONDS:
                self.sync()
        except OSError as error:
            with suppress(OSError):  # what stays of the line is mended when the file is opened again
                os.ftruncate(self._file, begin)
            self._size = begin
            raise storage_error(self.path, error) from error
        return begin

    def sync(self) -> None:
        """Have the disk keep it, not only the machine's memory."""
        os.fsync(self._file)
        self._synced = time.monotonic()

    def read(self, begin: int) -> Json:
        """The line that begins at a byte."""
        chunks, at = [], begin
        while b"\n" not in (chunk := os.pread(self._file, 1 << 16, at)) and chunk:
            chunks.append(chunk)
            at += len(chunk)
        value: Json = json.loads(b"".join([*chunks, chunk]).partition(b"\n")[0])
        return value

    def close(self) -> None:
        """Sync and close; raises `StorageError`."""
        if self._file >= 0:
            try:
                self.sync()
            except OSError as error:
                raise storage_error(self.path, error) from error
            finally:
                os.close(self._file)
                self._file = -1

    def _mended(self) -> int:
        size = os.fstat(self._file).st_size
        end, tail = size, b""
        while end and b"\n" not in tail:
            begin = max(0, end - (1 << 16))
            tail = os.pread(self._file, end - begin, begin) + tail
            end = begin
        torn = tail.rpartition(b"\n")[2]
        if torn and _object(torn) is not None:  # no beginning of an object is one: all but its line end was written
            return size + os.write(self._file, b"\n")
        if torn:
            os.ftruncate(self._file, size - len(torn))
        return size - len(torn)


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a row lies in its file, and its sample's place in the benchmark."""

    number: int
    begin: int


class Book:
    """A records file that is open for more rows; `rows` maps the ids that are there to their spots.

    Raises `UserError` when the file that is there was made with another configuration, and `StorageError`.
    """

    def __init__(self, path: Path, header: Json) -> None:
        self.path = path
        self._lines = Appender(path)
        try:
            self.header, self.rows = scanned(path)
            if not self.header:
                self.header = {_HEADER: FORMAT, **header}
                self._lines.append(self.header)
            else:
                check_same(path, self.header, {_HEADER: FORMAT, **header})
        except BaseException:
            self._lines.close()
            raise

    def append(self, row: Json) -> None:
        """Add a row; raises `StorageError`. An id that is there already is a mistake of the caller's."""
        if row["id"] in self.rows:
            raise ValueError(f"the id {row['id']!r} is recorded already")
        self.rows[row["id"]] = Spot(row["number"], self._lines.append(row))

    def row(self, name: str) -> Json:
        """The row of an id."""
        return self._lines.read(self.rows[name].begin)

    def finish(self) -> None:
        """Close the file, its rows in the benchmark's order: rows come in the order in which samples end."""
        spots = sorted(self.rows.values(), key=lambda spot: (spot.number, spot.begin))
        try:
            if any(a.begin > b.begin for a, b in pairwise(spots)):
                write_whole(self.path, b"".join([line(self.header), *(line(self._lines.read(spot.begin)) for spot in spots)]))
        finally:
            self.close()

    def close(self) -> None:
        """Close the file as it is."""
        self._lines.close()


def scanned(path: Path) -> tuple[Json, dict[str, Spot]]:
    """The header and where each id's row lies; both empty where there is no whole line yet. Raises `UserError`."""
    header: Json = {}
    rows: dict[str, Spot] = {}
    for begin, value in lines_of(path):
        if not header:
            header = _checked(path, value)
        elif _row(path, value)["id"] in rows:
            raise UserError(f"{path} has two rows with the id {value['id']!r}: remove one. (Shards are joined with `llava eval merge`.)")
        else:
            rows[value["id"]] = Spot(value["number"], begin)
    return header, rows


def _row(path: Path, value: Json) -> Json:
    if not isinstance(value.get("id"), str) or not isinstance(value.get("number"), int):
        raise UserError(f"{path} has a line without id and number: remove it; its sample is then asked again.")
    return value


def _checked(path: Path, header: Json) -> Json:
    if header.get(_HEADER) != FORMAT:
        raise UserError(f"{path} is no records file of format {FORMAT}: its first line is no such header. Name another file or folder.")
    return header


def read(path: Path) -> tuple[Json, list[Json]]:
    """The header and the rows of a records file, as they stand there; raises `UserError`."""
    values = [value for _, value in lines_of(path)]
    if not values:
        raise UserError(f"{path} is empty: it holds no records.")
    return _checked(path, values[0]), [_row(path, value) for value in values[1:]]


def check_same(path: Path, there: Json, wanted: Json) -> None:
    """Raise `UserError` unless two headers stand for the same configuration; versions may differ."""
    changed = [key for key in wanted if key not in _PASSING and there.get(key) != _plain(wanted[key])]
    changed += [key for key in there if key not in wanted and key not in _PASSING]
    if changed:
        which = _first_difference(changed[0], there.get(changed[0]), _plain(wanted.get(changed[0])))
        other_data = which.startswith(_OF_DATA)
        what_to_do = (
            "Files or pictures of the benchmark came, went or changed since: put them back" if other_data else "Give the same options"
        )
        raise UserError(
            f"{path} was made with another configuration: {which}. {what_to_do}, or record elsewhere (another --out or --answers-file)."
        )


def _plain(value: Any) -> Any:
    """What `value` is after a way through JSON."""
    return json.loads(json.dumps(value))


def _first_difference(name: str, there: Any, wanted: Any) -> str:
    if isinstance(there, dict) and isinstance(wanted, dict):
        for key in [*wanted, *there]:
            if there.get(key) != wanted.get(key):
                return _first_difference(f"{name}.{key}", there.get(key), wanted.get(key))
    return f"{name} is {json.dumps(there)[:80]} there and {json.dumps(wanted)[:80]} now"
