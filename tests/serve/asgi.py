"""One request to an ASGI application without a socket, so that peers, headers and chunks can be anything."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message

Headers = Sequence[tuple[str, str]]


@dataclass
class Answer:
    """What came back, and how much of the body was asked for."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""
    chunks_read: int = 0

    @property
    def error(self) -> dict[str, Any]:
        return dict(json.loads(self.content)["error"])


def ask(
    app: ASGIApp, method: str, path: str, headers: Headers = (), chunks: Sequence[bytes] = (b"",), peer: str | None = "127.0.0.1"
) -> Answer:
    """Send one request from `peer`, its body in `chunks`."""
    answer = Answer()
    left = list(chunks)

    async def receive() -> Message:
        if not left:
            await asyncio.sleep(3600)
        answer.chunks_read += 1
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {key.decode(): value.decode() for key, value in message["headers"]}
        else:
            answer.content += message.get("body", b"")

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("latin-1"),
        "root_path": "",
        "query_string": b"",
        "headers": [(key.lower().encode(), value.encode("latin-1")) for key, value in headers],
        "client": (peer, 1234) if peer else None,
        "server": ("127.0.0.1", 80),
    }
    asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    return answer


def post(app: ASGIApp, path: str, value: object, headers: Headers = (), **options: Any) -> Answer:
    """Send `value` as JSON."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return ask(app, "POST", path, [("content-type", "application/json"), ("content-length", str(len(raw))), *headers], [raw], **options)
