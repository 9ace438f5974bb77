"""Ctrl-C while a model is loaded. Knows no engine."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def heeded() -> Iterator[None]:
    """Ctrl-C during the block ends it with `KeyboardInterrupt`, at its end at the latest.

    Compiled modules that import others, as torch imports numpy, swallow every exception of that import, and lazy imports make another
    one of it: an interrupt that falls into those moments would be lost. Where somebody else handles the signal, nothing is changed.
    """
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not ours:
        yield
        return
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    except Exception as failure:
        if came:
            raise KeyboardInterrupt from failure
        raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if came:
        raise KeyboardInterrupt
