"""Who may ask: API keys with scopes, the cluster secret, and nobody from elsewhere where neither is set.

    keys = Keys.read(options.api_key, "LLAVA_API_KEY")            # "sk-...", "admin:sk-...", "@file"
    app = Gate(app, Rules(keys, admin=frozenset({"/metrics"})))   # outside of everything that reads a body

`Gate` decides from the peer, the path and the headers of the ASGI scope, before a byte of the body is read. With a key set every path
is closed but `OPEN`; without one, only this machine is served (unless `anonymous`). The cluster secret between controller, workers and
gateway is an admin key (`cluster_keys`). Knows no route, no model and no way in which keys are stored elsewhere.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from llava.cluster.hosts import is_loopback, network
from llava.cluster.secret import CLUSTER_SECRET, checked_key, lines, texts
from llava.errors import UserError
from llava.serve.refusal import Refusal

# What anybody may ask for when a key is set: whether the process lives, and whether it can work.
OPEN = frozenset({
    "/health",
    "/ready",
})  # fmt: skip

CLUSTER_FIX = "Its operator can set LLAVA_CLUSTER_SECRET to the same long random text for all processes."

# What proxies and tunnels add, each as a beginning. One that adds nothing (nginx and HAProxy as they come) cannot be told from a program.
_FORWARDED = (b"forwarded", b"via", b"x-forwarded", b"x-real-ip", b"x-client-ip", b"true-client-ip")


class Right(Enum):
    """What a key may do."""

    INFERENCE = "inference"  # ask models
    ADMIN = "admin"  # everything


class Keys:
    """A set of keys, kept as digests. False when empty."""

    def __init__(self, keys: Iterable[tuple[str, Right]] = ()) -> None:
        self._rights = {_digest(key.encode()): right for key, right in keys}

    @classmethod
    def read(cls, options: Sequence[str], variable: str, right: Right = Right.INFERENCE) -> Keys:
        """Keys from the command line and, separated by commas, from an environment variable; raises `UserError`.

        A key is a text of at least 8 visible ASCII characters, has the right `right`, or with `admin:` before it all rights; `@file`
        stands for the lines of that file, so that no key need stand in a process list. What is given must hold a key.
        """
        given = [text.strip() for text in options] + texts(variable)
        return cls(_key(line, variable, right) for text in given for line in lines(text))

    def __bool__(self) -> bool:
        return bool(self._rights)

    def right(self, presented: bytes) -> Right | None:
        """The right of a key, None for an unknown one. Takes the same time whichever key it is like."""
        digest = _digest(presented)
        found = None
        for known, right in self._rights.items():
            if hmac.compare_digest(known, digest):
                found = right
        return found


def cluster_keys(inference: Keys | None = None) -> Keys:
    """The cluster secret of the environment as an admin key, and API keys beside it; raises `UserError` when one is both."""
    keys = Keys.read((), CLUSTER_SECRET, Right.ADMIN)
    beside = inference._rights if inference else {}
    if keys._rights.keys() & beside.keys():
        raise UserError(f"A key of clients is also in {CLUSTER_SECRET}: give the cluster a secret of its own.")
    keys._rights |= beside
    return keys


@dataclass(frozen=True)
class Rules:
    """Who may do what. `admin` paths need an admin key; `anonymous` lets everyone in, from anywhere: raises `UserError` beside keys.

    `fix` is what a peer from elsewhere is told when no key is set: how the operator can let it in. `together`: how many requests with a
    body one key may have at a time; None for any number.
    """

    keys: Keys
    admin: frozenset[str] = frozenset()
    anonymous: bool = False
    fix: str = "Set a key."
    open: frozenset[str] = field(default=OPEN)
    together: int | None = None

    def __post_init__(self) -> None:
        if self.keys and self.anonymous:
            raise UserError("--allow-anonymous lets everybody in, and a key is set: leave it out, or --api-key and LLAVA_API_KEY.")

    def admit(self, scope: Scope) -> tuple[bytes, Right] | None:
        """The key with which this request is let in, its digest and right; None where it needs none. Raises `Refusal` when it is not."""
        path: str = scope["path"]
        if not self.keys:
            if self.anonymous or _is_ours(scope):
                return None
            raise Refusal(403, f"Only this machine is served while no key is set. {self.fix}", code="loopback_only")
        if path in self.open:
            return None
        key = _bearer(scope)
        right = self.keys.right(key)
        if right is None:
            headers = {"www-authenticate": "Bearer"}
            raise Refusal(401, "A valid key is needed: send Authorization: Bearer <key>.", code="invalid_api_key", headers=headers)
        if path in self.admin and right is not Right.ADMIN:
            raise Refusal(403, "This needs a key with the right admin.", code="admin_only")
        return _digest(key), right


class Gate:
    """ASGI layer that lets in what `rules` allow, and of one key only so much at a time; no WebSocket gets in at all.

    `scope["state"]["visitor"]` tells the layers behind it who shares with others what there is (see `_visitor`).
    """

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app = app
        self._rules = rules
        self._inside: Counter[bytes] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            try:
                admitted = self._rules.admit(scope)
                counted = admitted[0] if admitted and scope["method"] not in ("GET", "HEAD") else None
                self._enter(counted)
            except Refusal as refusal:
                await refusal.send(send)
                return
            scope.setdefault("state", {})["visitor"] = _visitor(scope, admitted)
            try:
                await self._app(scope, receive, send)
            finally:
                self._leave(counted)

    def _enter(self, key: bytes | None) -> None:
        if key is None or self._rules.together is None:
            return
        if self._inside[key] >= self._rules.together:
            said = f"This key has {self._rules.together} requests at work, as many as it may: come again when one has ended."
            raise Refusal(429, said, code="too_many_requests")
        self._inside[key] += 1

    def _leave(self, key: bytes | None) -> None:
        if key is not None and self._rules.together is not None:
            self._inside[key] -= 1
            if not self._inside[key]:
                del self._inside[key]


def is_admin(keys: Keys, scope: Scope) -> bool:
    """Whether a request that was let in may do everything: it shows an admin key, or no key is set."""
    return not keys or keys.right(_bearer(scope)) is Right.ADMIN


def closed_to_others(host: str, keys: Keys) -> str | None:
    """What to tell an operator who binds to `host` without a secret; None when there is nothing to tell."""
    if keys or is_loopback(host):
        return None
    return (
        f"--host {host} is reachable from elsewhere, but no cluster secret is set: only processes of this machine are served. "
        f"To serve other machines, set {CLUSTER_SECRET} to the same long random text for controller, workers and gateway."
    )


def _is_ours(scope: Scope) -> bool:
    """Whether the request comes from a program of this machine: not through a proxy that says so, and not from a web page in its browser.

    A browser would send the page's `Origin`, or (after DNS rebinding) the page's name as `Host`. A peer without an address is nobody's:
    a connection that was reset before it was accepted has none, and what it sent can still be read.
    """
    client = scope.get("client")
    if client is None or not is_loopback(client[0]):
        return False
    if any(name.startswith(_FORWARDED) for name, _ in scope["headers"]):
        return False
    names = [f"//{value.decode('latin-1')}" for value in _values(scope, b"host")]
    names += [value.decode("latin-1") for value in _values(scope, b"origin")]
    return all(_names_us(name) for name in names)


def _visitor(scope: Scope, admitted: tuple[bytes, Right] | None) -> str | None:
    """Who asks: an address (of IPv6 its network) with its key. None is the operator, who shares with nobody: a key that may do everything,
    which other processes of the cluster have, and this machine where no key is asked for."""
    host = (scope.get("client") or ("",))[0]
    if admitted is None:
        return None if is_loopback(host) else network(host)
    digest, right = admitted
    return None if right is Right.ADMIN else f"{network(host)} {digest.hex()}"


def _names_us(url: str) -> bool:
    try:
        return is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        return False


def _bearer(scope: Scope) -> bytes:
    """The key that is shown; nothing where none is, or two are."""
    values = _values(scope, b"authorization")
    scheme, _, key = values[0].partition(b" ") if len(values) == 1 else (b"", b"", b"")
    return key.strip() if scheme.lower() == b"bearer" else b""


def _values(scope: Scope, name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key == name]


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _key(text: str, variable: str, right: Right) -> tuple[str, Right]:
    if text.startswith("admin:"):
        text, right = text.removeprefix("admin:"), Right.ADMIN
    return checked_key(text, variable), right
