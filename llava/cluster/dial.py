"""One call of another process: the objects of a worker's stream as they come, or a small answer.

Knows the frame of a stream and nothing of what stands in it. Redirects are not followed and the environment's proxies are not used, for
the cluster secret and people's images would go along. Nothing is decompressed, and what is read has a bound: the other end may be broken.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import AsyncGenerator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import httpx2

from llava.cluster.wire import MAX_EVENT, Splitter
from llava.deadlines import Deadlines
from llava.errors import EngineError, EngineTimeout, LlavaError, Misconfigured, Overloaded, Unavailable, UserError

# One spelling for all who read it: a host that another parser might take for another one does not fit.
_ADDRESS = re.compile(r"https?://(\[[0-9a-fA-F:.]{2,45}\]|[a-zA-Z0-9._-]{1,253})(:[0-9]{1,5})?/?")


def new_client(deadlines: Deadlines, headers: Mapping[str, str], idle: int = 64) -> httpx2.AsyncClient:
    """A pool of connections for the running event loop, which keeps so many `idle` ones. Its own clock is a net below `on_time`, which
    tells waiting from silence."""
    timeout = httpx2.Timeout(max(deadlines.first, deadlines.idle), connect=deadlines.connect, pool=deadlines.connect)
    headers = {"accept-encoding": "identity", **headers}
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=idle, keepalive_expiry=4.0)
    return httpx2.AsyncClient(
        headers=dict(headers), timeout=timeout, limits=limits, verify=certificates(), trust_env=False, follow_redirects=False
    )


@lru_cache
def certificates() -> ssl.SSLContext:
    """The authorities that this machine trusts; read once, for that takes long enough to be felt."""
    return ssl.create_default_context()


def worker_address(text: object) -> str:
    """`text` if it is what a worker's address looks like, `http://host:port`; raises `UserError`."""
    said = "A worker's address looks like http://host:40000."
    if not isinstance(text, str) or not _ADDRESS.fullmatch(text):
        raise UserError(said)
    try:
        port = urlsplit(text).port
    except ValueError:
        raise UserError(said) from None
    if port == 0:
        raise UserError(said)
    return text.rstrip("/")


async def dial(client: httpx2.AsyncClient, address: str, body: bytes) -> AsyncGenerator[bytes, None]:
    """The objects of one stream, without their NUL, each whole. `body` is the request's JSON.

    Raises `Unavailable` when the worker cannot be reached, `Overloaded` when it has no room, `EngineTimeout` when it falls silent and
    `EngineError` when the connection breaks, ends within an object or the worker answers with something else.
    """
    splitter, sent = Splitter(), False
    try:
        headers = {"content-type": "application/json"}
        async with client.stream("POST", f"{address}/worker_generate_stream", content=body, headers=headers) as response:
            if response.status_code != 200:
                raise _refused(response.status_code)
            async for data in response.aiter_raw():
                for item in splitter.add(data):
                    sent = True
                    yield item
    except httpx2.TimeoutException as error:
        if isinstance(error, httpx2.ConnectTimeout | httpx2.PoolTimeout):
            raise Unavailable("A worker cannot be reached.") from error
        raise EngineTimeout("A worker fell silent in the middle of its answer." if sent else "A worker did not answer in time.") from error
    except httpx2.ConnectError as error:
        raise Unavailable("A worker cannot be reached.") from error
    except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
        raise EngineError("The connection to a worker broke.") from error
    if not splitter.empty:
        raise EngineError("A worker's answer ended early.")


async def post(client: httpx2.AsyncClient, url: str, body: Mapping[str, Any] | None = None, seconds: float = 5.0) -> Any:
    """The JSON that a controller or worker answers; it has `seconds` to be reached, as many between any two bytes, and thrice in all.

    Raises `Unavailable`, `EngineTimeout`, `EngineError` or, when it does not know us, `Misconfigured`.
    """
    try:
        async with asyncio.timeout(3 * seconds):
            try:
                status, content = await _posted(client, url, body, seconds)
            except (httpx2.ReadError, httpx2.WriteError, httpx2.RemoteProtocolError):  # of a connection that was kept, and is closed by now
                status, content = await _posted(client, url, body, seconds)
    except (httpx2.HTTPError, TimeoutError) as error:
        if isinstance(error, TimeoutError | httpx2.ReadTimeout | httpx2.WriteTimeout):
            raise EngineTimeout(f"{_shown(url)} did not answer in time.") from error
        raise Unavailable(f"Nothing answers at {_shown(url)}: start it or check the address.") from error
    except httpx2.InvalidURL as error:
        raise Misconfigured("An address is no URL.") from error
    if status in (401, 403):
        raise Misconfigured(f"{_shown(url)} does not let this process in ({status}): set the same LLAVA_CLUSTER_SECRET for both.")
    if status != 200:
        raise EngineError(f"{_shown(url)} failed with status {status}.")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise EngineError(f"{_shown(url)} does not speak LLaVA's format.") from error


async def _posted(client: httpx2.AsyncClient, url: str, body: Mapping[str, Any] | None, seconds: float) -> tuple[int, bytearray]:
    content = bytearray()
    async with client.stream("POST", url, json=body or {}, timeout=seconds) as response:
        async for data in response.aiter_raw():
            content += data
            if len(content) > MAX_EVENT:
                raise EngineError("What answers sends more than any controller or worker would.")
        return response.status_code, content


def _refused(status: int) -> LlavaError:
    if status in (401, 403):
        return EngineError("A worker does not let this process in: set the same LLAVA_CLUSTER_SECRET everywhere.")
    if status == 429:
        return Overloaded("The workers have no room for one more call: try again later.")
    if status == 503:
        return Unavailable("A worker is shutting down, or still loads its model.")
    return (
        UserError("A worker does not accept calls of this size.")
        if status == 413
        else EngineError(f"A worker failed with status {status}.")
    )


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.split('@')[-1]}"
