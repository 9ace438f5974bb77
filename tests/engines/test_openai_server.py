"""What the openai engine does when a server does not answer as it should: which requests are repeated, when, and how often in all."""

import asyncio
import email.utils
import json
import socket
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llava.engines import connect, generate
from llava.engines.openai.events import MAX_EVENT, Events
from llava.engines.openai.pause import pause
from llava.errors import EngineError, EngineTimeout, Overloaded, Unavailable
from tests.engines.asking import ask, failure, run
from tests.openai_server import OpenAIServer, error
from tests.serve.gateway.running import chat, gateway, turn

STREAM = (
    b': a comment\n\nevent: message\r\ndata: {"a": 1}\r\n\r\nid: 7\ndata:{"b":\ndata: 2}\n\n\n\n'
    + 'data: {"c": "\u2028\x85\x0b"}\n\n'.encode()
    + b"data: [DONE]\n\n"
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_events_are_whole_wherever_the_bytes_are_cut(cuts: list[int]) -> None:
    events, found = Events(), []
    for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(STREAM)], strict=True):
        found += events.add(STREAM[begin:end])
    assert found[-1] == b"[DONE]"
    assert [json.loads(data, strict=False) for data in found[:-1]] == [{"a": 1}, {"b": 2}, {"c": "\u2028\x85\x0b"}]


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 2**20, b"data: " + b"x" * 2**20 + b"\n"], ids=["a line", "lines"])
def test_an_event_without_an_end_is_given_up(piece: bytes) -> None:
    events = Events()
    with pytest.raises(EngineError, match="without an end"):
        [events.add(piece) for _ in range(MAX_EVENT // 2**20 + 1)]


def test_lines_of_nothing_are_an_event_without_an_end_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llava.engines.openai.events.MAX_EVENT", 1000)
    events = Events()
    with pytest.raises(EngineError, match="without an end"):
        [events.add(b"data:\n") for _ in range(201)]
    assert [len(Events().add(b": still here\n" * 10_000 + b"data: 1\n\n" * 500)) for _ in range(2)] == [500, 500]


def test_an_answer_without_an_end_is_given_up(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llava.engines.openai.server.MAX_ANSWER", 10_000)
    server.behaviour.pieces = ["word "] * 10
    assert run(connect(server.url), ask()).text == "word " * 10
    server.behaviour.pieces = ["word "] * 1000
    with pytest.raises(EngineError, match="an answer without an end"):
        run(connect(server.url), ask())


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-1"}, 0),
        ({"retry-after": "1e999"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Mon, 01 Jan 99999999999999999 00:00:00 GMT"}, None),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "7"}, 7),
        ({"retry-after": "Sat, 01 Jan 2000 00:00:00 GMT"}, 0),
    ],
)
def test_a_pause_has_many_spellings(headers: dict[str, str], seconds: float | None) -> None:
    assert pause(headers) == seconds


def test_a_pause_may_be_a_date() -> None:
    found = pause({"retry-after": email.utils.formatdate(time.time() + 3600, usegmt=True)})
    assert found is not None
    assert found > 0


REPEATED: list[tuple[int, dict[str, str], int, type[EngineError]]] = [
    (500, {"retry-after": "0"}, 3, EngineError),
    (503, {"retry-after-ms": "1"}, 3, Overloaded),
    (429, {"retry-after": "0.001"}, 3, Overloaded),
    (429, {"retry-after": "3600"}, 1, Overloaded),
    (503, {"x-should-retry": "false"}, 1, Overloaded),
    (501, {"retry-after": "0"}, 1, EngineError),
    (501, {"x-should-retry": "true", "retry-after": "0"}, 3, EngineError),
    (408, {"retry-after": "0"}, 3, EngineTimeout),
    (504, {"retry-after": "0"}, 1, EngineTimeout),
]


@pytest.mark.parametrize(("status", "headers", "times", "kind"), REPEATED)
def test_what_may_pass_is_asked_again_when_the_server_likes_it(
    server: OpenAIServer, status: int, headers: dict[str, str], times: int, kind: type[EngineError]
) -> None:
    server.behaviour.refusing = headers
    found = failure(server, status, retries=2)
    assert isinstance(found, EngineError)
    assert (type(found), len(server.requests), found.tried_again) == (kind, times, times > 1)


def test_a_silent_server_is_not_asked_twice(server: OpenAIServer) -> None:
    server.behaviour.pause = 30
    with pytest.raises(EngineTimeout):
        run(connect(server.url, timeout=0.2, retries=2), ask())
    assert len(server.requests) == 1


def test_where_nobody_is_there_one_more_look_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unavailable) as caught:
        run(connect(f"http://127.0.0.1:{port}/v1", model="tiny", retries=1), ask())
    assert caught.value.tried_again


def test_a_connection_is_used_again(server: OpenAIServer) -> None:
    async def main() -> None:
        engine = connect(server.url, model="tiny")
        for _ in range(3):
            await generate(engine, ask())
        await engine.close()

    asyncio.run(main())
    assert len(set(server.peers)) == 1


@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", chat(turn(images=0))), ("/v1/moderations", {"input": "x"})])
def test_behind_a_gateway_a_request_is_repeated_by_the_engine_and_by_nobody_else(
    server: OpenAIServer, path: str, body: dict[str, Any]
) -> None:
    server.behaviour.fail = {-1: (500, error("no"))}
    engine = connect(server.url, model="tiny", retries=2)
    with gateway(engine) as running:
        status, _ = running.post(path, body)
    asyncio.run(engine.close())
    assert (status, len(server.requests)) == (502 if "chat" in path else 503, 3)


@pytest.mark.parametrize(
    ("told", "handed_on"), [({"retry-after": "90.2"}, "91"), ({"retry-after": "1000000"}, "3600"), ({"x-should-retry": "false"}, "1")]
)
@pytest.mark.parametrize(("failing", "status"), [(0, 429), (1, 503)], ids=["answer", "check"])
def test_a_gateway_hands_on_how_long_the_server_wants_to_be_left_alone(
    server: OpenAIServer, told: dict[str, str], handed_on: str, failing: int, status: int
) -> None:
    server.behaviour.refusing = told
    server.behaviour.fail = {failing: (429, error("no"))}
    engine = connect(server.url, model="tiny")
    with gateway(engine) as running:
        got, headers, _ = running.ask("POST", "/v1/chat/completions", chat(turn(images=0)))
    asyncio.run(engine.close())
    assert (got, headers["retry-after"]) == (status, handed_on)


def test_an_answer_that_breaks_off_is_asked_for_once_more_by_the_gateway_alone(server: OpenAIServer) -> None:
    server.behaviour.break_after = 1
    engine = connect(server.url, model="tiny", retries=2)
    with gateway(engine) as running:
        status, _ = running.post("/v1/chat/completions", chat(turn(images=0)))
    asyncio.run(engine.close())
    assert (status, len(server.requests)) == (502, 2)
