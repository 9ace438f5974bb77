"""What may be asked: every cap at its limit and one beyond."""

import asyncio
import json
import threading
from contextlib import suppress

import httpx2
import pytest
from fastapi import Request
from starlette.types import Receive, Scope, Send

from llava.serve import limits
from llava.serve.app import new_app
from llava.serve.limits import Caps, body, parse
from llava.serve.refusal import Refusal
from llava.serve.security import Keys, Rules
from tests.serve.asgi import ask, post
from tests.serve.cluster import listening, until

CAPS = Caps(body=100, body_seconds=0.05, headers=10, header_bytes=300, depth=3, values=20, digits=5)
APP = new_app(Rules(Keys()), CAPS)
JSON = ("content-type", "application/json")


@APP.post("/echo")
def echo(request: Request) -> dict[str, object]:
    return body(request)


def sized(length: int) -> bytes:
    return b'{"a": "' + b"x" * (length - 9) + b'"}'


def test_a_body_at_the_cap_is_read_and_one_byte_more_is_not() -> None:
    assert post(APP, "/echo", sized(100)).status == 200
    answer = post(APP, "/echo", sized(101))
    assert (answer.status, answer.error["code"], answer.chunks_read) == (413, "body_too_large", 0)
    assert answer.headers["connection"] == "close"


def test_a_chunked_body_is_cut_at_the_cap() -> None:
    headers = [JSON, ("transfer-encoding", "chunked")]
    assert ask(APP, "POST", "/echo", headers, [sized(100)[:50], sized(100)[50:]]).status == 200
    answer = ask(APP, "POST", "/echo", headers, [b"x" * 60] * 1000)
    assert (answer.status, answer.chunks_read) == (413, 2)


def test_a_length_that_lies_or_is_no_number_is_refused() -> None:
    for length in ("-1", "1e9", "", "9" * 30, "+5"):
        assert ask(APP, "POST", "/echo", [JSON, ("content-length", length)], [b"{}"]).status == 413


def test_all_bodies_together_have_a_bound_and_give_back_what_they_held() -> None:
    app = new_app(Rules(Keys()), Caps(body=100, together=150))
    hold, entered = asyncio.Event(), list[str]()

    @app.post("/work")
    async def work() -> None:
        entered.append("x")
        await hold.wait()

    async def main() -> None:
        async with listening(app) as url, httpx2.AsyncClient(trust_env=False) as client:

            async def ask(size: int) -> int:
                headers = {"content-type": "application/json"}
                return (await client.post(f"{url}/work", content=sized(size), headers=headers)).status_code

            for _ in range(2):
                hold.clear()
                entered.clear()
                first = asyncio.create_task(ask(100))
                await until(lambda: len(entered) == 1)
                assert await ask(51) == 429
                second = asyncio.create_task(ask(50))
                await until(lambda: len(entered) == 2)
                hold.set()
                assert (await first, await second) == (200, 200)

    asyncio.run(main())


def test_a_body_that_does_not_arrive_in_time_is_given_up() -> None:
    app = new_app(Rules(Keys()), CAPS)
    waiting = [JSON, ("content-length", "5")]

    async def slow() -> None:
        async def never() -> dict[str, object]:
            await asyncio.sleep(3600)
            return {}

        sent: list[dict[str, object]] = []

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        headers = [(key.encode(), value.encode()) for key, value in waiting]
        scope = {"type": "http", "method": "POST", "path": "/echo", "headers": headers, "client": ("127.0.0.1", 1), "query_string": b""}
        await app(scope, never, send)  # type: ignore[arg-type]
        assert sent[0]["status"] == 408

    asyncio.run(slow())


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "application/jsonx"]
)
def test_only_json_is_taken(kind: str | None) -> None:
    headers = [("content-length", "2"), *([("content-type", kind)] if kind else [])]
    answer = ask(APP, "POST", "/echo", headers, [b"{}"])
    assert (answer.status, answer.chunks_read) == (415, 0)


def test_compressed_bodies_and_two_content_types_are_refused() -> None:
    assert post(APP, "/echo", {}, [("content-encoding", "gzip")]).status == 415
    assert post(APP, "/echo", {}, [JSON]).status == 415
    assert post(APP, "/echo", {}, [("content-encoding", "identity")]).status == 200
    assert ask(APP, "POST", "/echo", [("content-type", "Application/JSON; charset=utf-8"), ("content-length", "2")], [b"{}"]).status == 200


@pytest.mark.parametrize(("version", "status"), [("1.0", 200), ("1.1", 200), ("9.9", 505), ("0.9", 505)])
def test_versions_that_http_does_not_have_are_refused(version: str, status: int) -> None:
    async def spoken(scope: Scope, receive: Receive, send: Send) -> None:
        await APP({**scope, "http_version": version}, receive, send)

    assert post(spoken, "/echo", {}).status == status


def test_headers_have_a_number_and_a_size() -> None:
    assert post(APP, "/echo", {}, [(f"x-{i}", "") for i in range(8)]).status == 200
    assert post(APP, "/echo", {}, [(f"x-{i}", "") for i in range(9)]).status == 431
    assert post(APP, "/echo", {}, [("x", "y" * 300)]).status == 431


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"not json",
        b"[]",
        b'"text"',
        b"null",
        b"\xff\xfe{}",
        b'{"a": 1, "a": 2}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": 123456}',
        b'{"a": "\\ud800"}',
        b'{"\\uDFFF": 1}',
        b'{"a": [[[]]]}',
        b"[" * 90,
        b'{"a": [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}',
        b"{} {}",
    ],
    ids=range(17),
)
def test_what_is_no_plain_json_object_is_refused(raw: bytes) -> None:
    answer = post(APP, "/echo", raw)
    assert answer.status == 400
    assert answer.error["code"] == "invalid_json"
    assert answer.error["type"] == "invalid_request_error"


def test_a_value_at_the_limits_is_taken() -> None:
    for value in ({"a": [[1, 12345, -1234, 1.5]]}, {"emoji": "😀", "zwj": "\u200d", "nul": "\x00"}):
        assert post(APP, "/echo", value).content == json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def test_a_deep_body_of_the_largest_size_is_refused_without_a_stack_overflow() -> None:
    for raw in (b"[" * 400_000, b'{"a":' * 200_000, b"[" * 400_000 + b"]" * 400_000, b'{"a": ' + b"9" * 10_000_000 + b"}"):
        with pytest.raises(Refusal):
            parse(raw)


def test_a_large_body_is_parsed_beside_the_event_loop_and_refused_in_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []

    def watched(raw: bytes, caps: Caps) -> object:
        threads.append(threading.current_thread().name)
        return parse(raw, caps)

    monkeypatch.setattr(limits, "parse", watched)
    app = new_app(Rules(Keys()))

    @app.post("/length")
    async def length(request: Request) -> int:
        return len(body(request)["a"])

    for size in (limits.SMALL, limits.SMALL + 1):
        assert post(app, "/length", sized(size)).content == str(size - 9).encode()
    assert post(app, "/length", b'{"a": ' + b"[" * limits.SMALL).error["code"] == "invalid_json"
    few = b",".join([b"0"] * (limits.FEW - 1))  # with the brackets so many marks
    for many in (few, few + b",0"):
        assert post(app, "/length", b'{"a": [' + many + b"]}").content == str(many.count(b"0")).encode()
    assert ["MainThread" in name for name in threads] == [True, False, False, True, False]


def test_a_path_or_method_that_does_not_exist_is_said_in_our_shape() -> None:
    assert ask(APP, "GET", "/nothing").error["code"] == "not_found"
    assert ask(APP, "GET", "/echo").error["code"] == "method_not_allowed"
    assert ask(APP, "GET", "/echo").headers["allow"] == "POST"
    assert post(APP, "/echo/", {}).status == 404


def test_who_connects_and_says_nothing_or_a_byte_at_a_time_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llava.serve.app.HEAD_SECONDS", 0.2)

    async def main() -> None:
        async with listening(APP) as url:
            host, port = url.removeprefix("http://").split(":")
            pairs = [await asyncio.open_connection(host, int(port)) for _ in range(3)]
            (quiet, _), (dripping, drip), (fine, speaker) = pairs
            speaker.write(b"GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert (await fine.readline()).startswith(b"HTTP/1.1 404")
            assert await quiet.read() == b""
            drip.write(b"GET / HTTP/1.1\r\nx: ")
            async with asyncio.timeout(5):
                while not (dripping.at_eof() or dripping.exception()):
                    drip.write(b"y")
                    await asyncio.sleep(0.02)
            speaker.write(b"GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n")  # one that finished a request is not meant
            assert b"404" in await fine.readuntil(b"HTTP/1.1 404")
            for _, writer in pairs:
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()

    asyncio.run(main())
