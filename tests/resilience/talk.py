"""Requests as bytes, answers as bytes, over one socket each; and what every answer must be, whatever was asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.resilience.play import MARK, TOLD
from tests.resilience.tally import expect
from tests.serve.gateway.running import data_url

TYPES = {
    "invalid_request_error": {400, 404, 405, 408, 413, 415, 431},
    "authentication_error": {401},
    "permission_error": {403},
    "rate_limit_error": {429},
    "api_error": {500},
    "upstream_error": {502, 504},
    "overloaded_error": {503},
    "guard_unavailable": {503},
}
CHAT = "/v1/chat/completions"
DOT = data_url(size=(2, 2))
DONE = b"data: [DONE]\n\n"


@dataclass
class Answer:
    """All bytes of one connection, and how they read."""

    raw: bytes
    seconds: float = 0.0

    @property
    def status(self) -> int:
        """0 where nothing came."""
        words = self.raw[:64].split()
        return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0

    @property
    def headers(self) -> dict[str, str]:
        lines = self.raw.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}

    @property
    def body(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[2]

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """The error's code."""
        try:
            error = self.json()["error"]
        except (ValueError, KeyError, TypeError):
            return None
        return str(error["code"])

    @property
    def whole(self) -> bool:
        """Whether all came that its head promises."""
        fields = self.headers
        if fields.get("transfer-encoding") == "chunked":
            return self.raw.endswith(b"0\r\n\r\n")
        return fields.get("content-length") == str(len(self.body))

    @property
    def streamed(self) -> bool:
        """Whether it is a stream of events."""
        return self.headers.get("content-type", "").startswith("text/event-stream")

    @property
    def said(self) -> list[tuple[str, str]]:
        """Text and `finish_reason` of each choice, of a whole answer or of a stream; raises for anything else."""
        found: dict[int, list[str]] = {}
        for choice in self._choices():
            part = choice["delta"] if self.streamed else choice["message"]
            said = found.setdefault(choice["index"], ["", ""])
            said[0] += part.get("content") or ""
            said[1] = choice["finish_reason"] or said[1]
        return [(text, reason) for _, (text, reason) in sorted(found.items())]

    def _choices(self) -> list[dict[str, Any]]:
        if not self.streamed:
            return list(self.json()["choices"])
        expect(self.body.endswith(DONE), "a stream without its end")
        events = self.body.decode().removesuffix(DONE.decode()).split("\n\n")
        return [choice for event in events if event for choice in json.loads(event.removeprefix("data: "))["choices"]]

    @property
    def text(self) -> str:
        """What is released, a line for each choice; raises for anything but an answer."""
        return "\n".join(text for text, _ in self.said)


def bearer(key: str) -> dict[str, str]:
    """The header of a key."""
    return {"authorization": f"Bearer {key}"}


def request(method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> bytes:
    """A request's bytes; `body` is bytes or becomes JSON."""
    sent = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"host": "127.0.0.1", "connection": "close", "content-length": str(len(sent)), **(headers or {})}
    if body is not None:
        fields.setdefault("content-type", "application/json")
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("utf-8", "surrogateescape") + sent


async def send(port: int, data: bytes, seconds: float = 120.0) -> Answer:
    """Write `data`, read to the end of the connection; raises `TimeoutError`."""
    begin = asyncio.get_running_loop().time()
    async with asyncio.timeout(seconds):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
        parts: list[bytes] = []
        try:
            writing = asyncio.ensure_future(_written(writer, data))
            while part := await _read(reader):
                parts.append(part)
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
        finally:
            writer.transport.abort()
    return Answer(b"".join(parts), asyncio.get_running_loop().time() - begin)


async def _written(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(2**16)
    except ConnectionError:  # the server had enough of what we sent, and closed
        return b""


async def ask(port: int, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Answer:
    """One request on a connection of its own."""
    return await send(port, request(method, path, body, headers))


async def get(port: int, path: str, headers: Mapping[str, str] | None = None) -> Answer:
    """One GET."""
    return await ask(port, "GET", path, None, headers)


def question(text: str = "What is this?", *images: str, **more: Any) -> dict[str, Any]:
    """A chat request's body. It has a picture, for without one there is nothing to describe (the step `caption`)."""
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in images or (DOT,)]
    return {"model": "tiny", "messages": [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}], **more}


def check_said(answer: Answer, *said: tuple[str, str]) -> None:
    """An answer says exactly this, a choice each; an error says nothing. Raises `Lost`."""
    if answer.status == 200:
        expect(answer.said == list(said), f"it said {answer.said}")


def check_answer(answer: Answer, statuses: set[int], codes: set[str] | None = None) -> None:
    """What holds of every answer of the gateway: it is whole, its status, its id, the shape of its error; no part of a mark, no trace.
    Raises `Lost`."""
    expect(answer.status in statuses, f"status {answer.status} ({answer.code}) instead of {sorted(statuses)}")
    expect(answer.whole, "an answer that was cut off")
    expect(MARK[:4].encode() not in answer.raw, "text that was not cleared")
    expect(TOLD[:4].encode() not in answer.raw, "an error's own text")
    for trace in (b"Traceback", b"/llava/", b"0x7f", b"site-packages"):
        expect(trace not in answer.raw, f"the answer tells of the inside ({trace.decode()})")
    if answer.status < 400:
        expect(answer.body.endswith(DONE) if answer.streamed else answer.json(), "neither an object nor a stream with its end")
        return
    error = answer.json()["error"]
    expect(set(error) == {"message", "type", "param", "code"}, "an error of another shape")
    expect(answer.status in TYPES.get(error["type"], set()), f"the type {error['type']} with {answer.status}")
    expect("x-request-id" in answer.headers, "no request id")
    expect(answer.status not in (429, 503) or "retry-after" in answer.headers, "no retry-after")
    if codes is not None:
        expect(error["code"] in codes, f"code {error['code']} instead of {sorted(codes)}")
