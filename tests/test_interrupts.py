"""Ctrl-C while something is loaded is never lost."""

import _imp
import importlib
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from types import FrameType
from typing import Any

import pytest

from llava.interrupts import heeded

TraceFunction = Callable[[FrameType, str, Any], Any]


def interrupted(then: type[BaseException] | None) -> None:
    """Something is loaded, an interrupt falls into it, and it is swallowed or comes out as `then`."""
    try:
        signal.raise_signal(signal.SIGINT)
    except BaseException as failure:
        if then is not None:
            raise then from failure


@pytest.mark.parametrize("then", [None, ModuleNotFoundError], ids=["as torch does with numpy", "as lazy imports do"])
def test_an_interrupt_that_an_import_swallows_or_renames_ends_the_loading_all_the_same(then: type[BaseException] | None) -> None:
    with pytest.raises(KeyboardInterrupt), heeded():
        interrupted(then)


def test_an_interrupt_while_a_compiled_module_begins_ends_the_loading_as_soon_as_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []

    def begin(_: ModuleSpec) -> None:
        with suppress(BaseException):
            signal.raise_signal(signal.SIGINT)
            steps.append("begun")

    def load() -> None:
        loader = ExtensionFileLoader("compiled", "compiled.so")
        with heeded():
            loader.create_module(ModuleSpec("compiled", loader))
            steps.append("went on")

    monkeypatch.setattr(_imp, "create_dynamic", begin)
    with pytest.raises(KeyboardInterrupt):
        load()
    assert steps == ["begun"]
    assert sys.getprofile() is None


def test_an_interrupt_within_the_machinery_of_imports_ends_the_loading_and_leaves_no_lock_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)

    def interrupting(frame: FrameType, _event: str, _about: object) -> TraceFunction | None:
        return at_line if frame.f_code.co_name == "_get_module_lock" else None

    def at_line(_frame: FrameType, _event: str, _about: object) -> TraceFunction:
        if _imp.lock_held():
            sys.settrace(before)
            signal.raise_signal(signal.SIGINT)
        return at_line

    def load() -> None:
        with heeded():
            sys.settrace(interrupting)
            importlib.import_module("colorsys")
            pytest.fail("the interrupt waited for too long")

    before = sys.gettrace()
    with pytest.raises(KeyboardInterrupt):
        load()
    assert not _imp.lock_held()
    assert sys.getprofile() is None


def test_without_an_interrupt_errors_are_what_they_are_and_the_signal_is_as_before() -> None:
    with pytest.raises(ModuleNotFoundError), heeded():
        raise ModuleNotFoundError
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_handler_and_other_threads_are_left_alone() -> None:
    heard: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        with heeded():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert heard == [signal.SIGINT]

    def load() -> None:
        with heeded():
            heard.append(0)

    thread = threading.Thread(target=load)
    thread.start()
    thread.join()
    assert heard == [signal.SIGINT, 0]
