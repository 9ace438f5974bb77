"""A streamed HTTP answer whose source ends when its reader does. Knows bytes, and nothing of what they say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")


class Stream(Response):
    """Sends the pieces of `source`, an async generator, as they come.

    When the client leaves, or is let go because it takes nothing (`app.STALL_SECONDS`), the source is closed at once, wherever it is.
    An error before the first piece is answered with `failed(error)`; a later one breaks the connection off, for an end would look like
    success.
    """

    def __init__(
        self, source: AsyncGenerator[bytes, None], failed: Callable[[Exception], Response], *, media_type: str | None = None
    ) -> None:
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        self.body = b""
        self.init_headers()
        del self.headers["content-length"]
        self._source = source
        self._failed = failed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.ensure_future(self._send(scope, receive, send))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.wait({sending, leaving})
        if not sending.cancelled():
            sending.result()

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._source) as pieces:
            try:
                piece = await anext(pieces, None)
            except Exception as error:  # noqa: BLE001 - `failed` is the one place that tells what an error looks like
                await self._failed(error)(scope, receive, send)
                return
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while piece is not None:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                piece = await anext(pieces, None)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def beating(source: AsyncGenerator[T, None], every: float) -> AsyncGenerator[T | None, None]:
    """The items of `source`, and None whenever none has come for `every` seconds. Closes `source`."""
    pending: asyncio.Future[T] | None = None
    try:
        while True:
            pending = pending or asyncio.ensure_future(anext(source))
            await asyncio.wait({pending}, timeout=every)
            if not pending.done():
                yield None
                continue
            done, pending = pending, None
            try:
                item = done.result()
            except StopAsyncIteration:
                return
            yield item
    finally:
        if pending is not None:
            pending.cancel()
            await asyncio.gather(pending, return_exceptions=True)
        await source.aclose()
