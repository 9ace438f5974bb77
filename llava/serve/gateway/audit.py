"""The audit log: one JSON line for each request, written before its answer leaves (of a stream that nothing guards, before its end does),
that shows that the guard ran and on what.

Lines hold hashes (SHA-256) and lengths; texts only where the operator switches them on. Each line holds the hash of the line before it, so
that a line that was changed or taken out shows: `verify` finds it. The file is only ever appended to, by one process at a time; its rights
are the owner's alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llava.chat import Chat
from llava.ecso.trace import Step
from llava.errors import UserError

FORMAT = 1
START = "0" * 64
_LOCKED = 2**40  # the byte that is locked on Windows, where nobody else can read it then: behind all lines
Json = dict[str, Any]


class AuditLog:
    """An open log at `path`, which is nobody else's until it is closed; `content`: keep the texts too. Raises `UserError` when the file
    cannot be written, is no regular file, or is another one's."""

    def __init__(self, path: Path, content: bool = False) -> None:
        self.content = content
        try:
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            raise UserError(f"The audit log {path} cannot be written: {error.strerror}.") from None
        try:
            if not stat.S_ISREG(os.fstat(self._file).st_mode):  # its last line must be read: of a pipe or a terminal that waits for ever
                raise UserError(f"The audit log {path} is no regular file, and its lines are chained over restarts: give it one.")
            _lock(self._file, path)
            self._previous, self._torn = _end_of(path)
        except BaseException:
            self.close()
            raise

    def write(self, **fields: Any) -> None:
        """Append one line; raises `OSError`, for instance when the disk is full."""
        if self._torn:  # a crash or a full disk cut the last line off: end it, so that this one stands on its own
            os.write(self._file, b"\n")
            self._torn = False
        row = {"format": FORMAT, "time": datetime.now(UTC).isoformat(timespec="milliseconds"), **fields, "previous": self._previous}
        line = json.dumps(row, ensure_ascii=True, separators=(",", ":")).encode()
        written = os.write(self._file, line + b"\n")
        self._previous, self._torn = _sha256(line[:written]), written <= len(line)
        if self._torn:
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
        """Close the file, and let others have it; a second time does nothing."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1  # the number may soon be another file's


def verify(path: Path) -> int:
    """The number of lines of an unbroken log; raises `UserError` that names the first line that does not follow from the one before."""
    previous, number = START, 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
            except ValueError:
                row = {"previous": previous}  # torn by a crash: it counts by its hash, as any line
            if not isinstance(row, dict) or row.get("previous") != previous:
                raise UserError(f"Line {number} of {path} does not follow from the line before it: the log was changed.")
            previous = _sha256(line.removesuffix(b"\n"))
    return number


def _lock(file: int, path: Path) -> None:
    """Keep an open file from others who lock it until it is closed, or its process ends, however that comes about; raises `UserError`."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(file, _LOCKED, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        said = f"Another gateway writes to the audit log {path}, and the lines of two would break each other's chain: give each its own."
        raise UserError(said) from None
    except OSError as error:  # some file systems of clusters have no locks
        raise UserError(f"The audit log {path} cannot be locked: {error.strerror}. Keep it on another file system.") from None


def _end_of(path: Path) -> tuple[str, bool]:
    """Hash of the last line, and whether its end is missing."""
    with path.open("rb") as file:
        last = deque(file, maxlen=1)
    return (_sha256(last[0].removesuffix(b"\n")), not last[0].endswith(b"\n")) if last else (START, False)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
