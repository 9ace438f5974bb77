"""Ctrl-C while something is loaded is never lost."""

import signal
import threading

import pytest

from llava.engines.interrupts import heeded


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
