"""What a browser may ask of the site, and what it is told beside the answer; everything else does not exist here.

`Front` stands before all other layers: it makes a key that was typed as a password look as `security.Gate` knows it, and adds the headers
that keep a page from loading anything from elsewhere. `Door` stands behind them: it lets through what gradio's own pages need, from pages
of this site only, and no value in which gradio would see a file. gradio's uploads, files, proxy, streams and API are shut (published
weaknesses of it and of LLaVA's pages used each of them; docs/security.md lists them). Knows no page.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llava.serve.refusal import Refusal
from llava.serve.web.visits import Visits

PICTURES = "/pictures"
_DATA, _JOIN = "/gradio_api/queue/data", "/gradio_api/queue/join"
_CANCEL, _RESET = "/gradio_api/cancel", "/gradio_api/reset"
_GET = frozenset({"/", "/health", "/ready", "/theme.css", "/favicon.ico", "/robots.txt", "/manifest.json", _DATA})
_HEARTBEAT = "/gradio_api/heartbeat/"
_GET_BELOW = ("/assets/", "/static/", "/svelte/", _HEARTBEAT)
_GET_MORE = frozenset({"/gradio_api/startup-events", "/gradio_api/app_id"})
_POST = frozenset({PICTURES, _JOIN, _CANCEL, _RESET})
_EVENT = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what a browser's script calls its page, and gradio an event
_SHOWS_OTHERS = frozenset({"deep_link", "page"})  # for which gradio reads a file, and shows what stands there
_FILES = frozenset({"path", "meta", "is_file", "orig_name"})  # keys of what gradio takes for a file, which it would copy or fetch

# gradio compiles its templates in the browser ('unsafe-eval') and writes its settings into the page ('unsafe-inline').
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self'; connect-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'"
)


# Headers that are not passed on: gradio lets pages of every port of this machine read, and the key is asked for by us.
_NOT_OURS = (b"access-control-", b"www-authenticate")
_SAME_FOR_ALL = ("/assets/", "/static/", "/svelte/", "/theme.css", "/favicon.ico")  # nothing else may be kept on its way


class Front:
    """Outermost layer; `embed`: other sites may show the page inside theirs."""

    def __init__(self, app: ASGIApp, embed: bool = False) -> None:
        self._app = app
        policy = _POLICY if embed else f"{_POLICY}; frame-ancestors 'none'"
        said = {"content-security-policy": policy, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
        self._headers = [(name.encode(), value.encode()) for name, value in said.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["headers"] = [(name, _as_bearer(value) if name == b"authorization" else value) for name, value in scope["headers"]]

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = scope["path"].startswith(_SAME_FOR_ALL)
                gone = _NOT_OURS if kept else (*_NOT_OURS, b"cache-control")
                rest = [pair for pair in message.get("headers", ()) if not pair[0].lower().startswith(gone)]
                rest += [] if kept else [(b"cache-control", b"no-store")]
                ask = [(b"www-authenticate", b'Basic realm="llava: the key is the password", charset="UTF-8"')]
                message = {**message, "headers": [*rest, *self._headers, *(ask if message["status"] == 401 else ())]}
            await send(message)

        await self._app(scope, receive, told)


class _Told(Refusal):
    """A refusal as gradio's script shows it too: its `detail`, with the id under which the log may have more."""

    def __init__(self, refusal: Refusal, scope: Scope) -> None:
        super().__init__(refusal.status, refusal.message, code=refusal.code, param=refusal.param, headers=refusal.headers)
        self._id = scope.get("state", {}).get("request_id", "")

    def body(self) -> dict[str, object]:
        """OpenAI's shape, and gradio's."""
        return super().body() | {"detail": f"{self.message} ({self._id})"}


class Door:
    """Innermost layer, after `limits.Limits`, whose parsed body it looks at. `events`: the page's, and how many values each takes;
    `visits`: what each visitor may hold."""

    def __init__(self, app: ASGIApp, events: Mapping[int, int], visits: Visits) -> None:
        self._app = app
        self._events = events
        self._visits = visits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                _check(scope)
                if scope["path"] == _JOIN:
                    session, event = self._event(scope["state"].get("json"))
                    self._visits.enter(scope, session, event)
                    scope["state"]["json"] = None  # gradio reads the body itself, and keeps this scope for as long as the event waits
                elif scope["path"] == _DATA:
                    self._check_told(scope)
            except Refusal as refusal:
                await (_Told(refusal, scope) if scope["path"] == _JOIN else refusal).send(send)
                return
            if scope["path"].startswith(_HEARTBEAT):
                await _nothing(send)
                return
        await self._app(scope, receive, send)

    def _check_told(self, scope: Scope) -> None:
        """gradio would begin to tell a session that it does not know, and break off with two errors in the log."""
        if not self._visits.is_told(_asked(scope).get("session_hash", [""])[-1]):
            raise Refusal(404, "There is nothing to tell this page: load it again.", code="not_found")

    def _event(self, body: Any) -> tuple[str, int]:
        """Its session and number; refused is what gradio would fail at, and write into the log with all its values."""
        sent = body if isinstance(body, dict) else {}
        named: tuple[Any, Any, Any] = sent.get("data"), sent.get("fn_index"), sent.get("session_hash")
        data, event, session = named
        right = isinstance(data, list) and type(event) is int and isinstance(session, str)
        if not right or self._events.get(event) != len(data) or not _EVENT.fullmatch(session):
            raise Refusal(400, "This is no event of the page: load it again.", code="invalid_value")
        return session, event


async def _nothing(send: Send) -> None:
    """For gradio's heartbeat, which no page of ours needs: it would hold one of the six connections that a browser has for all its tabs.
    After this answer no browser asks again."""
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


def _check(scope: Scope) -> None:
    path, method = scope["path"], scope["method"]
    below = path.startswith(_GET_BELOW) and ".." not in path and "\\" not in path
    reads = method in ("GET", "HEAD") and (path in _GET or path in _GET_MORE or below)
    if not reads and not (method == "POST" and path in _POST):
        raise Refusal(404, "There is no such path.", code="not_found")
    if method == "POST" and not _from_here(scope):
        raise Refusal(403, "Only pages of this site may ask that.", code="cross_site")
    if not _SHOWS_OTHERS.isdisjoint(_asked(scope)):
        raise Refusal(404, "There is no such page.", code="not_found")
    sent = scope.get("state", {}).get("json")
    if _has_file(sent):
        raise Refusal(400, "Files are not taken this way.", code="no_files")
    if path in (_CANCEL, _RESET) and not _names_event(sent, path):
        raise Refusal(400, "This is no event of the page: load it again.", code="invalid_value")


def _asked(scope: Scope) -> dict[str, list[str]]:
    """What stands behind the question mark of the address."""
    return parse_qs(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)


def _names_event(sent: Any, path: str) -> bool:
    """Whether this names an event that may be ended."""
    found = sent if isinstance(sent, dict) else {}
    names = ("event_id", "session_hash") if path == _CANCEL else ("event_id",)
    texts = all(isinstance(found.get(name), str) and _EVENT.fullmatch(found[name]) for name in names)
    return texts and (path == _RESET or type(found.get("fn_index")) is int)


def _from_here(scope: Scope) -> bool:
    """Whether no page of another site asks. A program that is no browser sends neither header."""
    sent = dict(scope["headers"])
    if sent.get(b"sec-fetch-site", b"same-origin") not in (b"same-origin", b"none"):
        return False
    origin, host = sent.get(b"origin"), sent.get(b"host", b"")
    return origin is None or origin in (b"http://" + host, b"https://" + host)


def _has_file(value: Any) -> bool:
    level = [value]
    while level:
        if any(isinstance(item, dict) and not _FILES.isdisjoint(item) for item in level):
            return True
        level = [child for item in level if isinstance(item, dict | list) for child in (item.values() if isinstance(item, dict) else item)]
    return False


def _as_bearer(value: bytes) -> bytes:
    """A password, whoever's, as a key; anything else as it is."""
    scheme, _, rest = value.partition(b" ")
    if scheme.lower() != b"basic":
        return value
    try:
        return b"Bearer " + base64.b64decode(rest.strip(), validate=True).partition(b":")[2]
    except binascii.Error:
        return value
