"""Rows out of files that people made: JSON lines, JSON, CSV, TSV and Parquet, read so that nothing is lost without a word.

Every defect is reported with file and line: a torn last line, invalid UTF-8, a line too long to be true, JSON that is none, a quote
that is never closed, a wrong number of columns. A byte order mark, CRLF line ends and blank lines are mended and reported once.
Knows no benchmark.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llava.errors import UserError
from llava.eval.lines import MAX_LINE, Line, excerpt, lines, without_bom
from llava.eval.sample import BadRow, Json, OnBad

MAX_DOCUMENT = 256 * 2**20  # bytes of a JSON file, which is read as a whole
_SPACE = re.compile(r"[ \t\r\n]*")
_SURROGATE = re.compile("[\ud800-\udfff]")  # what `surrogateescape` makes of a byte that is no UTF-8


class RowError(UserError):
    """A row lacks something or has it in a wrong form; the text is the reason alone."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file: its fields, the line it begins at (from 1), its key where the file is a JSON object of rows.

    `number` (from 1) is its place among the entries of a JSON document, where all may stand in one line, and its line elsewhere. `raw`,
    its bytes, is there where rows are lines, and `offset` (bytes from the start of the file) in CSV and TSV only. `nth`: how many rows
    like it came before, where a benchmark counts them.
    """

    file: Path
    line: int
    data: Json
    key: str = ""
    number: int = 0
    raw: bytes = b""
    offset: int = 0
    nth: int = 0

    def __post_init__(self) -> None:
        if not self.number:
            object.__setattr__(self, "number", self.line)

    def text(self, name: str) -> str:
        """The field, a string that is not blank; raises `RowError`."""
        value = self.data.get(name)
        if not isinstance(value, str):
            raise RowError(f"{name!r} is {'missing' if value is None else f'no text but {type(value).__name__}'}")
        if not value.strip():
            raise RowError(f"{name!r} is empty")
        if _SURROGATE.search(value):  # JSON may escape one, but no tokenizer and no file name takes it
            raise RowError(f"{name!r} holds half a character")
        return value

    def id(self, name: str) -> str:
        """The field as an id: a whole number or a string that is not blank; raises `RowError`."""
        value = self.data.get(name)
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else self.text(name).strip()

    def span(self, name: str) -> tuple[int, int]:
        """Where in the file the field's bytes are: the first, and how many. For fields without quotes in them."""
        wanted = self.data[name].encode()
        return self.offset + self.raw.index(wanted), len(wanted)

    def bad(self, reason: str, mended: bool = False) -> BadRow:
        """The report on this row."""
        return BadRow(self.file, self.line, reason, excerpt(self.raw.decode("utf-8", "replace") or str(self.data)), mended)

    @property
    def source(self) -> str:
        """File and line."""
        return f"{self.file}:{self.line}"


def rows(path: Path, bad: OnBad) -> Iterator[Row]:
    """The rows of a file by its ending; raises `UserError` when there is no reader for it or it cannot be read."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path} ends in {path.suffix or 'nothing'}: give a file that ends in one of {', '.join(READERS)}.")
    try:
        yield from reader(path, bad)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from None


def json_lines(path: Path, bad: OnBad) -> Iterator[Row]:
    """One JSON object a line."""
    for line in lines(path, bad):
        text = line.data.decode("utf-8", "surrogateescape")
        try:
            if _SURROGATE.search(text):
                raise RowError("not valid UTF-8")
            data = _decoder.decode(text)
            if not isinstance(data, dict):
                raise RowError(f"a JSON {type(data).__name__} where an object is wanted")
        except RowError as error:
            bad(line.bad(str(error)))
        except (ValueError, RecursionError) as error:
            bad(line.bad("torn: the file ends in the middle of this line" if line.last else f"no JSON ({_short(error)})"))
        else:
            yield Row(path, line.number, data, raw=line.data)


def json_entries(path: Path, bad: OnBad) -> Iterator[Row]:
    """The objects in a JSON array, or in a JSON object, whose keys are then the rows' keys (a key that occurs twice gives two rows).

    What stands before a defect is kept, also in a file that was cut off.
    """
    with path.open("rb") as file:
        data = file.read(MAX_DOCUMENT + 1)
    if len(data) > MAX_DOCUMENT:
        raise UserError(f"{path} is larger than {MAX_DOCUMENT // 2**20} MiB: that is no question file.")
    text = without_bom(path, data, bad).decode("utf-8", "surrogateescape")
    at, line = 0, 1
    try:
        for number, (start, end, key, value) in enumerate(_values(text), 1):
            at, line = start, line + text.count("\n", at, start)
            row = Row(path, line, value if isinstance(value, dict) else {}, key, number)
            if not isinstance(value, dict):
                bad(row.bad(f"a JSON {type(value).__name__} where an object is wanted"))
            elif _SURROGATE.search(text, start, end):
                bad(row.bad("not valid UTF-8"))
            else:
                yield row
    except RecursionError:
        bad(BadRow(path, line, "nested too deeply; this entry and what follows is lost"))
    except json.JSONDecodeError as error:
        bad(BadRow(path, error.lineno, f"cut off or damaged here ({error.msg}); what follows is lost"))


def _values(text: str) -> Iterator[tuple[int, int, str, Any]]:
    """Start, end, key and value of each entry of the array or object that `text` is."""
    at = _skip(text, 0)
    closing = {"[": "]", "{": "}"}.get(text[at : at + 1])
    if closing is None:
        raise json.JSONDecodeError("neither an array nor an object", text, at)
    at = _skip(text, at + 1)
    while text[at : at + 1] != closing:
        key = ""
        if closing == "}":
            key, at = _decoder.raw_decode(text, at)
            at = _expect(text, at, ":")
            if not isinstance(key, str):
                raise json.JSONDecodeError("a key that is no string", text, at)
        start = at
        value, at = _decoder.raw_decode(text, start)
        yield start, at, key, value
        at = _skip(text, at)
        if text[at : at + 1] != closing:
            at = _expect(text, at, ",")


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _expect(text: str, at: int, sign: str) -> int:
    at = _skip(text, at)
    if text[at : at + 1] != sign:
        raise json.JSONDecodeError(f"no {sign!r}", text, at)
    return _skip(text, at + 1)


def table(path: Path, bad: OnBad, separator: str = ",") -> Iterator[Row]:
    """CSV as spreadsheets and pandas write it: a header, then one row a line; a quoted field may hold separators and line ends."""
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))  # for the whole process: pictures in base64 are fields, too
    pending: list[Line] = []  # the lines of the row that is being read

    def texts() -> Iterator[str]:
        for line in lines(path, bad, blank_lines_count=True):
            pending.append(line)
            yield line.data.decode("utf-8", "surrogateescape")

    reader = csv.reader(texts(), delimiter=separator, strict=True)
    header: list[str] | None = None
    while True:
        pending.clear()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            bad(_unclosed(pending, error))
            continue
        raw = b"".join(line.data for line in pending)
        row = Row(path, pending[0].number, dict(zip(header or (), fields, strict=False)), raw=raw, offset=pending[0].offset)
        if not fields:
            bad(row.bad("blank line", mended=True))
        elif _SURROGATE.search("".join(fields)):
            bad(row.bad("not valid UTF-8"))
        elif header is None:
            header = _columns(path, fields)
        elif len(fields) != len(header):
            torn = "torn: the file ends in the middle of this line; " if pending[-1].last else ""
            bad(row.bad(f"{torn}{len(fields)} columns where the header has {len(header)}"))
        else:
            yield row


def _columns(path: Path, fields: list[str]) -> list[str]:
    names = [field.strip() for field in fields]
    if twice := next((name for name in names if name and names.count(name) > 1), None):
        raise UserError(f"{path} has two columns {twice!r}: rename one.")
    return names


def _unclosed(pending: list[Line], error: csv.Error) -> BadRow:
    first, last = pending[0], pending[-1]
    where = f"; lines {first.number} to {last.number} are lost" if last is not first else ""
    return first.bad(f"a quoted field goes wrong ({_short(error)}){where}")


def parquet(path: Path, bad: OnBad) -> Iterator[Row]:
    """A Parquet file; `line` counts rows. Raises `UserError` when pyarrow is not there or cannot read the file."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise UserError("Parquet files need pyarrow: pip install 'llava[eval]'.") from None
    number = 0
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=32):
                for data in batch.to_pylist():
                    number += 1
                    yield Row(path, number, data)
    except (ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no readable Parquet file (after row {number}: {_short(error)}).") from None


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:120].rstrip(".")


_decoder = json.JSONDecoder(parse_constant=lambda _: None)  # pandas writes NaN for what is missing

READERS: dict[str, Callable[[Path, OnBad], Iterator[Row]]] = {
    ".jsonl": json_lines,
    ".json": json_entries,
    ".csv": table,
    ".tsv": lambda path, bad: table(path, bad, "\t"),
    ".parquet": parquet,
}
