"""One OpenAI-compatible server over HTTP: JSON out, JSON events in, and the one place where a request is repeated.

Knows no call and nothing of what is asked. Redirects are not followed, for key and images would go along; what is read has a bound.
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from functools import lru_cache
from typing import Any, NamedTuple

import httpx2

from llava import __version__
from llava.engines.loops import PerLoop
from llava.engines.openai.address import host_and_port, is_loopback, unreachable
from llava.engines.openai.events import MAX_EVENT, Events
from llava.engines.openai.pause import pause
from llava.errors import EngineError, EngineTimeout, Misconfigured, Unavailable, UserError

LONGEST_PAUSE = 60.0  # seconds; a server that wants a longer one is not waited for
MAX_ANSWER = 4 * MAX_EVENT  # bytes of all events of an answer: some ten times those of 4,096 tokens with 20 alternatives each
LEFT_OVER = 0.1  # seconds for what follows the end of an answer: a connection that is read to its end can be used again
MAX_REFUSAL = 64 * 1024  # bytes of a refusal that are read
_PASSING = (408, 409, 429, 500, 502, 503)  # not 504: what took too long once would take as long again


class Refused(Exception):
    """The server's no. `message` is all of its body and may quote the prompt; the rest is what OpenAI's error object says, if there is one.

    `repeated`: whether the request was sent more than once.
    """

    def __init__(self, status_code: int, body: bytes, headers: httpx2.Headers) -> None:
        super().__init__(f"status {status_code}")
        self.status_code = status_code
        self.repeated = False
        self.pause = pause(headers)
        self.wish = headers.get("x-should-retry")  # "true" or "false" where the server says whether to ask again
        try:
            told = json.loads(body)
        except (ValueError, RecursionError):
            told = body.decode("utf-8", "replace")
        self.message = str(told)
        error = told.get("error", told) if isinstance(told, dict) else None
        detail = error if isinstance(error, dict) else {}
        self.code, self.type, self.param = detail.get("code"), detail.get("type"), detail.get("param")


class Connections(NamedTuple):
    """Of one event loop: its client, and what is set when it closes."""

    client: httpx2.AsyncClient
    closing: asyncio.Event

    async def close(self) -> None:
        """End what is under way, and what waits for its next try."""
        self.closing.set()
        await self.client.aclose()


class Server:
    """The server at `base_url`. Seconds: `timeout` without a byte, `connect_timeout` to connect.

    A request that no byte has answered yet is repeated up to `retries` times where that may help: the connection could not be made or was
    lost, or the server says that it cannot just now (408, 409, 429, 5xx), after the pause that it asks for, else with back-off.
    A silent server is not asked again: it may well be at work on the first request.
    """

    def __init__(self, base_url: str, *, key: str, timeout: float, connect_timeout: float, retries: int) -> None:
        if not (key.isascii() and key.isprintable()):
            raise UserError("The key for the server (api_key or OPENAI_API_KEY) holds a line break or a letter that no key has.")
        self.address = host_and_port(base_url)
        self._base_url = base_url.rstrip("/")
        self._key = key
        self._seconds = timeout
        self._timeout = httpx2.Timeout(timeout, connect=connect_timeout)
        self._retries = retries
        self._connections = PerLoop(lambda: Connections(self._new_client(), asyncio.Event()), Connections.close)

    async def models(self) -> list[str]:
        """The names that it lists; raises what `chat` raises."""
        content = bytearray()
        async with aclosing(await self._sent("GET", "/models")) as response:
            try:
                async for piece in response.aiter_bytes():
                    content += piece
                    if len(content) > MAX_EVENT:
                        raise EngineError(f"The server at {self.address} lists models without an end.")
                return [str(row["id"]) for row in json.loads(content)["data"]]
            except (httpx2.HTTPError, httpx2.StreamError) as error:
                raise self._failure(error) from error
            except (ValueError, LookupError, TypeError, RecursionError) as error:
                raise Misconfigured(
                    f"What answers at {self.address} is no OpenAI-compatible API: its address usually ends in /v1."
                ) from error

    async def chat(self, body: bytes) -> httpx2.Response:
        """Its answer, for `chunks`, after it has said yes; the caller closes it.

        Raises `Refused`, `Unavailable` where nobody is there, `EngineTimeout`, and `EngineError` for a connection that breaks.
        """
        return await self._sent("POST", "/chat/completions", body)

    async def chunks(self, response: httpx2.Response) -> AsyncGenerator[Any, None]:
        """The JSON of each event up to `[DONE]` or the end; raises `EngineError` and `EngineTimeout`."""
        failed = f"The server at {self.address} failed in the middle of its answer or does not speak OpenAI's format."
        events, read = Events(), 0
        try:
            async with aclosing(response.aiter_bytes()) as pieces:
                async for piece in pieces:
                    read += len(piece)
                    if read > MAX_ANSWER:
                        raise EngineError(f"The server at {self.address} sends an answer without an end.")
                    for data in events.add(piece):
                        if data.startswith(b"[DONE]"):
                            await _read_on(pieces)
                            return
                        chunk = json.loads(data)
                        if isinstance(chunk, dict) and chunk.get("error"):
                            raise EngineError(failed)
                        yield chunk
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise self._failure(error) from error
        except (ValueError, RecursionError) as error:
            raise EngineError(failed) from error

    async def close(self) -> None:
        """Close the connections. May be called from any event loop."""
        await self._connections.close()

    def _new_client(self) -> httpx2.AsyncClient:
        headers = {"authorization": f"Bearer {self._key}", "accept": "application/json", "user-agent": f"llava/{__version__}"}
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=100)
        trusted = not is_loopback(self._base_url)  # this machine is never behind the environment's proxy
        return httpx2.AsyncClient(
            headers=headers, timeout=self._timeout, limits=limits, verify=_certificates(), trust_env=trusted, follow_redirects=False
        )

    async def _sent(self, method: str, path: str, body: bytes | None = None) -> httpx2.Response:
        taken = 0
        while True:
            try:
                return await self._send(method, path, body)
            except Refused as refused:
                refused.repeated = taken > 0
                if taken >= self._retries or not _may_pass(refused):
                    raise
                seconds = refused.pause
            except (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL) as error:
                late = isinstance(error, httpx2.TimeoutException) and not isinstance(error, httpx2.ConnectTimeout | httpx2.PoolTimeout)
                if taken >= self._retries or late or not isinstance(error, httpx2.TransportError):
                    failure = self._failure(error)
                    failure.tried_again = taken > 0
                    raise failure from error
                seconds = None
            await self._pause(min(0.5 * 2**taken, 8.0) * random.uniform(0.75, 1.0) if seconds is None else seconds)
            taken += 1

    async def _pause(self, seconds: float) -> None:
        """So long, or until the connections are closed: the next try says that they are."""
        connections = await self._connections.get()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await connections.closing.wait()

    async def _send(self, method: str, path: str, body: bytes | None) -> httpx2.Response:
        client = (await self._connections.get()).client
        headers = None if body is None else {"content-type": "application/json"}
        response = await client.send(client.build_request(method, self._base_url + path, content=body, headers=headers), stream=True)
        if response.is_success:
            return response
        async with aclosing(response):
            said = bytearray()
            async for piece in response.aiter_bytes():
                said += piece
                if len(said) > MAX_REFUSAL:
                    break
            raise Refused(response.status_code, bytes(said[:MAX_REFUSAL]), response.headers)

    def _failure(self, error: Exception) -> EngineError:
        if isinstance(error, httpx2.ConnectTimeout | httpx2.PoolTimeout) or unreachable(error):
            return Unavailable(f"No server answers at {self.address}: start it or check the address.")
        if isinstance(error, httpx2.TimeoutException):
            return EngineTimeout(f"The server at {self.address} did not answer in time ({self._seconds:g} s without a byte).")
        return EngineError(f"The connection to the server at {self.address} broke.")


@lru_cache
def _certificates() -> ssl.SSLContext:
    return httpx2.create_ssl_context()  # reading them takes long enough to be felt


def _may_pass(refused: Refused) -> bool:
    """Whether the same request may be taken a little later."""
    if refused.pause is not None and refused.pause > LONGEST_PAUSE:
        return False
    if refused.wish in ("true", "false"):
        return refused.wish == "true"
    return refused.status_code in _PASSING or refused.status_code > 504


async def _read_on(pieces: AsyncGenerator[bytes, None]) -> None:
    try:
        async with asyncio.timeout(LEFT_OVER):
            async for _ in pieces:
                pass
    except (TimeoutError, httpx2.HTTPError, httpx2.StreamError):
        pass  # the answer is whole; this connection is not used again
