"""Where a chat is read and written: a person's terminal, or a pipe.

Answers go to standard output, all else to standard error, so that `llava chat < questions > answers` keeps answers only. Control
characters of a model never reach the terminal. Questions can be called back with the arrow keys where Python has readline; they are
written to a file only when one is named. Knows no model and no command.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from llava.ecso.text import printable
from llava.errors import UserError

_KEPT = 1000  # lines of a history file


class Terminal:
    """The process's own standard streams. `history` is a file to read earlier questions from, and to keep them in."""

    def __init__(self, history: Path | None = None) -> None:
        self.interactive = sys.stdin.isatty()
        self.colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._edits = self.interactive and sys.stdout.isatty()
        self._readline = _readline() if self._edits else None
        self._history = None if history is None else _expanded(history)
        self._status = 0  # columns of what `status` shows
        if hasattr(sys.stdin, "reconfigure"):
            sys.stdin.reconfigure(errors="surrogateescape")  # bytes that are no text become a sentence, not a traceback
        if self._history is not None:
            self._recall(self._history)

    def read(self, prompt: str) -> str | None:
        """The next line without its end, or None at the end of the input. The prompt is for people only."""
        if self._edits:
            try:
                return input(prompt)
            except EOFError:
                self.say("\n")
                return None
        if self.interactive:
            self._write_error(prompt)
        line = sys.stdin.readline()
        return line.rstrip("\r\n") if line else None

    def status(self, words: str) -> None:
        """Show a person what happens just now, until something else is written in its place ("": nothing). Not for pipes."""
        if self._edits and sys.stderr.isatty():
            self._write_error(words)
            self._status = len(words)

    def say(self, text: str) -> None:
        """Write a piece of an answer, at once."""
        self._wipe()
        sys.stdout.write(text)
        sys.stdout.flush()

    def remark(self, sentence: str) -> None:
        """Tell something that is no answer."""
        self._write_error(printable(sentence) + "\n")

    def close(self) -> None:
        """Keep the history, if that was asked for. Raises `UserError` when it cannot be written."""
        if self._history is None or self._readline is None:
            return
        self._readline.set_history_length(_KEPT)
        path = self._history
        try:
            descriptor, scratch = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # readable by its owner only
            os.close(descriptor)
            self._readline.write_history_file(scratch)
            Path(scratch).replace(path)
        except OSError as error:
            raise _unusable(path, error) from None

    def _recall(self, history: Path) -> None:
        if not self._edits:
            return
        if self._readline is None:
            raise UserError("--history needs readline, which this Python does not have: leave it out.")
        try:
            self._readline.read_history_file(history)
        except FileNotFoundError:
            return  # it will be made
        except OSError as error:
            raise _unusable(history, error) from None

    def _write_error(self, text: str) -> None:
        self._wipe()
        sys.stderr.write(text)
        sys.stderr.flush()

    def _wipe(self) -> None:
        """Take away what `status` shows; by spaces, which every terminal knows."""
        if self._status:
            sys.stderr.write(f"\r{' ' * self._status}\r")
            sys.stderr.flush()
            self._status = 0


def _readline() -> ModuleType | None:
    try:
        import readline  # from now on `input` has its keys
    except ImportError:
        return None
    return readline


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise UserError(f"The history file {path} cannot be used: nobody here has that home.") from None


def _unusable(path: Path, error: OSError) -> UserError:
    return UserError(f"The history file {path} cannot be used: {error.strerror or 'it is no text'}.")
