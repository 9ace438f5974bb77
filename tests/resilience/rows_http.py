"""Row 36: bytes that are no HTTP, or HTTP at its edges, written to the socket as they are."""

from __future__ import annotations

import itertools
import random

from tests.resilience.matrix import row
from tests.resilience.play import MARK
from tests.resilience.stack import KEY, SECRET, Stack, beside
from tests.resilience.talk import CHAT, Answer, bearer, question, request, send
from tests.resilience.tally import Tally, expect

GOOD = request("POST", CHAT, question("?"), bearer(KEY))
HEAD, _, BODY = GOOD.partition(b"\r\n\r\n")
REFUSED = {0, 400, 401, 404, 405, 408, 411, 413, 415, 431, 501, 505}
FOLDED = "a folded header"  # the one that may be read, with a space in its place (RFC 9112, 5.2): then the request is a good one


def _with(*lines: bytes, body: bytes = BODY, start: bytes | None = None) -> bytes:
    """The good request with more header lines."""
    first, rest = HEAD.split(b"\r\n", 1)
    return (start or first) + b"\r\n" + rest + b"".join(b"\r\n" + line for line in lines) + b"\r\n\r\n" + body


def _without_length() -> bytes:
    return b"\r\n".join(line for line in HEAD.split(b"\r\n") if not line.startswith(b"content-length"))


def cases() -> dict[str, bytes]:
    """Name -> bytes; each must be refused or closed, and no byte of it may be taken for another request."""
    bare, start = _without_length(), b"POST /v1/chat/completions HTTP/1.1"
    hidden = b"GET /metrics HTTP/1.1\r\nhost: x\r\nauthorization: Bearer x\r\n\r\n"
    chunked = b"\r\ntransfer-encoding: chunked\r\n\r\n"
    found = {
        "a long boundary": _with(b"content-type: multipart/form-data; boundary=" + b"x" * 20_000),
        "a header of 64 KiB": _with(b"x-long: " + b"y" * 65_536),
        "a header of 1 MiB": _with(b"x-long: " + b"y" * 2**20),
        "1,000 headers": _with(*(b"x-%d: y" % number for number in range(1000))),
        "101 headers": _with(*(b"x-%d: y" % number for number in range(101))),
        "two lengths": _with(b"content-length: 3"),
        "a length and chunks": _with(b"transfer-encoding: chunked"),
        "a length and chunks, hidden request": bare + b"\r\ncontent-length: 4" + chunked + b"0\r\n\r\n" + hidden,
        "chunks twice": bare + b"\r\ntransfer-encoding: chunked" + chunked + b"0\r\n\r\n",
        "another coding": bare + b"\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "an obscured coding": bare + b"\r\ntransfer-encoding: xchunked\r\n\r\n" + BODY,
        "a bad chunk": bare + chunked + b"zz\r\n{}\r\n0\r\n\r\n",
        "a negative chunk": bare + chunked + b"-1\r\n{}\r\n0\r\n\r\n",
        "a huge chunk": bare + chunked + b"f" * 17 + b"\r\n{}\r\n0\r\n\r\n",
        "a chunk without its end": bare + chunked + b"2\r\n{}XX0\r\n\r\n",
        "a chunk with a long extension": bare + chunked + b"2;" + b"x" * 70_000 + b"\r\n{}\r\n0\r\n\r\n",
        "a negative length": bare + b"\r\ncontent-length: -5\r\n\r\n" + BODY,
        "a length that is no number": bare + b"\r\ncontent-length: 0x10\r\n\r\n" + BODY,
        "a length with a plus": bare + b"\r\ncontent-length: +5\r\n\r\n" + BODY,
        "a length of many digits": bare + b"\r\ncontent-length: " + b"9" * 40 + b"\r\n\r\n" + BODY,
        "no length": bare + b"\r\n\r\n",
        FOLDED: _with(b"x-a: b\r\n continued"),
        "a folded coding": _with(b"transfer-encoding:\r\n chunked", body=b"0\r\n\r\n" + hidden),
        "a folded length": _with(b"content-length:\r\n 3"),
        "a header without a colon": _with(b"nonsense"),
        "a space before the colon": _with(b"x-a : b"),
        "NUL in a header": _with(b"x-a: b\0c"),
        "a lone CR": _with(b"x-a: b\rc: d"),
        "only LF": GOOD.replace(b"\r\n", b"\n")[:40],
        "a bad method": _with(start=b"GET\x01 / HTTP/1.1"),
        "an unknown method": _with(start=start.replace(b"POST", b"BREW")),
        "a long method": _with(start=b"A" * 70_000 + b" / HTTP/1.1"),
        "CONNECT": b"CONNECT 127.0.0.1:80 HTTP/1.1\r\nhost: x\r\n\r\n",
        "a bad version": _with(start=start.replace(b"1.1", b"9.9")),
        "a version that is none": _with(start=start.replace(b"HTTP/1.1", b"HTTQ/1.1")),
        "no version": b"GET /health\r\n\r\n",
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        "a long target": _with(start=b"POST /" + b"x" * 70_000 + b" HTTP/1.1"),
        "spaces in the target": _with(start=b"POST /v1/chat completions HTTP/1.1"),
        "an absolute target": _with(start=b"POST http://evil.example/v1/chat/completionsx HTTP/1.1"),
        "an upgrade": b"GET /v1/chat/completions HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        "h2c": b"GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n"
        b"http2-settings: AAMAAABkAAQAAP__\r\n\r\n",
        "two types": _with(b"content-type: application/json"),
        "expect": _with(b"expect: 200-maybe", b"content-encoding: br"),
        "zeros": bytes(100_000),
        "nothing": b"",
        "a line": b"\r\n" * 5000,
    }
    chance = random.Random(5)
    return found | {f"random bytes {number}": chance.randbytes(chance.randrange(1, 2000)) + b"\r\n\r\n" for number in range(20)}


@row(
    36,
    "raw HTTP: long lines, many headers, two lengths, length and chunks, bad chunks, methods, versions, pipelining",
    "a 4xx, 505 or a close; never another's request",
)
async def raw_http(stack: Stack, tally: Tally) -> None:
    ports, rounds = (stack.gateway.port, stack.controller.port, stack.workers[0].port), stack.many(5, 1)
    works = itertools.product(range(rounds), ports, stack.share(cases().items()))
    await beside(64, (_refused(tally, port, name, data) for _, port, (name, data) in works))
    for _ in range(rounds):
        await _pipelined(stack, tally)


async def _refused(tally: Tally, port: int, name: str, data: bytes) -> None:
    with tally.trial(name):
        answer = await send(port, data + (b"" if data.endswith(b"\r\n\r\n") else b"\r\n\r\n"), 60)  # a body has 30 s to come
        fine = name == FOLDED and answer.status == 200
        expect(fine or answer.status in REFUSED, f"status {answer.status}")
        expect(answer.raw.count(b"HTTP/1.1 200") == fine, "a hidden request was answered")
        for word in (MARK, KEY, SECRET, "Traceback", "/llava/"):
            expect(word.encode() not in answer.raw, f"{word} in the answer")


async def _pipelined(stack: Stack, tally: Tally) -> None:
    """Two requests in one go get two answers in their order; what follows a refused one is not read as a request."""
    alive = GOOD.replace(b"connection: close", b"connection: keep-alive")
    with tally.trial("two requests in one go"):
        answer = await send(stack.gateway.port, alive + GOOD)
        expect(answer.raw.count(b"HTTP/1.1 200") == 2, f"{answer.raw.count(b'HTTP/1.1 200')} answers")
    with tally.trial("a request behind a refused one"):
        large = alive.replace(b"content-length: ", b"content-length: 99999999\r\nx-was: ", 1)
        answer = await send(stack.gateway.port, large + GOOD)
        expect(answer.status in (0, 413) and answer.raw.count(b"HTTP/1.1 ") <= 1, "the body was taken for a request")
    with tally.trial("a request in two halves"):
        answer = Answer((await send(stack.gateway.port, GOOD)).raw)
        expect(answer.status == 200, "it is not answered")
