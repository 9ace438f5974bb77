"""Where a chat is read and written: a person's terminal, or a pipe.

Answers go to standard output, all else to standard error, so that `llava chat < questions > answers` keeps answers only. Control
characters of a model never reach the terminal. Questions can be called back with the arrow keys where Python has readline; they are
written to a file only when one is named. Knows no model and no command.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType, ModuleType

from llava.ecso.text import printable
from llava.errors import UserError

_KEPT = 1000  # lines of a history file
_LATE = 0.1  # seconds after which a Ctrl-C is heeded that came while a key was at work


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
                return self._input(prompt)
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

    def _input(self, prompt: str) -> str:
        """`input`, with a Ctrl-C that is heeded whenever it comes.

        Python asks for signals only when one breaks its wait for readline's next key. One that came a moment before, while a key was at
        work, would be heeded at the next key: a timer breaks the wait before that.
        """
        if self._readline is None:
            return input(prompt)
        signal.setitimer(signal.ITIMER_REAL, _LATE, _LATE)
        try:
            return input(prompt)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

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
    signal.signal(signal.SIGALRM, _nothing)  # and stays: a timer's last signal may come late
    signal.siginterrupt(signal.SIGALRM, False)  # only waits are broken: what a stopped terminal has not taken is not lost
    return readline


def _nothing(_number: int, _frame: FrameType | None) -> None:
    pass


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise UserError(f"The history file {path} cannot be used: nobody here has that home.") from None


def _unusable(path: Path, error: OSError) -> UserError:
    return UserError(f"The history file {path} cannot be used: {error.strerror or 'it is no text'}.")
