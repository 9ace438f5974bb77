"""The way from one process to the next: first contact, who is it, is the key right, what does it tell, what stands behind it?

Each process is visited once. A credential goes only to the kind of process that it is for, after that process has been recognised: the
key of clients to a gateway, the cluster's secret to controllers and workers of llava, OpenAI's to servers of others. And it goes only to
addresses that the operator gave, to this machine's own, and to the workers of a controller that was shown the secret: what a gateway names
may be anybody's.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from llava.doctor.address import Address
from llava.doctor.cluster import is_controller, look_at_controller, look_at_worker
from llava.doctor.foreign import look_at_server
from llava.doctor.gateway import look_at_gateway, next_address
from llava.doctor.identify import Kind, check_clock, identify
from llava.doctor.reach import first_contact, neighbours
from llava.doctor.report import Report, Site, Trouble
from llava.doctor.web import Web

NAMES: dict[Kind, str] = {
    "gateway": "a llava gateway",
    "cluster": "a controller or worker of llava",
    "controller": "a controller",
    "worker": "a model worker",
    "foreign": "an OpenAI-compatible server",
}


DOORS = frozenset({"secret_missing", "key_missing", "loopback_only"})  # for those who have no key to it
WAYS = frozenset({"unknown_host", "refused", "unreachable", "silent"})  # from here; others came through


@dataclass(frozen=True, slots=True)
class Next:
    """Where to go on, and what is no fault there; `vouched`: a controller that was shown the secret says that this is its worker."""

    address: Address
    lenient: frozenset[str] = frozenset()
    vouched: bool = False


@dataclass(frozen=True, slots=True)
class Credentials:
    """`key`: of a gateway's clients; `secret`: of the cluster; `foreign`: of OpenAI-compatible servers that are not ours."""

    key: str | None = None
    secret: str | None = None
    foreign: str | None = None

    def given(self) -> list[str]:
        """All of them, to be left out of what is shown."""
        return [text for text in (self.key, self.secret, self.foreign) if text]

    def fitting(self, kind: Kind) -> str | None:
        """The one for a kind of process; the original's controllers and workers ask for none."""
        return {"gateway": self.key, "cluster": self.secret, "foreign": self.foreign}.get(kind)


async def examine(
    *urls: str,
    credentials: Credentials | None = None,
    model: str | None = None,
    seconds: float = 60.0,
    accepted: Collection[str] = (),
) -> Report:
    """Look at these addresses and at all that stands behind them. `model`: ask this one only; `seconds`: that a model's answer may take.

    `accepted`: codes of faults that are meant to be so. Raises `UserError` for what is no address.
    """
    given = [Address.read(url) for url in urls]
    walk = _Walk(credentials or Credentials(), given, model, seconds)
    for address in given:
        await walk.visit(Next(address))
    return Report(tuple(walk.sites), accepted)


class _Walk:
    def __init__(self, credentials: Credentials, given: Collection[Address], model: str | None, seconds: float) -> None:
        self._credentials = credentials
        self._given = given
        self._model = model
        self._seconds = seconds
        self.sites: list[Site] = []

    async def visit(self, place: Next) -> None:
        """Look at one process, then at those behind it."""
        address = place.address
        if any(site.url == address.url for site in self.sites):
            return
        site = Site(address.url)
        self.sites.append(site)
        behind: list[Next] = []
        try:
            behind = await self._look(site, place)
        except Trouble as trouble:
            if trouble.code in place.lenient and not self._is_given(address):
                site.note(trouble.code, f"{trouble.said} It is not examined from here.")
                return
            site.wrong(trouble.code, trouble.said)
            if trouble.code in ("refused", "not_http", "other_program") and (near := await neighbours(address)):
                site.note("neighbours", f"Something of llava's answers at {', '.join(near)}.")
        for each in behind:
            await self.visit(each)

    async def _look(self, site: Site, place: Next) -> list[Next]:
        address = place.address
        head = await first_contact(address)
        async with Web(address, None, self._seconds) as stranger:
            kind = await identify(head, stranger)
        site.what = NAMES[kind]
        check_clock(site, head)
        key = self._credentials.fitting(kind)
        is_shown = self._is_given(address) or address.is_local or (place.vouched and kind == "cluster")
        async with Web(address, key if is_shown else None, self._seconds, withheld=key is not None and not is_shown) as web:
            if kind == "cluster":
                kind = "controller" if await is_controller(web) else "worker"
                site.what = f"a llava {kind}"
            return await self._examine(kind, site, web)

    def _is_given(self, address: Address) -> bool:
        return any(address.is_server(each) for each in self._given)

    async def _examine(self, kind: Kind, site: Site, web: Web) -> list[Next]:
        if kind == "gateway":
            target = await look_at_gateway(site, web, self._model)
            found = None if target is None else next_address(target, web.address)
            if isinstance(found, str):
                site.note("behind", found)
            works = all(finding.level != "wrong" for finding in site.findings)
            return [Next(found, DOORS | WAYS if works else DOORS)] if isinstance(found, Address) else []
        if kind == "controller":
            members = await look_at_controller(site, web, self._model)
            reached = [member for member in members if member.error is None]
            vouched = web.key is not None
            return [Next(Address.read(each.address), DOORS | WAYS if each.told else DOORS, vouched) for each in reached]
        if kind == "worker":
            await look_at_worker(site, web, self._model)
        else:
            await look_at_server(site, web, self._model)
        return []
