"""An engine that says what it is told: for tests, documentation, demonstrations and dry runs.

It lives in the product, speaks the same protocol as every other engine and keeps the calls that it was asked. It knows no model
and no method; a step's name is only a key to look up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from llava.chat import Call, Delta, Reply
from llava.errors import EngineClosed, EngineError, NoLogprobs, UserError

Line = str | Reply | Exception  # what is said: a text, a whole reply, or an exception that is raised
Script = Iterable[Line] | Mapping[str, Line] | Callable[[Call], Line]

PIECE = 4  # characters in a streamed piece


class ScriptedEngine:
    """Answers from `replies`: an iterable is used up in order, a mapping is asked by step name, a function is asked with the call.

    `seen` holds every call in the order of arrival. `delay` is the pause in seconds before each streamed piece. When nothing is
    left to say, or no line has the step's name, the call fails with `EngineError`. `first_logprobs` and `tokens` of a scripted `Reply`
    are given only to calls that ask for them, as by any engine; one that asks for tokens where there are none fails with `NoLogprobs`.
    Raises `UserError` for replies of another kind.
    """

    def __init__(self, replies: Script, *, name: str = "scripted", delay: float = 0.0) -> None:
        self._line = _chooser([replies] if isinstance(replies, str) else replies)
        self._name = name
        self._delay = delay
        self._closed = False
        self.seen: list[Call] = []

    @property
    def name(self) -> str:
        return self._name

    async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
        """The scripted line in small pieces, then the reply; raises what the script says to raise."""
        if self._closed:
            raise EngineClosed(f"The engine {self.name} is closed.")
        start = time.monotonic()
        self.seen.append(call)
        line = self._line(call)
        if isinstance(line, Exception):
            raise line
        reply = line if isinstance(line, Reply) else Reply(line)
        if call.sampling.logprobs is None:
            reply = replace(reply, tokens=None)
        elif reply.tokens is None:
            raise NoLogprobs
        for begin in range(0, len(reply.text), PIECE):
            await asyncio.sleep(self._delay)
            if self._closed:
                raise EngineClosed(f"The engine {self.name} was closed during the call.")
            yield Delta(reply.text[begin : begin + PIECE])
        if not call.top_logprobs:
            reply = replace(reply, first_logprobs=None)
        yield Delta(reply=replace(reply, seconds=reply.seconds or time.monotonic() - start))

    async def close(self) -> None:
        """Refuse further calls."""
        self._closed = True


def _chooser(replies: Script) -> Callable[[Call], Line]:
    if isinstance(replies, Mapping):
        return _by_step(dict(replies))
    if isinstance(replies, Iterable):
        return _in_order(iter(replies))
    if not callable(replies):
        raise UserError(f"A script is a list of replies, a table of them by step, or a function of the call, not {type(replies).__name__}.")
    return replies


def _by_step(lines: Mapping[str, Line]) -> Callable[[Call], Line]:
    def line(call: Call) -> Line:
        if call.step not in lines:
            raise EngineError(f"The script has no line for the step {call.step!r}; it has {', '.join(map(repr, lines)) or 'none'}.")
        return lines[call.step]

    return line


def _in_order(rest: Iterator[Line]) -> Callable[[Call], Line]:
    def line(call: Call) -> Line:
        try:
            return next(rest)
        except StopIteration:
            raise EngineError(f"The script has no reply left for the step {call.step!r}.") from None

    return line
