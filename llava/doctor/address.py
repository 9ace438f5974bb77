"""Where to look, as a person writes it. Knows no network."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from llava.cluster.hosts import is_loopback
from llava.errors import UserError

_SAID = "A server's address looks like http://host:8000, https://host/v1, controller://host:10000 or host:8000"


@dataclass(frozen=True, slots=True)
class Address:
    """`prefix` is what stands before /v1 in its paths, usually nothing; what stands after it is one of them."""

    scheme: str
    host: str
    port: int
    prefix: str = ""

    @classmethod
    def read(cls, text: str) -> Address:
        """From a URL, an engine's target or host:port; raises `UserError`."""
        full = text if "://" in text else f"http://{text}"
        try:
            parts = urlsplit(full)
            port = parts.port
        except ValueError:
            raise UserError(f"{_SAID}.") from None
        scheme = "http" if parts.scheme == "controller" else parts.scheme
        if "@" in parts.netloc:
            raise UserError(f"{_SAID}, without a user or password: give keys with --key or --secret.")
        if scheme not in ("http", "https") or not parts.hostname or not full.isprintable() or " " in full or port == 0:
            raise UserError(f"{_SAID}.")
        if port is None and ("://" not in text or parts.scheme == "controller"):
            raise UserError(f"{_SAID}: give the port too.")
        prefix = "" if parts.scheme == "controller" else re.sub("/v1(/.*)?$", "", parts.path.rstrip("/"))
        return cls(scheme, parts.hostname, port or {"http": 80, "https": 443}[scheme], prefix)

    @property
    def place(self) -> str:
        """host:port, as in a `Host` header."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Without a slash at the end."""
        return f"{self.scheme}://{self.place}{self.prefix}"

    @property
    def is_local(self) -> bool:
        """Whether every machine has it for itself alone."""
        return is_loopback(self.host) or self.host in ("0.0.0.0", "::")

    def at(self, port: int) -> Address:
        """The same host at another port."""
        return replace(self, port=port, prefix="")

    def is_server(self, other: Address) -> bool:
        """Whether both are the same server, asked in the same way."""
        return replace(self, prefix="") == replace(other, prefix="")
