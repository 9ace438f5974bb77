"""One call of an engine, and the ways in which a server fails it."""

import asyncio

import pytest

from llava.chat import Call, Chat, Reply
from llava.engines import connect, generate
from llava.engines.base import Engine
from llava.errors import LlavaError
from tests.openai_server import OpenAIServer, error

SECRET = "a-question-nobody-may-log"


def ask(question: str = SECRET, **options: int) -> Call:
    return Call("answer", Chat.ask(question), **options)  # type: ignore[arg-type]


def run(engine: Engine, call: Call) -> Reply:
    async def main() -> Reply:
        try:
            return await generate(engine, call)
        finally:
            await engine.close()

    return asyncio.run(main())


def failure(server: OpenAIServer, status: int, body: dict[str, object] | None = None, **options: object) -> LlavaError:
    server.behaviour.fail = {-1: (status, body if body is not None else error(f"bad thing about {SECRET}"))}
    with pytest.raises(LlavaError) as caught:
        run(connect(server.url, **{"retries": 0, **options}), ask())
    assert SECRET not in str(caught.value)
    return caught.value
