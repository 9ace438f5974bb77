"""Images by address, where the operator allows it: the one place of the gateway that fetches something for a client.

An address is taken apart once, and what was read is what is compared, looked up and dialled: the host must be on the operator's list, every
one of its IP addresses public (or in a network that the operator names), and the connection goes to one of the addresses that were looked
at. No redirect, proxy, cookie, or compressed body; so many bytes, so many seconds. Whether it is an image is read from the bytes, by
`Image`. The log tells the host and a reason, never the address.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import httpx2

from llava import __version__
from llava.cluster.dial import certificates
from llava.errors import UserError
from llava.image import MAX_BYTES
from llava.serve.gateway.tasks import together
from llava.serve.refusal import Refusal

log = logging.getLogger(__name__)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
PORTS = {"https": 443, "http": 80}
AT_A_TIME = 16  # images that are fetched at a time, for all requests together
TRIED = 3  # addresses of one host
LATE, NO_WAY = "it did not arrive in time", "it cannot be reached"
_HOST = r"\[[0-9a-f:.]{2,45}\]|[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?"
_ORIGIN = re.compile(rf"(?:(https?)://)?({_HOST})(?::([0-9]{{1,5}}))?", re.ASCII | re.IGNORECASE)
_URL = re.compile(
    rf"(https?)://({_HOST})(?::([0-9]{{1,5}}))?((?:/[\w.~!$&'()*+,;=:@%/-]*)?(?:\?[\w.~!$&'()*+,;=:@%/?-]*)?)", re.ASCII | re.IGNORECASE
)
_UNICAST = IPv6Network("2000::/3")  # all that is public of IPv6
# What Python (some versions) calls global, and is not for us: addresses of protocols (metadata of a cloud lies there), 6to4, examples.
_SPECIAL: tuple[Network, ...] = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2002::/16", "3fff::/20")))


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a fetch may go."""

    scheme: str
    host: str
    port: int


async def look_up(host: str, port: int) -> list[str]:
    """The addresses of `host`; raises `OSError`."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(row[4][0]) for row in found))


@dataclass(frozen=True, slots=True)
class Remote:
    """What the operator allows: `origins`, and `networks` that are not public and may be reached all the same.

    `most_bytes` are those of one request's images together (each may have `image.MAX_BYTES`), `seconds` those of fetching them. `resolve`
    and `tls` are how hosts are looked up and whose certificates count.
    """

    origins: frozenset[Origin]
    networks: tuple[Network, ...] = ()
    most_bytes: int = 20 * 2**20
    seconds: float = 10.0
    resolve: Resolve = look_up
    tls: ssl.SSLContext | None = None

    @classmethod
    def read(cls, hosts: Iterable[str], networks: Iterable[str] = ()) -> Remote:
        """From the command line: `images.example.com`, `host:8443`, `http://host`; `10.0.0.0/8`. Raises `UserError`."""
        return cls(frozenset(map(_origin, hosts)), tuple(map(_network, networks)))


class Fetcher:
    """Fetches images as `remote` allows."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._places = asyncio.Semaphore(AT_A_TIME)

    async def fetch(self, wanted: Sequence[tuple[str, str]]) -> dict[str, bytes]:
        """Address -> what lies there, for pairs of an address and where the request names it; raises `Refusal` (400)."""
        targets = {url: (self._target(url, where), where) for url, where in wanted}  # all of them, before any is fetched
        budget = _Budget(self._remote.most_bytes)
        try:
            async with asyncio.timeout(self._remote.seconds):
                found = await together([self._fetched(*target, budget) for target in targets.values()])
        except TimeoutError:
            raise _failed(LATE, wanted[0][1]) from None
        return dict(zip(targets, found, strict=True))

    def _target(self, url: str, where: str) -> tuple[Origin, str]:
        found = _URL.fullmatch(url) if len(url) <= 2048 else None
        if found is not None:
            scheme = found[1].lower()
            origin = Origin(scheme, found[2].lower(), int(found[3] or PORTS[scheme]))
            if origin in self._remote.origins:
                return origin, found[4] if found[4].startswith("/") else f"/{found[4]}"
        said = "Images are fetched only from hosts that the operator of this gateway has named. Send the image itself, as a data URL."
        raise Refusal(400, said, code="image_url_not_allowed", param=where)

    async def _fetched(self, target: tuple[Origin, str], where: str, budget: _Budget) -> bytes:
        origin, path = target
        async with self._places:
            try:
                addresses = await self._addresses(origin)
                return await self._first(origin, addresses, path, budget)
            except (_Unfetched, OSError, ValueError, httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
                reason = str(error) if isinstance(error, _Unfetched) else LATE if isinstance(error, httpx2.TimeoutException) else NO_WAY
                log.info("an image from %s was not fetched: %s (%s)", origin.host, reason, type(error).__name__)
                raise _failed(reason, where) from None

    async def _addresses(self, origin: Origin) -> list[Address]:
        """Of the host, all of which may be dialled; raises `_Unfetched` when one may not: such an answer is somebody's trick."""
        host = origin.host.strip("[]")
        try:
            found = [ip_address(host)]
        except ValueError:
            found = [ip_address(text) for text in await self._remote.resolve(host, origin.port)]
        if not found or not all(may_be_dialled(address, self._remote.networks) for address in found):
            log.warning("%s has an address that is not public: name its network with --allow-remote-network if it is meant", origin.host)
            raise _Unfetched(NO_WAY)
        return found[:TRIED]

    async def _first(self, origin: Origin, addresses: Sequence[Address], path: str, budget: _Budget) -> bytes:
        """From the first address that can be reached."""
        for address in addresses[:-1]:
            try:
                return await self._get(origin, address, path, budget)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                continue
        return await self._get(origin, addresses[-1], path, budget)

    async def _get(self, origin: Origin, address: Address, path: str, budget: _Budget) -> bytes:
        host = origin.host if origin.port == PORTS[origin.scheme] else f"{origin.host}:{origin.port}"
        headers = {"host": host, "user-agent": f"llava/{__version__}", "accept": "image/*", "accept-encoding": "identity"}
        url = httpx2.URL(scheme=origin.scheme, host=str(address), port=origin.port, raw_path=path.encode())
        extensions = {"sni_hostname": origin.host, "timeout": dict.fromkeys(("connect", "read", "write", "pool"), self._remote.seconds / 2)}
        # A transport and no client: it follows nothing, keeps nothing and logs no address. A new one for each image: a connection is for
        # one host's certificate, and two hosts may have the same address.
        async with httpx2.AsyncHTTPTransport(verify=self._remote.tls or certificates(), trust_env=False) as transport:
            response = await transport.handle_async_request(httpx2.Request("GET", url, headers=headers, extensions=extensions))
            try:
                return await _body(response, budget)
            finally:
                await response.aclose()


class _Unfetched(Exception):
    """Why there is no image, for a person."""


class _Budget:
    """Bytes that the images of one request may still have."""

    def __init__(self, most: int) -> None:
        self.left = most


async def _body(response: httpx2.Response, budget: _Budget) -> bytes:
    if response.status_code != 200:
        raise _Unfetched("its server redirects or refuses")
    if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise _Unfetched("its server compresses it")
    parts, size = [], 0
    async for chunk in response.aiter_raw():
        size += len(chunk)
        budget.left -= len(chunk)
        if size > MAX_BYTES or budget.left < 0:
            raise _Unfetched("it is too large")
        parts.append(chunk)
    return b"".join(parts)


def may_be_dialled(address: Address, networks: Sequence[Network] = ()) -> bool:
    """Whether an address is public, or in one of `networks`."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if _is_in(address, networks):
        return True
    if isinstance(address, IPv6Address) and address not in _UNICAST:
        return False
    return address.is_global and not address.is_multicast and not _is_in(address, _SPECIAL)


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _failed(reason: str, where: str) -> Refusal:
    return Refusal(400, f"The image could not be fetched: {reason}.", code="image_fetch_failed", param=where)


def _origin(text: str) -> Origin:
    found = _ORIGIN.fullmatch(text.strip())
    port = int(found[3]) if found and found[3] else None
    if found is None or port == 0 or (port or 0) > 65535:
        raise UserError(f"A host of images looks like images.example.com, host:8443 or http://host, not {text[:100]!r}.")
    scheme = (found[1] or "https").lower()
    return Origin(scheme, found[2].lower(), port or PORTS[scheme])


def _network(text: str) -> Network:
    try:
        return ip_network(text.strip())
    except ValueError:
        raise UserError(f"A network looks like 10.0.0.0/8 or fd00::/8, not {text[:100]!r}.") from None
