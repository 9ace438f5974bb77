"""The openai engine's connections: leaving, closing, several event loops, proxies."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from llava.chat import Call, Chat, Reply
from llava.engines import connect, generate
from llava.errors import EngineClosed, UserError
from tests.factories import until
from tests.openai_server import OpenAIServer, error, openai_server

QUESTION = Call("answer", Chat.ask("What is this?"))


def test_leaving_early_closes_the_connection(server: OpenAIServer) -> None:
    server.behaviour.pieces = ["x"] * 1000
    server.behaviour.pause = 0.01

    async def main() -> None:
        engine = connect(server.url)
        stream = engine.stream(QUESTION)
        await anext(stream)
        await stream.aclose()
        await until(lambda: not server.streaming)
        await engine.close()

    asyncio.run(main())
    assert server.abandoned == 1


def test_one_engine_serves_several_event_loops_in_turn_and_many_calls_at_once(server: OpenAIServer) -> None:
    engine = connect(server.url)

    async def many() -> list[Reply]:
        return await asyncio.gather(*(generate(engine, QUESTION) for _ in range(20)))

    for _ in range(3):
        assert {reply.text for reply in asyncio.run(many())} == {"A cat on a mat."}
    asyncio.run(engine.close())
    assert len(server.requests) == 60


def test_a_closed_engine_refuses_and_ends_what_runs(server: OpenAIServer) -> None:
    server.behaviour.pause = 5

    async def main() -> None:
        engine = connect(server.url)
        running = asyncio.create_task(generate(engine, QUESTION))
        await until(lambda: server.streaming)
        await engine.close()
        with pytest.raises(EngineClosed):
            await running
        with pytest.raises(EngineClosed):
            await generate(engine, QUESTION)

    asyncio.run(main())


def test_closing_ends_a_call_that_waits_for_its_next_try(server: OpenAIServer) -> None:
    server.behaviour.fail = {-1: (429, error("no"))}
    server.behaviour.refusing = {"retry-after": "50"}

    async def main() -> None:
        engine = connect(server.url, model="tiny")
        running = asyncio.create_task(generate(engine, QUESTION))
        await until(lambda: server.requests)
        await asyncio.sleep(0.1)  # the refusal arrives
        await engine.close()
        done, _ = await asyncio.wait([running], timeout=20)
        assert done == {running}
        assert isinstance(running.exception(), EngineClosed)

    asyncio.run(main())
    assert len(server.requests) == 1


async def closed_during_a_call(
    server: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], come: asyncio.Event, **options: Any
) -> None:
    """An engine of that server is closed when its call has `come` so far, and the call ends with that."""
    async with await asyncio.start_server(server, "127.0.0.1") as listening:
        engine = connect(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1", **options)
        running = asyncio.create_task(generate(engine, QUESTION))
        await come.wait()
        await engine.close()
        with pytest.raises(EngineClosed):
            await asyncio.wait_for(running, 20)


def test_closing_ends_a_call_that_waits_for_the_first_byte() -> None:
    async def main() -> None:
        asked = asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            asked.set()
            await reader.read()  # until the other end has gone
            writer.close()

        await closed_during_a_call(silent, asked, model="tiny")

    asyncio.run(main())


def test_closing_ends_a_call_whose_refusal_is_being_explained() -> None:
    async def main() -> None:
        wondering = asyncio.Event()

        async def refusing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if (await reader.readline()).startswith(b"POST"):
                writer.write(b"HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            else:  # which models there are, for the sentence about the one that is not
                wondering.set()
                await reader.read()
            writer.close()

        await closed_during_a_call(refusing, wondering, model="none", retries=0)

    asyncio.run(main())


def test_closing_from_another_loop_closes_the_connections_of_a_running_one(server: OpenAIServer) -> None:
    engine = connect(server.url)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    assert asyncio.run_coroutine_threadsafe(generate(engine, QUESTION), loop).result().text == "A cat on a mat."
    server.behaviour.pause = 5
    running = asyncio.run_coroutine_threadsafe(generate(engine, QUESTION), loop)
    asyncio.run(until(lambda: len(server.requests) == 2 and server.streaming))
    asyncio.run(engine.close())
    with pytest.raises(EngineClosed):
        running.result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()  # a connection that were left open would warn here


def test_a_redirect_is_not_followed_and_no_second_host_sees_key_or_question(server: OpenAIServer) -> None:
    with openai_server() as other:
        server.behaviour.redirect = f"{other.url}/chat/completions"
        with pytest.raises(UserError, match=r"redirects to another address \(307\), which is not followed: give that address"):
            asyncio.run(generate(connect(server.url, api_key="secret"), QUESTION))
        assert (len(server.requests), other.requests) == (1, [])


def test_the_environments_proxy_is_not_asked_for_loopback(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert asyncio.run(generate(connect(server.url), QUESTION)).text == "A cat on a mat."
