"""What every server of ours is made of: a FastAPI application in its three layers, and uvicorn around it.

    app = new_app(Rules(keys), title="llava controller")      # then @app.post(...) as usual; raise `Refusal` or any `LlavaError`
    await serve(app, "127.0.0.1", 10000)                       # until SIGTERM or Ctrl-C; open streams get `grace` seconds

Knows no route.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
import signal
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from types import FrameType
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from llava.cli import pair
from llava.deadlines import Deadlines
from llava.errors import LlavaError, UserError, unknown
from llava.serve.limits import Caps, Limits
from llava.serve.not_http import HEAD_BYTES, Refusing
from llava.serve.refusal import Edge, Refusal
from llava.serve.security import Gate, Keys, Rules, closed_to_others, cluster_keys

log = logging.getLogger(__name__)

Leave = Callable[[], Awaitable[None]]

HEAD_SECONDS = 10.0  # in which a request's head must arrive
STALL_SECONDS = 15.0  # in which a client must take something of what is there for it
GRACE = 15.0  # seconds that open streams get to end after SIGTERM


def new_app(
    rules: Rules, caps: Caps | None = None, *, raw: Mapping[str, int] | None = None, inner: Sequence[Middleware] = (), **fastapi: Any
) -> FastAPI:
    """An application without routes, pages or schema. `raw`: paths that take bytes, and at most how many; `inner`: layers behind ours;
    `fastapi`: options of FastAPI."""
    layers = [Middleware(Edge), Middleware(Gate, rules=rules), Middleware(Limits, caps=caps, raw=raw), *inner]
    quiet: dict[str, Any] = {"openapi_url": None, "docs_url": None, "redoc_url": None, "redirect_slashes": False}
    quiet["telemetry"] = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}  # it would tell peers' addresses
    app = FastAPI(middleware=layers, exception_handlers={HTTPException: _http_error}, **{**quiet, **fastapi})
    app.router.route_class = _Route
    return app


class _Route(APIRoute):
    """HEAD is answered like GET, and uvicorn leaves the body out. Who may ask is decided before, by the path: nothing is opened by it."""

    def __init__(self, *words: Any, **options: Any) -> None:
        super().__init__(*words, **options)
        if self.methods and "GET" in self.methods:
            self.methods.add("HEAD")


def join_cluster(options: argparse.Namespace) -> Keys:
    """What a process of the cluster does first: start the log, read its keys, warn of a `--host` that lets nobody in without a secret."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    keys = cluster_keys(Keys.read(options.api_key, "LLAVA_API_KEY"))
    if warning := closed_to_others(options.host, keys):
        log.warning(warning)
    return keys


def deadlines(words: Sequence[str], default: Deadlines, names: Sequence[str]) -> Deadlines:
    """`default` with what `--deadline NAME=SECONDS` says for some of `names`; raises `UserError`."""
    found = default
    for word in words:
        name, value = pair(word)
        if name not in names:
            raise unknown("deadline", name, names)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise UserError(f"A deadline looks like {names[0]}=30, in seconds above 0.")
        found = replace(found, **{name: float(value)})
    return found


class _Protocol(Refusing):
    """uvicorn's HTTP, with two deadlines. Who connects and says nothing, or a byte at a time, is let go; so is who takes nothing.

    An answer that is written at once stays here until its client has taken it, also when the connection was closed meanwhile, and what
    the client asked for next waits behind it.
    """

    _late: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(0)  # all that the kernel does not take at once is waited for, and watched
        self._watch()

    def pause_writing(self) -> None:
        """Begin to wait for the client to take something."""
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        """It has taken everything."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()

    def data_received(self, data: bytes) -> None:
        """Go on waiting until a head is complete, and go on listening while an answer is made."""
        super().data_received(data)
        self._watch()
        if self.flow.read_paused and self._is_ahead():
            self.flow.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to wait for."""
        for timer in (self._late, self._stalled):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self._is_waiting() and self._late is None:
            self._late = self.loop.call_later(HEAD_SECONDS, self._give_up)
        elif not self._is_waiting() and self._late is not None:
            self._late.cancel()
            self._late = None

    def _is_waiting(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _is_ahead(self) -> bool:
        """Whether what was read belongs to a next request, and is little. uvicorn reads nothing more then until this one is answered, and
        would not notice that the client leaves meanwhile."""
        asked = not self._is_waiting() and self.conn.their_state is not h11.SEND_BODY
        return asked and len(self.conn.trailing_data[0]) <= HEAD_BYTES

    def _give_up(self) -> None:
        self._late = None
        if self._is_waiting():
            self.transport.close()

    def _await_reader(self, before: float = math.inf) -> None:
        """Look again and again whether less is left than before; abort where it is not, for to close would wait for the client, too."""
        left = self.transport.get_write_buffer_size()
        if left < before:
            self._stalled = self.loop.call_later(STALL_SECONDS, self._await_reader, left)
        else:
            self.transport.abort()


class Server(uvicorn.Server):
    """uvicorn with a farewell before it stops to listen, and for which SIGTERM is an order and no failure (exit code 0)."""

    leave: Leave | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop in order; at once when told a second time."""
        if sig == signal.SIGINT and sig not in self._captured_signals:
            super().handle_exit(sig, frame)  # it is raised anew in the end: once, for a second one would break asyncio's way out
        else:
            self.force_exit, self.should_exit = self.should_exit, True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Say farewell, then drain: running answers get the grace, new connections are refused."""
        if self.leave is not None:
            await self._farewell(self.leave)
        await self.accept_no_more()
        await super().shutdown(sockets)
        if self.force_exit:  # uvicorn would leave the application to be cancelled, and log that as a crash
            await self.lifespan.shutdown()

    async def accept_no_more(self) -> None:
        """Let nobody in from now on; whoever was let in is a connection afterwards.

        asyncio knows a client a turn of the loop after it let it in. It drops without a word, its socket left open, the one whose listener
        is closed between.
        """
        loop = asyncio.get_running_loop()
        for listener in chain.from_iterable(each.sockets for each in self.servers):
            with suppress(NotImplementedError):  # Windows' other loop
                loop.remove_reader(listener.fileno())
        for _ in range(3):
            await asyncio.sleep(0)

    async def _farewell(self, leave: Leave) -> None:
        """Whatever becomes of it, the drain follows; who is told to stop at once does not wait for it."""
        saying = asyncio.ensure_future(leave())
        while not saying.done() and not self.force_exit:
            await asyncio.wait({saying}, timeout=0.1)  # a signal wakes no event loop
        saying.cancel()
        (failed,) = await asyncio.gather(saying, return_exceptions=True)
        if isinstance(failed, Exception):
            log.error("no good-bye was said: %s", type(failed).__name__)


def server(app: ASGIApp, *, grace: float = GRACE, leave: Leave | None = None, **options: Any) -> Server:
    """uvicorn with settings that suit us; `leave` is called before it drains, `options` are uvicorn's."""
    settings: dict[str, Any] = {
        "access_log": False,  # it would print peers' addresses
        "proxy_headers": False,  # a peer's address is what the socket says
        "server_header": False,
        "ws": "none",
        "http": _Protocol,
        "h11_max_incomplete_event_size": HEAD_BYTES,
        "loop": "asyncio",
        "log_level": "warning",
        "log_config": None,
        "timeout_graceful_shutdown": int(grace),
    }
    built = Server(uvicorn.Config(app, **{**settings, **options}))
    built.leave = leave
    return built


async def serve(app: FastAPI, host: str, port: int, *, grace: float = GRACE, leave: Leave | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C; raises `UserError` when the port cannot be had. `leave` is called before the server drains."""
    with listen(host, port) as listener:
        await server(app, grace=grace, leave=leave).serve([listener])


async def until_told(runner: uvicorn.Server, listener: socket.socket) -> None:
    """Serve until a signal comes. Being cancelled is an order to drain, too. (Ctrl-C cancels as well, once uvicorn has drained.)"""
    serving = asyncio.ensure_future(runner.serve([listener]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        runner.should_exit = True
        await serving
        raise


async def until_failure(serving: Awaitable[None], failures: Iterable[Awaitable[LlavaError | None]]) -> None:
    """Serve until that ends; when one of `failures` comes before, stop serving and raise the error that it gives, if it gives one."""
    front = asyncio.ensure_future(serving)
    watched = {asyncio.ensure_future(failure) for failure in failures}
    try:
        await asyncio.wait({front, *watched}, return_when=asyncio.FIRST_COMPLETED)
        ended = [each.result() for each in watched if each.done()]
        for error in filter(None, ended):
            raise error
        if not ended:
            await front
    finally:
        for task in (front, *watched):
            task.cancel()
        await asyncio.gather(front, *watched, return_exceptions=True)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, so that a taken port is one sentence instead of a traceback."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named: asyncio turns Nagle's algorithm off only then, and with it each small answer would wait 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise UserError(f"Cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}. Choose another --port.") from None
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # accepted connections inherit it: a peer that takes nothing any more is given up
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(2 * GRACE * 1000))
    listener.listen(2048)
    return listener


async def _http_error(request: Request, error: Exception) -> Response:
    """What the router refuses (no such path, no such method), in our shape."""
    status = getattr(error, "status_code", 500)
    said = {404: "There is no such path.", 405: "This path does not take that method."}.get(status, "The request is not accepted.")
    codes = {404: "not_found", 405: "method_not_allowed"}
    refusal = Refusal(status, said, code=codes.get(status), headers=getattr(error, "headers", None))
    return JSONResponse(refusal.body(), status, headers=dict(refusal.headers))
