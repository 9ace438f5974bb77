"""Clients of a benchmark: plain HTTP/1.1 over sockets, so that they cost next to nothing beside what they measure.

They keep their connections, read every byte to the end that the server declared, and note when the first and the last one came.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from llava.errors import EngineError

HOST = "127.0.0.1"
PATIENCE = 900.0  # seconds for one answer: a benchmark that hangs must end


@dataclass(frozen=True, slots=True)
class Got:
    """One whole answer: `first` and `seconds` are those from the request to the first and the last byte of its content."""

    status: int
    headers: dict[str, str]
    content: bytes
    first: float
    seconds: float

    def json(self) -> Any:
        """The content as JSON; raises `ValueError`."""
        return json.loads(self.content)


class Client:
    """One connection to `port` of this machine; `async with`."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Client:
        self._reader, self._writer = await asyncio.open_connection(HOST, self._port, limit=2**20)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._writer.close()

    async def post(self, path: str, body: bytes) -> Got:
        """The answer to a POST of JSON; raises `EngineError` when it breaks off."""
        begin = time.perf_counter()
        head = f"POST {path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        try:
            async with asyncio.timeout(PATIENCE):
                self._writer.write(head.encode() + body)
                return await self._read(begin)
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            raise EngineError("An answer broke off.") from error

    async def _read(self, begin: float) -> Got:
        start, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        pieces, first = [], 0.0
        if "content-length" in headers:
            left = int(headers["content-length"])
            while left:
                pieces.append(piece := await self._reader.read(min(left, 2**20)))
                first = first or time.perf_counter() - begin
                left -= len(piece)
                if not piece:
                    raise EOFError
        else:
            while size := int(await self._reader.readline(), 16):  # chunked
                pieces.append((await self._reader.readexactly(size + 2))[:-2])
                first = first or time.perf_counter() - begin
            await self._reader.readline()
        return Got(int(start.split()[1]), headers, b"".join(pieces), first, time.perf_counter() - begin)


@dataclass(frozen=True, slots=True)
class Load:
    """What many clients got: an answer or None (it broke off) for each request, in order; `spans`: from when to when each was at work, in
    seconds after the first one began; the seconds of all together."""

    answers: list[Got | None]
    spans: list[tuple[float, float]]
    seconds: float

    def steady(self, clients: int, turns: int = 1) -> tuple[float, float]:
        """When all clients, who took `turns` requests each time, were at work: from when each has had its first answer until the last
        request is sent. All of the time where the requests are too few for that, and fewer answers than clients came meanwhile."""
        first = max(end for _, end in self.spans[: clients * turns : turns])
        last = max(begin for begin, _ in self.spans)
        enough = sum(first < end <= last for _, end in self.spans) >= clients
        return (first, last) if enough else (0.0, self.seconds)


async def drive(port: int, path: str, bodies: Sequence[bytes], clients: int, spread: float = 0.0, turns: int = 1) -> Load:
    """`clients` connections, each of which asks its next request as soon as it has its answer, until all `bodies` were sent.

    Whoever is free takes the next `turns` of them, which nobody else asks, in order. They begin one after another within `spread` seconds.
    """
    found: list[Got | None] = [None] * len(bodies)
    spans = [(0.0, 0.0)] * len(bodies)
    waiting = iter(range(0, len(bodies), turns))

    async def one(number: int) -> None:
        await asyncio.sleep(spread * number / clients)
        connection = None
        for index, body in ((index, bodies[index]) for begun in waiting for index in range(begun, min(begun + turns, len(bodies)))):
            sent = time.perf_counter() - begin
            try:
                connection = connection or await Client(port).__aenter__()
                found[index] = await connection.post(path, body)
            except (OSError, EngineError):
                if connection is not None:
                    await connection.__aexit__(None, None, None)
                connection = None
            spans[index] = sent, time.perf_counter() - begin
        if connection is not None:
            await connection.__aexit__(None, None, None)

    begin = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(min(clients, -(-len(bodies) // turns))):
            group.create_task(one(number))
    return Load(found, spans, time.perf_counter() - begin)


def streamed_text(content: bytes) -> str:
    """The text of a streamed chat completion, every byte of which is accounted for; raises `ValueError` for anything out of place."""
    *events, done, end = content.split(b"\n\n")
    if (done, end) != (b"data: [DONE]", b"") or not all(event.startswith(b"data: {") for event in events):
        raise ValueError("this is no whole stream of events")
    choices = [choice for event in events for choice in json.loads(event[6:])["choices"]]
    ends = [choice["finish_reason"] for choice in choices]
    if ends[:-1].count(None) != len(ends) - 1 or ends[-1] != "stop":
        raise ValueError("the answer does not end where its stream does")
    return "".join(choice["delta"].get("content") or "" for choice in choices)
