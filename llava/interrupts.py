"""Ctrl-C while something is imported or a model is loaded. Knows neither."""

from __future__ import annotations

import signal
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def heeded() -> Iterator[None]:
    """Ctrl-C during the block ends it with `KeyboardInterrupt`, at its end at the latest.

    Compiled modules that import others, as torch imports numpy, swallow every exception of that import, and lazy imports make another
    one of it: an interrupt that falls into those moments would be lost. One that falls into the beginning of a compiled module waits until
    that has begun: seconds may go there, all of them before the first line of Python in which the signal can be noticed. One that falls
    into the machinery of imports itself waits until that is left: it would leave a lock taken, for which other threads would then wait for
    ever. Where somebody else handles the signal, nothing is changed.
    """
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not ours:
        yield
        return
    came, beginning = False, None

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came, beginning
        came, beginning = True, _beginning(frame)
        if beginning is not None or _is_delicate(frame):
            sys.setprofile(wait)
        else:
            signal.default_int_handler(number, frame)

    def wait(frame: FrameType, event: str, _about: object) -> None:
        nonlocal beginning
        if beginning is not None:
            beginning = None if frame is beginning and event == "return" else beginning
        elif not _is_delicate(frame):
            sys.setprofile(None)
            raise KeyboardInterrupt

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
            sys.setprofile(None)
    if came:
        raise KeyboardInterrupt


def _beginning(frame: FrameType | None) -> FrameType | None:
    """The outermost frame that waits for a compiled module to begin, if there is one."""
    found = None
    while frame is not None:
        if frame.f_code.co_qualname.startswith("ExtensionFileLoader."):
            found = frame
        frame = frame.f_back
    return found


def _is_delicate(frame: FrameType | None) -> bool:
    """Whether imports are at work here, which take and give back locks, and no module's own code; or a weak reference, whose exceptions
    Python prints and drops."""
    if frame is not None and frame.f_code.co_filename == weakref.__file__:
        return True
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_name != "_call_with_frames_removed"  # it runs what a module says
