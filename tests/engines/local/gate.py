"""Stops and looks: what happens on the model thread before each step, and one call to try it with."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from llava.chat import Call, Chat, Sampling
from llava.model.loaded import Loaded
from tests.engines.local.driving import before_pass
from tests.factories import image

RED = image("red")
Threads = Callable[[], set[threading.Thread]]


def call(question: str = "what is in the box?", max_tokens: int = 20, **sampling: object) -> Call:
    return Call("answer", Chat.ask(question, [RED]), Sampling(max_tokens=max_tokens, **sampling))  # type: ignore[arg-type]


@contextmanager
def before_forward(loaded: Loaded, action: Callable[[], object]) -> Iterator[None]:
    """Run `action` on the model thread before each of the model's steps."""
    hook = before_pass(loaded, lambda *_: action())
    try:
        yield
    finally:
        hook.remove()


class Gate:
    """Stops the model thread before its next step until it is opened."""

    def __init__(self) -> None:
        self.steps = 0
        self._open = threading.Event()

    def __call__(self) -> None:
        self.steps += 1
        self._open.wait()

    def open(self) -> None:
        self._open.set()
