"""Who may ask: decided from peer, path and headers, before the body, and the same for every spelling."""

import asyncio
import json
import socket
import struct

import httpx2
import pytest
from fastapi import FastAPI, Request
from starlette.types import Message, Receive, Scope, Send

from llava.errors import UserError
from llava.serve.app import listen, new_app, server
from llava.serve.limits import body
from llava.serve.security import OPEN, Gate, Keys, Right, Rules, closed_to_others
from tests.serve.asgi import ask, post
from tests.serve.cluster import listening, until

USER, ADMIN = "user-key-1", "admin-key-1"
KEYS = Keys([(USER, Right.INFERENCE), (ADMIN, Right.ADMIN)])


def application(rules: Rules) -> FastAPI:
    app = new_app(rules)

    @app.get("/health")
    @app.get("/ready")
    @app.get("/metrics")
    def fine() -> dict[str, str]:
        return {"said": "fine"}

    @app.post("/echo")
    def echo(request: Request) -> dict[str, object]:
        return body(request)

    return app


GUARDED = application(Rules(KEYS, admin=frozenset({"/metrics"})))
KEYLESS = application(Rules(Keys(), fix="Set LLAVA_CLUSTER_SECRET."))


def bearer(key: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {key}")]


def test_with_a_key_every_path_and_method_is_closed_but_two() -> None:
    assert len(OPEN) == 2
    for path in ("/health", "/ready", "/metrics", "/echo", "/", "/nothing", "/docs", "/openapi.json"):
        for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"):
            refused = ask(GUARDED, method, path).status == 401
            assert refused is (path not in OPEN), (method, path)


@pytest.mark.parametrize(
    "path",
    ["//health", "/health/", "/health%2f..", "/HEALTH", "/health/../echo", "/ready;/echo", "http://x/health", "health", "/health\x00", ""],
)
def test_another_spelling_of_an_open_path_is_closed(path: str) -> None:
    assert ask(GUARDED, "GET", path).status == 401


@pytest.mark.parametrize(
    "headers",
    [
        [],
        bearer(""),
        bearer("user-key"),
        bearer(USER + "x"),
        bearer("x" * 10_000),
        bearer("schlüssel"),
        [("authorization", USER)],
        [("authorization", f"Basic {USER}")],
        [*bearer(USER), *bearer(USER)],
        [*bearer("wrong"), *bearer(USER)],
        [("x-api-key", USER)],
        [("host", "localhost"), ("x-forwarded-for", "127.0.0.1"), ("x-http-method-override", "GET"), ("x-original-url", "/health")],
    ],
    ids=range(12),
)
def test_every_wrong_key_gets_the_same_401_before_the_body_is_read(headers: list[tuple[str, str]]) -> None:
    answer = ask(GUARDED, "POST", "/echo", [*headers, ("content-length", "1")], [b"{", b"}"])
    assert answer.status == 401
    assert answer.chunks_read == 0
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.error == {
        "message": "A valid key is needed: send Authorization: Bearer <key>.",
        "type": "authentication_error",
        "param": None,
        "code": "invalid_api_key",
    }


def test_a_key_has_rights() -> None:
    assert post(GUARDED, "/echo", {"a": 1}, bearer(USER)).content == b'{"a":1}'
    assert post(GUARDED, "/echo", {"a": 1}, [("authorization", f"bearer  {ADMIN}")]).status == 200
    assert ask(GUARDED, "GET", "/metrics", bearer(USER)).error["code"] == "admin_only"
    assert ask(GUARDED, "GET", "/metrics", bearer(USER)).status == 403
    assert ask(GUARDED, "GET", "/metrics", bearer(ADMIN)).status == 200


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.8.7", "::1", "::ffff:127.0.0.1"])
def test_without_a_key_this_machine_is_served(peer: str) -> None:
    assert post(KEYLESS, "/echo", {}, [("host", "localhost:80")], peer=peer).status == 200


@pytest.mark.parametrize("peer", ["10.0.0.7", "192.168.1.2", "::ffff:10.0.0.1", "fe80::1%eth0", "8.8.8.8", "localhost.evil.example", ""])
def test_without_a_key_nobody_else_is_served_and_the_fix_is_named(peer: str) -> None:
    for path in ("/echo", "/health"):
        answer = post(KEYLESS, path, {}, peer=peer or "0.0.0.0")
        assert answer.status == 403
        assert answer.error["code"] == "loopback_only"
        assert "Set LLAVA_CLUSTER_SECRET." in answer.error["message"]


@pytest.mark.parametrize(
    "header",
    [
        ("host", "evil.example"),
        ("host", "evil.example:10000"),
        ("host", "[::"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("x-forwarded-for", "10.0.0.7"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=10.0.0.7"),
        ("via", "1.1 proxy"),
    ],
)
def test_a_web_page_or_a_proxy_on_this_machine_is_not_this_machine(header: tuple[str, str]) -> None:
    assert post(KEYLESS, "/echo", {}, [header]).status == 403


def test_a_connection_that_was_reset_before_it_was_accepted_is_nobodys() -> None:
    """Its peer has no address any more, but what it sent can still be read: from elsewhere it would pass for this machine."""
    peers: list[object] = []

    async def main() -> None:
        async def told(scope: Scope, receive: Receive, send: Send) -> None:
            peers.append(scope["client"])
            await Gate(reached, Rules(Keys()))(scope, receive, send)

        async def reached(scope: Scope, receive: Receive, send: Send) -> None:
            peers.append("let in")

        with listen("127.0.0.1", 0) as listener:
            with socket.create_connection(listener.getsockname()) as connection:
                connection.sendall(b"POST /register_worker HTTP/1.1\r\nhost: localhost\r\n\r\n")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close with a reset
            runner = server(told, lifespan="off")
            runner.config.load()
            runner.lifespan = runner.config.lifespan_class(runner.config)
            await runner.startup([listener])
            await until(lambda: peers)
            await runner.shutdown()

    asyncio.run(main())
    assert peers == [None]
    assert post(KEYLESS, "/echo", {}, peer=None).status == 403


@pytest.mark.parametrize("rules", [Rules(KEYS), Rules(Keys()), Rules(Keys(), anonymous=True)])
def test_nothing_but_http_is_let_in(rules: Rules) -> None:
    reached: list[str] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope["type"])

    async def main() -> list[Message]:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "websocket.connect"}

        for kind in ("websocket", "http3.trick", "lifespan"):
            scope: Scope = {"type": kind, "path": "/health", "headers": [], "client": ("127.0.0.1", 1)}
            await Gate(inner, rules)(scope, receive, send)
        return sent

    assert asyncio.run(main()) == [{"type": "websocket.close", "code": 1008}]
    assert reached == ["lifespan"]


def test_one_key_has_only_so_many_requests_at_work_and_others_are_not_kept_waiting() -> None:
    async def main() -> None:
        hold, entered = asyncio.Event(), list[str]()
        app = new_app(Rules(KEYS, together=2))

        @app.post("/work")
        async def work() -> None:
            entered.append("x")
            await hold.wait()

        @app.get("/look")
        async def look() -> None:
            pass

        async with listening(app) as url, httpx2.AsyncClient(trust_env=False) as client:

            async def ask(path: str, key: str, method: str = "POST") -> httpx2.Response:
                return await client.request(method, url + path, headers={"authorization": f"Bearer {key}"})

            for _ in range(2):  # the places come back
                hold.clear()
                entered.clear()
                working = [asyncio.create_task(ask("/work", USER)) for _ in range(2)]
                await until(lambda: len(entered) == 2)
                refused = await ask("/work", USER)
                assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
                assert refused.json()["error"]["code"] == "too_many_requests"
                assert (await ask("/look", USER, "GET")).status_code == 200
                assert (await ask("/work", "wrong-key")).status_code == 401
                other = asyncio.create_task(ask("/work", ADMIN))
                await until(lambda: len(entered) == 3)
                hold.set()
                assert [(await task).status_code for task in (*working, other)] == [200] * 3

    asyncio.run(main())


def test_everyone_is_served_only_when_asked_for() -> None:
    assert post(application(Rules(Keys(), anonymous=True)), "/echo", {}, [("host", "x.example")], peer="10.0.0.7").status == 200
    with pytest.raises(UserError, match="leave it out, or --api-key"):
        Rules(KEYS, anonymous=True)


def test_no_answer_allows_another_origin() -> None:
    for origin in ("null", "https://evil.example", "http://localhost:1"):
        answer = post(GUARDED, "/echo", {}, [*bearer(USER), ("origin", origin)])
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_the_operator_of_an_open_port_without_a_secret_is_told_the_fix() -> None:
    assert "set LLAVA_CLUSTER_SECRET" in str(closed_to_others("0.0.0.0", Keys()))
    assert closed_to_others("0.0.0.0", KEYS) is None
    assert closed_to_others("localhost", Keys()) is None


def test_an_error_of_the_server_says_nothing_but_its_id(caplog: pytest.LogCaptureFixture) -> None:
    app = new_app(Rules(Keys()))

    @app.post("/breaks")
    def breaks(request: Request) -> None:
        raise ValueError(f"secret words: {body(request)}")

    answer = post(app, "/breaks", {"text": "secret words"})
    assert answer.status == 500
    assert "secret" not in answer.content.decode() + caplog.text
    assert answer.headers["x-request-id"] in caplog.text
    assert "ValueError at" in caplog.text
    assert json.loads(answer.content)["error"]["type"] == "api_error"
