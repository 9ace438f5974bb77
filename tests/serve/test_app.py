"""The way out: a good-bye, the drain, and no waiting for one who is told twice. And no waiting for one who takes nothing,
or has left."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from llava.serve.app import Leave, listen, new_app, server
from llava.serve.security import Keys, Rules
from tests.loopback import on_loopback


async def shut_down(leave: Leave, *signals: int) -> None:
    runner = server(new_app(Rules(Keys())), leave=leave, port=0, lifespan="off")
    running = asyncio.create_task(runner.serve())
    while not runner.started:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    for number in signals:
        runner.handle_exit(number, None)
        await asyncio.sleep(0.3)
    async with asyncio.timeout(20):
        await running


def test_a_farewell_that_fails_keeps_nobody_from_draining(caplog: pytest.LogCaptureFixture) -> None:
    async def leave() -> None:
        raise RuntimeError("the words of somebody")

    asyncio.run(shut_down(leave, signal.SIGTERM))
    assert "no good-bye was said: RuntimeError" in caplog.text
    assert "somebody" not in caplog.text


def test_a_second_order_ends_a_farewell_that_hangs() -> None:
    ended: list[str] = []

    async def leave() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("cancelled")

    asyncio.run(shut_down(leave, signal.SIGTERM, signal.SIGTERM))
    assert ended == ["cancelled"]


def test_a_server_that_is_told_to_stop_as_it_starts_says_farewell_and_lets_its_listener_go() -> None:
    left: list[bool] = []

    async def leave() -> None:
        left.append(True)

    with listen("127.0.0.1", 0) as listener:
        runner = server(new_app(Rules(Keys())), leave=leave)
        runner.should_exit = True  # uvicorn before 0.41 went away then, and left everything open
        asyncio.run(runner.serve([listener]))
        assert (listener.fileno(), left) == (-1, [True])


@pytest.mark.parametrize("turns", range(6))
def test_a_client_that_comes_as_the_server_stops_is_not_left_waiting(turns: int) -> None:
    async def main() -> None:
        with listen("127.0.0.1", 0) as listener:
            runner = server(new_app(Rules(Keys())), lifespan="off")
            runner.config.load()
            runner.lifespan = runner.config.lifespan_class(runner.config)
            await runner.startup([listener])
            with socket.create_connection(listener.getsockname()) as client:  # let in some turns of the loop later
                client.setblocking(False)
                for _ in range(turns):
                    await asyncio.sleep(0)
                await runner.shutdown([listener])
                async with asyncio.timeout(5):
                    assert await asyncio.get_running_loop().sock_recv(client, 1) == b""

    with suppress(ConnectionResetError):  # it was not yet let in
        asyncio.run(main())


LARGE = 32 * 2**20  # bytes: more than the sockets' buffers


@asynccontextmanager
async def answering(served: list[str]) -> AsyncIterator[tuple[ServerState, int]]:
    """A server whose every answer is large, and written at once; notes the paths that it is asked for."""
    app = new_app(Rules(Keys()))

    @app.get("/{path}")
    async def large(path: str) -> Response:
        served.append(path)
        return Response(bytes(LARGE))

    with listen("127.0.0.1", 0) as listener:
        runner = server(app, lifespan="off")
        running = asyncio.create_task(runner.serve([listener]))
        try:
            yield runner.server_state, listener.getsockname()[1]
        finally:
            runner.should_exit = True
            await running


async def asked(port: int, *paths: str) -> socket.socket:
    """A client with small buffers that has asked for all of them, and reads nothing."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
    heads = "".join(f"GET /{path} HTTP/1.1\r\nhost: localhost\r\n\r\n" for path in paths)
    await asyncio.get_running_loop().sock_sendall(client, heads.encode())
    return client


def test_a_client_that_takes_nothing_of_a_whole_answer_is_let_go_and_so_is_what_it_asked_for_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llava.serve.app.STALL_SECONDS", 0.2)
    served: list[str] = []

    async def main() -> None:
        async with answering(served) as (state, port), asyncio.timeout(10):
            client = await asked(port, "one", "two")
            while len(served) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert state.tasks  # the second answer waits behind the first one
            while state.tasks or state.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            client.close()

    asyncio.run(main())


def test_a_client_that_takes_a_whole_answer_slowly_gets_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llava.serve.app.STALL_SECONDS", 0.5)

    async def main() -> None:
        async with answering([]) as (_, port), asyncio.timeout(30):
            client, loop, got, rest = await asked(port, "one"), asyncio.get_running_loop(), 0, 0.0
            while got < LARGE:
                part = await loop.sock_recv(client, 2**20)
                assert part
                got += len(part)
                if got >= rest:
                    await asyncio.sleep(0.02)
                    rest += LARGE / 40  # so that all of it takes longer than a client may take nothing
            client.close()

    asyncio.run(main())


@pytest.mark.parametrize("after", [b"", b"\r\n", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"], ids=["nothing", "a line", "a request"])
@pytest.mark.parametrize("wish", [b"", b"connection: upgrade\r\nupgrade: h2c\r\n"], ids=["", "upgrade"])
def test_a_client_that_leaves_is_noticed_whatever_it_sent_after_its_request(after: bytes, wish: bytes) -> None:
    asked, left = threading.Event(), threading.Event()

    async def waiting(_: Scope, receive: Receive, __: Send) -> None:
        await receive()
        asked.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    with on_loopback(server(waiting, grace=1, lifespan="off")) as port:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n" + wish + b"\r\n")
            assert asked.wait(20)
            client.sendall(after)
        assert left.wait(20)
