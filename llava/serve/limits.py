"""What may be asked: JSON only (bytes where an application says so), of bounded size, depth and number of values, within a bounded time.

`Limits` is an ASGI layer inside `security.Gate`: it reads the whole body under `Caps`, parses it strictly, once, and hands it on; an
endpoint takes it with `body(request)`. What is over a cap is refused before the rest is read. Knows no route and no field.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llava.serve.refusal import Refusal

Take = Callable[[int], None]

MIB = 2**20
CLUSTER_BODY = 256 * MIB  # bytes of one call of a worker: as many pixels as it takes, as PNG files, in base64
# Of a body that is read where it arrives: bytes, and marks on which a parser stops. It takes less time than a thread to be woken; a larger
# one would hold up everybody else.
SMALL, FEW = 256 * 1024, 1000


@dataclass(frozen=True, slots=True)
class Caps:
    """Bounds of one request: bytes, counts, seconds; `together`: bytes of all bodies that are read or being answered.

    Of these one visitor may hold as many as are left free: alone half of them, and less the more others hold, so that there is always
    room for whoever comes next.
    """

    body: int = 20 * MIB
    together: int = 2048 * MIB
    body_seconds: float = 30.0
    headers: int = 100
    header_bytes: int = 32 * 1024
    depth: int = 32  # lists and objects inside each other
    values: int = 500_000  # commas and brackets, also in texts; a parser's time goes by them
    digits: int = 400  # of one number


class Limits:
    """ASGI layer: the parsed body is in `scope["state"]["json"]`, None where the request has none, and its `size` beside it. Paths in `raw`
    take bytes of any kind, at most so many, which are in `scope["state"]["raw"]`."""

    def __init__(self, app: ASGIApp, caps: Caps | None = None, raw: Mapping[str, int] | None = None) -> None:
        self._app = app
        self._caps = caps or Caps()
        self._raw = {path: replace(self._caps, body=most) for path, most in (raw or {}).items()}
        self._held, self._parts = 0, Counter[str | None]()  # bytes: of all, of each visitor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        with self._share(state.get("visitor")) as take:
            try:
                is_raw = scope["path"] in self._raw
                caps = self._raw.get(scope["path"], self._caps)
                _check_headers(scope, caps, _BYTES if is_raw else _JSON)
                try:
                    async with asyncio.timeout(caps.body_seconds):
                        raw = await _read(receive, caps, take)
                except TimeoutError:
                    raise Refusal(408, "The body did not arrive in time.", code="timeout", headers=_CLOSE) from None
                if raw is None:
                    return  # the client has left
                small = _is_small(raw)
                found = await _parsed(raw, caps, small) if raw and not is_raw else None
                state.update(json=found, small=small, raw=raw if is_raw else b"", size=len(raw))
            except Refusal as refusal:
                await refusal.send(send)
                return
            await self._app(scope, _replay(raw, receive), send)

    @contextmanager
    def _share(self, visitor: str | None) -> Iterator[Take]:
        """Counts what one request holds, for as long as it lasts; taking more than all, or its visitor, may hold raises `Refusal` (429)."""
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            free = self._caps.together - self._held - size
            if free < 0:
                raise _full("All bodies together are too large just now: try again in a moment.")
            if visitor is not None and self._parts[visitor] + size > free:
                raise _full("All bodies from here together are too large just now: try again when one has its answer.")
            taken += size
            self._held += size
            self._parts[visitor] += size

        try:
            yield take
        finally:
            self._held -= taken
            self._parts[visitor] -= taken
            if not self._parts[visitor]:
                del self._parts[visitor]


def body(request: Request) -> dict[str, Any]:
    """The request's JSON object; raises `Refusal` when there is none."""
    value = request.scope.get("state", {}).get("json")
    if not isinstance(value, dict):
        raise Refusal(400, "The body must be a JSON object.", code="invalid_json")
    return value


def is_small(request: Request) -> bool:
    """Whether to read the body takes so little time that no thread is worth it."""
    return bool(request.scope.get("state", {}).get("small"))


def raw_body(request: Request) -> bytes:
    """The request's bytes, at a path that takes bytes."""
    sent: bytes = request.scope.get("state", {}).get("raw", b"")
    return sent


def parse(raw: bytes, caps: Caps | None = None) -> Any:
    """Strict JSON: UTF-8, no key twice, no NaN, no lone surrogate, bounded depth and numbers. Raises `Refusal`."""
    caps = caps or Caps()
    if sum(raw.count(mark) for mark in _VALUES) > caps.values:
        raise _invalid("it has too many values")

    def number(text: str) -> int | float:
        if len(text) > caps.digits:
            raise _invalid("a number has too many digits")
        return int(text) if text.lstrip("-").isdigit() else _finite(float(text))

    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant, parse_int=number, parse_float=number)
    except RecursionError:
        raise _invalid("it is nested too deeply") from None
    except ValueError:  # of the decoder or of UTF-8; their texts quote the body
        raise _invalid("it cannot be parsed") from None
    _check_tree(value, caps.depth, surrogates=b"\\ud" in raw.lower() if b"\\" in raw else False)
    return value


async def _parsed(raw: bytes, caps: Caps, small: bool) -> Any:
    return parse(raw, caps) if small else await asyncio.to_thread(parse, raw, caps)


def _is_small(raw: bytes) -> bool:
    return len(raw) <= SMALL and sum(raw.count(mark) for mark in (*_VALUES, b"\\")) <= FEW


_CLOSE = {"connection": "close"}
_VERSIONS = ("1.0", "1.1", "2", "3")  # of HTTP; h11 lets any through, such as 9.9
_VALUES = (b",", b"[", b"{")
_JSON, _BYTES = b"application/json", b"application/octet-stream"


def _invalid(why: str) -> Refusal:
    return Refusal(400, f"The body is no JSON that is accepted here: {why}.", code="invalid_json")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _invalid("an object has a key twice")
    return found


def _constant(_: str) -> NoReturn:
    raise _invalid("NaN and Infinity are no JSON")


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise _invalid("a number is too large")
    return value


def _check_tree(value: Any, depth: int, surrogates: bool) -> None:
    level, left = [value], depth
    while level:
        if surrogates and any(_has_surrogate(item) for item in level):
            raise _invalid("a text holds half a character")
        containers = [item for item in level if isinstance(item, dict | list)]
        if containers and left == 0:
            raise _invalid("it is nested too deeply")
        level = [child for item in containers for child in ((*item, *item.values()) if isinstance(item, dict) else item)]
        left -= 1


def _has_surrogate(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        value.encode()  # as fast as copying; looking at each character would hold the event loop for a second
    except UnicodeEncodeError:
        return True
    return False


def _check_headers(scope: Scope, caps: Caps, kind: bytes) -> None:
    if scope.get("http_version", "1.1") not in _VERSIONS:
        raise Refusal(505, "This version of HTTP is not spoken here.", code="http_version_not_supported", headers=_CLOSE)
    headers = scope["headers"]
    if len(headers) > caps.headers or sum(len(name) + len(value) for name, value in headers) > caps.header_bytes:
        raise Refusal(431, "The request has too many or too long headers.", code="headers_too_large", headers=_CLOSE)
    sent: Mapping[bytes, bytes] = dict(headers)
    if sent.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        raise Refusal(415, "Compressed bodies are not accepted.", code="unsupported_encoding", headers=_CLOSE)
    declared = sent.get(b"content-length", b"0").strip()
    if not declared.isdigit() or len(declared) > 18 or int(declared) > caps.body:
        raise _too_large(caps)
    if declared != b"0" or b"transfer-encoding" in sent:
        _check_type(scope, kind)


def _check_type(scope: Scope, wanted: bytes) -> None:
    kinds = [value for name, value in scope["headers"] if name == b"content-type"]
    kind = kinds[0].split(b";")[0].strip().lower() if len(kinds) == 1 else b""
    if kind != wanted:
        what = "JSON" if wanted == _JSON else "bytes"
        said = f"Bodies are {what}: send content-type: {wanted.decode()}."
        raise Refusal(415, said, code="unsupported_media_type", headers=_CLOSE)


def _full(said: str) -> Refusal:
    return Refusal(429, said, code="overloaded", headers=_CLOSE)


def _too_large(caps: Caps) -> Refusal:
    return Refusal(413, f"The body is too large: at most {caps.body / MIB:g} MiB are accepted.", code="body_too_large", headers=_CLOSE)


async def _read(receive: Receive, caps: Caps, take: Take) -> bytes | None:
    """The whole body; None when the client left."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > caps.body:
            raise _too_large(caps)
        take(len(part))
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _replay(raw: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read, then what comes after it: the client's leaving."""
    rest: list[Message] = [{"type": "http.request", "body": raw, "more_body": False}]

    async def again() -> Message:
        return rest.pop() if rest else await receive()

    return again
