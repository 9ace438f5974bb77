"""An engine whose models live in workers that a controller knows: `controller://host:port`, or `controller://host:port/model`.

Each call asks the controller for a worker and then the worker itself. The chat travels as it is beside the prompt string; an original
LLaVA worker reads the string alone, and reads markers such as `<image>` in a question as LLaVA does. Knows how calls travel and fail,
and neither models nor what is asked.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import httpx2

from llava.chat import Call, Delta, Reply
from llava.cluster.dial import dial, new_client, post, worker_address
from llava.cluster.secret import cluster_headers
from llava.cluster.wire import MAX_EVENT, read_event, reply_of, request_of
from llava.deadlines import DEADLINES, Deadlines, on_time
from llava.engines import model_in
from llava.engines.loops import PerLoop
from llava.errors import (
    EngineClosed,
    EngineError,
    EngineTimeout,
    LlavaError,
    Misconfigured,
    NoLogprobs,
    Unavailable,
    UnknownModel,
    UserError,
)
from llava.model.templates import template_for


class _Pools(NamedTuple):
    """An event loop's connections. A pool looks at each idle one, twice a request, and the controller's short answers leave many idle: they
    have one of their own, which keeps few."""

    controller: httpx2.AsyncClient
    workers: httpx2.AsyncClient

    @classmethod
    def of(cls, deadlines: Deadlines, headers: Mapping[str, str]) -> _Pools:
        return cls(new_client(deadlines, headers, idle=4), new_client(deadlines, headers))

    async def close(self) -> None:
        await asyncio.gather(*(client.aclose() for client in self))


class ControllerEngine:
    """Whatever worker the controller at `target` picks.

    `model`: a served model's name; may be left out when there is exactly one. The cluster's secret is LLAVA_CLUSTER_SECRET's.
    Seconds: `connect_timeout` to reach a process, `first_timeout` to the first text, `idle_timeout` without a sign of life, `timeout` for
    everything. A call that fails before any of its text was handed on is repeated once, by another worker. Raises `UserError`.
    """

    def __init__(
        self,
        target: str,
        *,
        model: str | None = None,
        timeout: float = DEADLINES.total,
        connect_timeout: float = DEADLINES.connect,
        first_timeout: float = DEADLINES.first,
        idle_timeout: float = DEADLINES.idle,
    ) -> None:
        address, named = target.partition("://")[2].partition("/")[0], model_in(target)
        try:
            self._controller = worker_address(f"http://{address}")
        except UserError:
            raise UserError("A controller's target looks like controller://host:10000, or controller://host:10000/model.") from None
        self._address = address
        if model and named and model != named:
            raise UserError(f"The controller's target asks for the model {named!r}, the option model for {model!r}: leave one of them out.")
        self._model = model or named
        self._deadlines = Deadlines(connect_timeout, first_timeout, idle_timeout, timeout)
        self._closed = False
        headers = cluster_headers()
        self._pools = PerLoop(lambda: _Pools.of(self._deadlines, headers), _Pools.close)

    @property
    def name(self) -> str:
        return f"{self._model} at controller {self._address}" if self._model else f"controller {self._address}"

    async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
        """The worker's answer as it comes; see `Engine.stream`."""
        self._check_open()
        end = asyncio.get_running_loop().time() + self._deadlines.total
        with self._unless_closed():
            async with aclosing(self._tried(call, end)) as deltas:
                async for delta in deltas:
                    yield delta

    async def close(self) -> None:
        """Close the connections; running calls fail with `EngineClosed`. May be called from any event loop."""
        self._closed = True
        await self._pools.close()

    def _check_open(self) -> None:
        if self._closed:
            raise EngineClosed(f"The engine {self.name} is closed.")

    @contextmanager
    def _unless_closed(self) -> Iterator[None]:
        """Whatever fails in a call that closing overtakes, says so."""
        try:
            yield
        except (EngineError, RuntimeError) as error:  # RuntimeError: of a client that is closed
            if self._closed:
                raise EngineClosed(f"The engine {self.name} was closed during the call.") from error
            raise

    async def _tried(self, call: Call, end: float) -> AsyncGenerator[Delta, None]:
        """The answer of one worker or, when it fails before any text, of another one."""
        model = await self._resolved()
        # With images it takes a while.
        prompt, body = await asyncio.to_thread(_encoded, call, model) if call.chat.images else _encoded(call, model)
        address = await self._worker(model, call)
        released = False
        try:
            async with aclosing(self._asked(address, _Reader(call, prompt), body, end)) as deltas:
                async for delta in deltas:
                    released = True
                    yield delta
            return
        except EngineError as error:
            if released or self._closed or asyncio.get_running_loop().time() >= end:
                raise
            failure = error
        try:
            second = await self._worker(model, call, address, isinstance(failure, Unavailable | EngineTimeout))
        except LlavaError:
            raise failure from None  # there is no other worker: what the first one said tells more
        try:
            async with aclosing(self._asked(second, _Reader(call, prompt), body, end)) as deltas:
                async for delta in deltas:
                    released = True
                    yield delta
        except EngineError as error:
            error.tried_again = not released
            raise

    async def _asked(self, address: str, reader: _Reader, body: bytes, end: float) -> AsyncGenerator[Delta, None]:
        """One worker's answer; raises `EngineError` when it ends without having said that it ends, or is not there at `end`."""
        start = time.monotonic()
        pieces = _read(dial((await self._pools.get()).workers, address, body), reader)
        async with aclosing(on_time(pieces, self._deadlines, bool, end)) as timed:
            async for piece in timed:
                if piece:
                    yield Delta(piece)
        yield Delta(reply=replace(reader.reply(), seconds=time.monotonic() - start))

    async def _resolved(self) -> str:
        if self._model is None:
            served = await self.models()
            if len(served) != 1:
                listed = ", ".join(served) or "no model"
                raise Misconfigured(f"The controller at {self._address} lists {listed}: say which one with model=.")
            self._model = served[0]
        return self._model

    async def models(self) -> list[str]:
        """The names of all models that workers serve; raises `UserError` and `EngineError`."""
        self._check_open()
        with self._unless_closed():
            found = await self._ask("list_models")
        models = found.get("models") if isinstance(found, dict) else None
        if not isinstance(models, list) or not all(isinstance(name, str) for name in models):
            raise EngineError(f"What answers at {self._address} is no controller.")
        return models

    async def _worker(self, model: str, call: Call, failed: str | None = None, unreachable: bool = False) -> str:
        """The address of a worker, another one than `failed`; raises `UnknownModel` or `Unavailable` when there is none."""
        images = call.chat.images
        wanted: dict[str, object] = {"model": model, "affinity": images[0].sha256 if images else None}
        if failed is not None:
            wanted |= {"avoid": [failed], "unreachable": unreachable}
        found = await self._ask("get_worker_address", wanted)
        address = found.get("address") if isinstance(found, dict) else None
        if address:
            try:
                return worker_address(address)
            except UserError:
                raise EngineError(f"What answers at {self._address} is no controller.") from None
        served = await self.models()
        if model not in served:
            raise UnknownModel(f"No worker at controller {self._address} serves {model!r}; served are: {', '.join(served) or 'none'}.")
        raise Unavailable(f"No worker for {model!r} can be reached just now.")

    async def _ask(self, what: str, body: Mapping[str, Any] | None = None) -> Any:
        return await post((await self._pools.get()).controller, f"{self._controller}/{what}", body, seconds=self._deadlines.connect)


def _encoded(call: Call, model: str) -> tuple[str, bytes]:
    """The prompt string of a call, and the whole request."""
    request = request_of(call, model, template_for(model))
    return request["prompt"], json.dumps(request).encode()


async def _read(events: AsyncGenerator[bytes, None], reader: _Reader) -> AsyncGenerator[str, None]:
    """The new text of each object; an empty one is a sign of life."""
    async with aclosing(events) as objects:
        async for raw in objects:
            yield reader.add(raw)


class _Reader:
    """Gathers one stream: our own form, or the original one, whose texts begin with the prompt and which has no end marker.

    Every token's log-probabilities, where the call wants them, only our own form tells; and only it ends at one of several stop strings.
    """

    def __init__(self, call: Call, prompt: str) -> None:
        self._prompt = prompt
        self._logprobs = call.sampling.logprobs is not None
        self._stops = len(call.sampling.stop)
        self._last: dict[str, Any] = {}
        self.text = ""

    def add(self, raw: bytes) -> str:
        """Take in one object; returns the new text. Raises `EngineError`, `NoLogprobs`, `UserError` for what an original worker cannot do,
        or the error that the worker tells of."""
        fields = read_event(raw)
        if self._last.get("finish_reason"):
            raise EngineError("The worker goes on after the end of its answer.")
        self._last = fields
        piece = fields.get("delta")
        if piece is None:
            if self._logprobs:
                raise NoLogprobs
            if self._stops > 1:
                raise UserError("An original worker takes one stop string: ask with one, or with none.")
            whole = fields.get("text")
            if not isinstance(whole, str) or not whole.startswith(self._prompt + self.text):
                raise EngineError("The worker's text does not go on where it was.")
            piece = whole[len(self._prompt) + len(self.text) :]
        if not isinstance(piece, str):
            raise EngineError("The worker sends text that is no text.")
        self.text += piece
        if len(self.text) > MAX_EVENT:
            raise EngineError("The worker's answer has no end.")
        return piece

    def reply(self) -> Reply:
        """The whole answer, after the end of the stream."""
        if not self._last or ("delta" in self._last and not self._last.get("finish_reason")):
            raise EngineError("The worker's answer ended early.")
        reply = reply_of(self._last, self.text) if "finish_reason" in self._last else _original(self.text)
        if self._logprobs and reply.tokens is None:
            raise NoLogprobs
        return reply


def _original(text: str) -> Reply:
    """The reply of a worker that does not say why it ended. White space is no model's own end: its token limit was, and more would follow.
    A check's "No.", a blank line, and then a "However" must not pass for a plain "No."."""
    return Reply(text, finish_reason="length" if text[-1:].isspace() else "stop")
