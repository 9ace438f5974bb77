"""How a server says no when it has no time left."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from pathlib import Path

import httpx2
from starlette.types import Message

from llava.serve.app import new_app
from llava.serve.security import Keys, Rules
from tests.loopback import free_port
from tests.serve.gateway.running import chat, until
from tests.serve.processes import module, process, until_ready


def test_who_is_still_waiting_when_the_server_ends_is_told() -> None:
    app = new_app(Rules(Keys()))
    sent: list[Message] = []

    @app.post("/waits")
    async def waits() -> None:
        await asyncio.sleep(3600)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    async def main() -> None:
        scope = {"type": "http", "method": "POST", "path": "/waits", "headers": [], "client": ("127.0.0.1", 1), "query_string": b""}
        asking = asyncio.ensure_future(app(scope, receive, send))
        await asyncio.sleep(0.05)
        asking.cancel()
        await asking

    asyncio.run(main())
    assert sent[0]["status"] == 503
    assert json.loads(sent[1]["body"])["error"]["code"] == "shutting_down"


def test_told_twice_a_server_ends_at_once_and_shows_no_crash(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    words = ["--engine", "scripted:" + "word " * 1000, "--engine-option", "delay=1", "--port", str(port), "--max-per-key", "0"]
    with process(module("serve.api_server", *words), log) as running:
        until_ready(f"http://127.0.0.1:{port}/ready", running)
        with socket.create_connection(("127.0.0.1", port)) as waiting:
            body = json.dumps(chat() | {"model": "scripted"}).encode()
            head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json"
            waiting.sendall(f"{head}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
            until(lambda: "running 1" in httpx2.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text)
            running.send_signal(signal.SIGTERM)
            until(lambda: not listens(port))
            running.send_signal(signal.SIGTERM)
            assert running.wait(60) == 0
    assert "Traceback" not in log.read_text(encoding="utf-8")


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True
