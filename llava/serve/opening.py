"""A server's port while its model is not there yet: it answers at once that the process lives and cannot work.

    with opened(listener, rules, caps):
        engine = connect(...)                     # minutes, perhaps

Who asks for something else than `/health` gets a 503 `model_loading` in OpenAI's shape; a server whose clients speak another form says how.

It answers on a thread of its own, so that the model is loaded on the main one, where Ctrl-C ends it at once. A connection ends with its
answer; whoever was accepted here is answered here, and the next one by the server that follows at the same port. Knows no model.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator, Mapping
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
CLOSE = {"connection": "close"}  # for every answer
NOT_YET = "The model is still being loaded: try again in a moment."
LATER = {"retry-after": str(AGAIN), **CLOSE}
_HEALTH = {"/health": Response(headers=CLOSE)}
_TICK = 0.02  # seconds
_PATIENCE = 1.0  # seconds, at the end, for who is connected and has not asked yet


@contextmanager
def opened(listener: socket.socket, rules: Rules, caps: Caps | None = None, forms: Mapping[str, Response] = _HEALTH) -> Iterator[None]:
    """Answer at `listener`, to those whom `rules` let in, until the block ends. The listener stays open.

    `forms`: what paths with an answer of their own say; `/health` is one of them.
    """

    async def leave() -> None:
        await runner.accept_no_more()  # who connects from now on waits for the next server
        end = time.monotonic() + _PATIENCE
        while runner.server_state.connections and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(_TICK)

    runner = server(_not_yet(rules, caps, forms), grace=_PATIENCE, leave=leave)
    thread = threading.Thread(target=runner.run, args=([listener.dup()],), name="llava-opening", daemon=True)
    thread.start()
    try:
        yield
    finally:
        while thread.is_alive() and not runner.started:  # it does not look whether it is to stop before it has begun
            time.sleep(_TICK)
        runner.should_exit = True
        thread.join()


def _not_yet(rules: Rules, caps: Caps | None, forms: Mapping[str, Response]) -> FastAPI:
    return new_app(rules, caps, inner=[Middleware(_NotYet, forms=forms)])


class _NotYet:
    """ASGI layer that answers everything."""

    def __init__(self, app: ASGIApp, forms: Mapping[str, Response]) -> None:
        self._app = app
        self._forms = forms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"] in self._forms:
            await self._forms[scope["path"]](scope, receive, send)
        else:
            raise Refusal(503, NOT_YET, code=LOADING, headers=LATER)
