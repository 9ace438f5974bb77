"""One engine out of many: a local model on every GPU of a Ray cluster, or on every node where there are no GPUs.

    llava eval --ray 10.0.0.1:6379 --model models/llava-v1.5-7b --tasks vlsafe --out runs/llava

To the runner it is an engine like any other: samples, pictures, retries and records stay with the one process that runs here, and nodes
need this package and the model, no data and no common disk. A node that is lost costs the calls that it was answering: they are asked
again elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llava.chat import Call, Delta
from llava.errors import EngineClosed, EngineError, LlavaError, Misconfigured, ModelLost, Unavailable, UserError
from llava.eval.worker import Worker, identity

log = logging.getLogger(__name__)
EACH = 48  # calls at a time: a local engine answers 32 together, some more keep it from waiting
CONNECT_SECONDS = 10.0
POLL_SECONDS = 1.0
PATIENCE_SECONDS = 60.0
START = "ray start --head --port 6379 (and on each other machine: ray start --address HEAD:6379)"


@dataclass(frozen=True, slots=True)
class Berth:
    """Room for one worker: a node, how people call it, and what of it Ray keeps for the worker."""

    node: str
    name: str
    resources: Mapping[str, int]


@dataclass(eq=False, slots=True)
class _Place:
    """A worker on its node, and how many calls it is answering; `ready` when its model is open."""

    berth: Berth
    actor: Any
    ready: bool = False
    calls: int = 0
    computing: Mapping[str, str] = field(default_factory=dict)


class Spread:
    """Workers of the Ray cluster at `address` (host:port of its head, or "auto") as one engine.

    `target` is a model's folder, which every node has in the same place, "mini" or a hub id; `options` are those of a local engine;
    `sha256` is over the model's files. To be made inside the event loop that uses it. Raises `UserError` where there is no cluster.
    Workers take part as soon as their model is open; why one does not is logged.
    """

    def __init__(self, address: str, target: str, options: Mapping[str, Any], sha256: str | None) -> None:
        folder = Path(target).expanduser()
        self._model = str(folder.resolve()) if folder.is_dir() else target, dict(options), identity(sha256)
        self._address = address
        self._ray = _joined(address)
        self._places = [_Place(berth, self._started(berth)) for berth in berths(self._ray.nodes())]
        if not self._places:
            self._ray.shutdown()
            raise Misconfigured(f"The Ray cluster at {address} has neither a GPU nor a processor core to give.")
        self.concurrency = EACH * len(self._places)
        self._all = tuple(self._places)
        self._homes: dict[str, _Place] = {}  # where a picture was seen: its keys and values may still be there
        self._begun = False  # some worker has been ready
        self._reason = ""  # why the last one left
        self._changed = asyncio.Event()
        self._opening = [asyncio.create_task(work) for work in (self._remind(), *map(self._open, self._places))]

    @property
    def name(self) -> str:
        return f"{Path(self._model[0]).name} on {len(self._places)} workers"

    @property
    def computing(self) -> list[dict[str, str]]:
        """Where it computed and in what precision: each worker that ever took part."""
        return [{"node": place.berth.name, **place.computing} for place in self._all if place.computing]

    async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
        """The reply, whole; see `Engine.stream`."""
        place = await self._room(call)
        place.calls += 1
        try:
            said = await place.actor.answer.remote(call)
        except self._ray.exceptions.RayActorError as error:
            self._lose(place)
            raise Unavailable(f"The worker on {place.berth.name} was lost while it answered.") from error
        finally:
            place.calls -= 1
            self._changed.set()
        if isinstance(said, EngineClosed | ModelLost):  # it would fail at everything; the others may go on
            self._leave(place, str(said))
            raise Unavailable(f"The worker on {place.berth.name} lost its model while it answered.") from said
        if isinstance(said, LlavaError):
            raise said
        yield Delta(said.text, said)

    async def close(self) -> None:
        """End all workers, and leave the cluster."""
        for task in self._opening:
            task.cancel()
        for place in self._places:
            self._ray.kill(place.actor)
        self._places.clear()
        self._changed.set()
        self._ray.shutdown()

    def _started(self, berth: Berth) -> Any:
        there = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(berth.node, soft=False)
        return self._ray.remote(Worker).options(scheduling_strategy=there, **berth.resources).remote()

    async def _open(self, place: _Place) -> None:
        failures = self._ray.exceptions
        while True:
            try:
                said = await place.actor.open.remote(*self._model)
            except failures.ActorUnavailableError:  # the network, perhaps; the cluster soon knows whether the worker has died
                await asyncio.sleep(POLL_SECONDS)
                continue
            except failures.RayError as error:
                said = EngineError(_first_line(error))
            break
        if isinstance(said, LlavaError):
            self._leave(place, str(said))
        else:
            place.computing = said
            place.ready = self._begun = True
            log.info("The worker on %s takes part.", place.berth.name)
            self._changed.set()

    def _lose(self, place: _Place) -> None:
        """Nobody goes there any more unless it comes back. Whether it has died the cluster knows a quarter of a minute later."""
        if place.ready:  # the first of its calls to fail
            place.ready = False
            log.warning(
                "The worker on %s is out of reach. Calls that it was answering, and that are asked again: %d.",
                place.berth.name,
                place.calls,
            )
            self._opening.append(asyncio.create_task(self._return(place)))

    async def _return(self, place: _Place) -> None:
        await self._open(place)
        if place.ready:
            log.warning("The worker on %s is back.", place.berth.name)

    async def _remind(self) -> None:
        await asyncio.sleep(PATIENCE_SECONDS)
        if names := ", ".join(sorted({place.berth.name for place in self._places if not place.ready})):
            log.warning("Still waiting for workers on %s: their models are large, or the cluster is busy (see `ray status`).", names)

    def _leave(self, place: _Place, reason: str) -> None:
        if place in self._places:
            self._places.remove(place)
            self._reason = f"{place.berth.name}: {reason}"
            log.warning("A worker takes no part any more. %s", self._reason)
            self._changed.set()

    async def _room(self, call: Call) -> _Place:
        while (place := self._choice(call)) is None:
            self._changed.clear()
            await self._changed.wait()
        return place

    def _choice(self, call: Call) -> _Place | None:
        """Where the call's picture was seen, if there is room; else the worker with the fewest calls; None while all are busy."""
        if not self._places:
            kind = EngineClosed if self._begun else Misconfigured
            raise kind(f"No worker is left on the Ray cluster at {self._address}. The last one was on {self._reason}")
        free = [place for place in self._places if place.ready and place.calls < EACH]
        picture = call.chat.images[0].sha256 if call.chat.images else None
        if picture is not None and (home := self._homes.get(picture)) in free:
            return home
        best = min(free, key=lambda place: place.calls, default=None)
        if picture is not None and best is not None:
            self._homes[picture] = best
        return best


def berths(nodes: Iterable[Mapping[str, Any]]) -> list[Berth]:
    """One for each GPU of a cluster whose `nodes` Ray tells; where no node has one, one for each node, with all its cores."""
    alive = [node for node in nodes if node["Alive"]]
    gpus = any(node["Resources"].get("GPU", 0) >= 1 for node in alive)
    found = []
    for node in alive:
        cores, cards = (int(node["Resources"].get(kind, 0)) for kind in ("CPU", "GPU"))
        count, resources = (cards, {"num_gpus": 1, "num_cpus": 1}) if gpus else (min(cores, 1), {"num_cpus": cores})
        found += [Berth(node["NodeID"], node["NodeManagerHostname"], resources)] * count
    return found


def _joined(address: str) -> Any:
    """Ray, connected."""
    _check_reachable(address)
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError:
        raise UserError("--ray needs Ray, here and on every node: pip install 'llava[ray]'.") from None
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise Misconfigured(
            f"This machine cannot take part in the Ray cluster at {address}: {_first_line(error)} "
            f"It must be one of the cluster's own: {START}."
        ) from error
    return ray


def _check_reachable(address: str) -> None:
    """Raise before Ray tries for minutes."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if "/" in address or not host or not port.isdigit():
        raise UserError(f"--ray is the host:port of a Ray cluster's head, such as 127.0.0.1:6379, or auto; not {address[:100]!r}.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise Misconfigured(f"There is no Ray cluster at {address} ({error}). Start one: {START}.") from None


def _first_line(error: Exception) -> str:
    line = str(error).strip().partition("\n")[0].strip()
    return f"{line or type(error).__name__}".rstrip(".") + "."
