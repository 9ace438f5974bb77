"""Calls of other processes: what is read has a bound in size and time, and an address has one spelling."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from llava.cluster.dial import dial, new_client, post, worker_address
from llava.cluster.wire import MAX_EVENT
from llava.deadlines import Deadlines
from llava.errors import EngineError, EngineTimeout, LlavaError, Misconfigured, Unavailable, UserError
from tests.serve.cluster import listening, raw_server

PIECE = b"x" * 2**20


async def with_client(app: Any, ask: Callable[[Any, str], Awaitable[Any]]) -> Any:
    async with listening(app) as url, new_client(Deadlines(), {}) as client:
        return await ask(client, url)


async def posted(client: Any, url: str) -> Any:
    return await post(client, f"{url}/list_models", seconds=5)


async def dialled(client: Any, url: str) -> list[bytes]:
    return [item async for item in dial(client, url, b"{}")]


@pytest.mark.parametrize(
    ("app", "kind"),
    [
        (raw_server(*[PIECE] * (MAX_EVENT // 2**20 + 1)), EngineError),
        (raw_server(b"[" * 200_000), EngineError),
        (raw_server(b"<html>"), EngineError),
        (raw_server(b"{}", status=401), Misconfigured),
        (raw_server(b"{}", status=403), Misconfigured),
        (raw_server(b"{}", status=500), EngineError),
        (raw_server(b"{}", cut=True), Unavailable),
    ],
    ids=["endless", "deep", "a page", "401", "403", "500", "cut"],
)
def test_whatever_answers_a_question_it_is_an_error_of_ours_and_soon(app: Any, kind: type[LlavaError]) -> None:
    with pytest.raises(LlavaError) as caught:
        asyncio.run(with_client(app, posted))
    assert type(caught.value) is kind


def test_an_answer_a_byte_at_a_time_has_an_end() -> None:
    async def ask(client: Any, url: str) -> Any:
        return await post(client, url, seconds=0.3)

    for dribble in (raw_server(*[b" "] * 1000, pause=0.02), raw_server(b"{}", pause=5)):
        with pytest.raises(EngineTimeout, match="did not answer in time"):
            asyncio.run(with_client(dribble, ask))


def test_nothing_is_decompressed() -> None:
    seen: list[bytes] = []

    async def bomb(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend(value for name, value in scope["headers"] if name == b"accept-encoding")
        headers = [(b"content-encoding", b"gzip")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": gzip.compress(b'{"models": ["x"]}\0' * 1_000_000, 1)})

    with pytest.raises(EngineError):
        asyncio.run(with_client(bomb, posted))
    with pytest.raises(EngineError):  # small and compressed: no object's end, or no object
        asyncio.run(with_client(bomb, dialled))
    assert seen == [b"identity"] * 2


@pytest.mark.parametrize(
    "address",
    ["http://localhost:40000", "https://worker-1.example_net:1", "http://127.0.0.1", "http://[::1]:8000/", "HTTP://x:1", "http://x:65535"],
)
def test_an_address_is_taken_as_it_is(address: str) -> None:
    if address.startswith("HTTP"):
        with pytest.raises(UserError):
            worker_address(address)
    else:
        assert worker_address(address) == address.rstrip("/")


@pytest.mark.parametrize(
    "address",
    [
        "http://[::1]evil.example:80",
        "http://127.0.0.1%2f.evil.example:1",
        "http://127.0.0.1;evil.example:1",
        "http://127.0.0.1:80:90",
        "http://[::1%25eth0]:1",
        "http://127.0.0.1:1\n",
        "http://127.0.0.1:１",
        "http://127.0.0.1:0",
        "http://127.0.0.1:65536",
        "http://127.0.0.1//",
        "http://a,b:1",
        "http:///x",
        "http://" + "a" * 254,
    ],
)
def test_an_address_that_another_parser_could_read_otherwise_is_none(address: str) -> None:
    with pytest.raises(UserError):
        worker_address(address)


def test_of_many_questions_at_once_few_connections_stay_idle() -> None:
    async def main() -> int:
        async with listening(raw_server(b"{}")) as url, new_client(Deadlines(), {}, idle=3) as client:
            await asyncio.gather(*(posted(client, url) for _ in range(12)))
            pool: Any = client._transport
            return len(pool._pool.connections)

    assert asyncio.run(main()) == 3
