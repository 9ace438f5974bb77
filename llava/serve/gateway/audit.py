"""The audit log: one JSON line for each guarded request, written before its answer leaves, that shows that the guard ran and on what.

Lines hold hashes (SHA-256) and lengths; texts only where the operator switches them on. Each line holds the hash of the line before it, so
that a line that was changed or taken out shows: `verify` finds it. The file is only ever appended to; its rights are the owner's alone.
"""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llava.chat import Chat
from llava.ecso.trace import Step
from llava.errors import UserError

FORMAT = 1
START = "0" * 64
Json = dict[str, Any]


class AuditLog:
    """An open log at `path`; `content`: keep the texts too. Raises `UserError` when the file cannot be written."""

    def __init__(self, path: Path, content: bool = False) -> None:
        self.content = content
        try:
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            raise UserError(f"The audit log {path} cannot be written: {error.strerror}.") from None
        last, torn = _end_of(path)
        self._previous = last
        if torn:  # a crash in the middle of a line: end it, so that the next one stands on its own
            os.write(self._file, b"\n")

    def write(self, **fields: Any) -> None:
        """Append one line; raises `OSError`, for instance when the disk is full."""
        row = {"format": FORMAT, "time": datetime.now(UTC).isoformat(timespec="milliseconds"), **fields, "previous": self._previous}
        line = json.dumps(row, ensure_ascii=True, separators=(",", ":")).encode()
        written = os.write(self._file, line + b"\n")
        self._previous = _sha256(line[:written])
        if written <= len(line):
            os.write(self._file, b"\n")
            raise OSError("the line was written only in part")

    def text(self, text: str) -> Json:
        """A text as the log keeps it."""
        return {"sha256": _sha256(text.encode("utf-8", "replace")), "characters": len(text)} | ({"text": text} if self.content else {})

    def chat(self, chat: Chat) -> list[Json]:
        """The messages of a chat."""
        return [{"role": m.role, **self.text(m.text), "images": [image.sha256 for image in m.images]} for m in chat.messages]

    def steps(self, steps: tuple[Step, ...]) -> list[Json]:
        """The calls that were made, what each said, and the verdicts."""
        return [
            {"step": step.name, "reply": self.text(step.text), "seconds": round(step.seconds, 4)}
            | ({"harmful": step.verdict.harmful, "p_harmful": step.verdict.p_harmful} if step.verdict else {})
            for step in steps
        ]

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def verify(path: Path) -> int:
    """The number of lines of an unbroken log; raises `UserError` that names the first line that does not follow from the one before."""
    previous, number = START, 0
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = {"previous": previous}  # torn by a crash: it counts by its hash, as any line
        if row.get("previous") != previous:
            raise UserError(f"Line {number} of {path} does not follow from the line before it: the log was changed.")
        previous = _sha256(line)
    return number


def _end_of(path: Path) -> tuple[str, bool]:
    """Hash of the last line, and whether its end is missing."""
    last, line = START, b"\n"
    with path.open("rb") as file:
        for line in file:
            last = _sha256(line.rstrip(b"\n"))
    return last, not line.endswith(b"\n")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
