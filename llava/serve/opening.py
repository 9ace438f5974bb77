"""A server's port while its model is not there yet: it answers at once that the process lives and cannot work.

    with opened(listener, rules, caps):
        engine = connect(...)                     # minutes, perhaps

It answers on a thread of its own, so that the model is loaded on the main one, where Ctrl-C ends it at once. A connection ends with its
answer; whoever was accepted here is answered here, and the next one by the server that follows at the same port. Knows no model.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from llava.serve.app import new_app, server
from llava.serve.limits import Caps
from llava.serve.refusal import Refusal
from llava.serve.security import Rules

LOADING = "model_loading"  # the error's code
AGAIN = 5  # seconds after which a client may ask again
_CLOSE = {"connection": "close"}
_TICK = 0.02  # seconds
_PATIENCE = 1.0  # seconds, at the end, for who is connected and has not asked yet


@contextmanager
def opened(listener: socket.socket, rules: Rules, caps: Caps | None = None) -> Iterator[None]:
    """Answer at `listener`, to those whom `rules` let in, until the block ends. The listener stays open."""

    async def leave() -> None:
        for each in runner.servers:
            each.close()  # who connects from now on waits for the next server
        quiet, end = 0, time.monotonic() + _PATIENCE
        while quiet < 3 and time.monotonic() < end:  # more than once: between being accepted and being known lie a few turns of the loop
            await asyncio.sleep(_TICK)
            quiet = 0 if runner.server_state.connections else quiet + 1

    runner = server(_not_yet(rules, caps), grace=_PATIENCE, leave=leave)
    thread = threading.Thread(target=runner.run, args=([listener.dup()],), name="llava-opening", daemon=True)
    thread.start()
    try:
        yield
    finally:
        while thread.is_alive() and not runner.started:  # it does not look whether it is to stop before it has begun
            time.sleep(_TICK)
        runner.should_exit = True
        thread.join()


def _not_yet(rules: Rules, caps: Caps | None) -> FastAPI:
    app = new_app(rules, caps, inner=[Middleware(_NotYet)])

    @app.get("/health")
    async def health() -> Response:
        return Response(headers=_CLOSE)

    return app


class _NotYet:
    """ASGI layer that lets only the question pass whether the process lives."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/health":
            said = "The model is still being loaded: try again in a moment."
            raise Refusal(503, said, code=LOADING, headers={"retry-after": str(AGAIN), **_CLOSE})
        await self._app(scope, receive, send)
