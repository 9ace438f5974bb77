"""Controller, two workers and a gateway as processes of their own; their logs; the words that must be in none of them."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psutil

from tests.loopback import free_port
from tests.resilience.talk import ask, bearer, get
from tests.resilience.tally import Lost
from tests.serve.canary import Canary, canary

ROOT = Path(__file__).resolve().parents[2]
KEY, ADMIN, SECRET = "sentinel-key-8c1f7a", "sentinel-admin-22d0", "sentinel-cluster-77aa"
PATIENCE = 120.0
T = TypeVar("T")


@dataclass
class Running:
    """One program. `port` is where it listens, `words` how it was started."""

    name: str
    port: int
    words: list[str]
    process: asyncio.subprocess.Process
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def tree(self) -> list[psutil.Process]:
        """It and its children, as far as they live."""
        try:
            root = psutil.Process(self.process.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def signal(self, number: signal.Signals) -> None:
        """To the program, and not to its children."""
        self.process.send_signal(number)

    async def end(self, seconds: float = 20.0) -> int:
        """Wait for its end; raises `Lost` when it does not come."""
        try:
            async with asyncio.timeout(seconds):
                return await self.process.wait()
        except TimeoutError:
            raise Lost(f"the {self.name} did not end within {seconds:g} s") from None

    def kill(self) -> None:
        """At once, with its children (it leads a group of its own)."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


@dataclass
class Cluster:
    """A controller with its workers, and a gateway before them."""

    controller: Running
    workers: list[Running]
    gateway: Running

    def kill(self) -> None:
        """All at once."""
        for running in (self.gateway, *self.workers, self.controller):
            running.kill()


@dataclass
class Stack:
    """All of them, and where they keep their things."""

    folder: Path
    trap: Canary
    scale: float
    closing: AsyncExitStack
    programs: list[Running] = field(default_factory=list)
    controller: Running = None  # type: ignore[assignment]
    gateway: Running = None  # type: ignore[assignment]
    workers: list[Running] = field(default_factory=list)
    golden: bytes = b""
    told: set[str] = field(default_factory=set)  # what was found unclean, and counted

    @property
    def audit(self) -> Path:
        """The gateway's audit log."""
        return self.folder / "audit.jsonl"

    def many(self, full: int, least: int = 4) -> int:
        """So many trials of a kind at this scale."""
        return max(least, round(full * self.scale))

    def share(self, cases: Iterable[T], least: int = 24) -> list[T]:
        """All cases at full scale, else so many of them, evenly chosen."""
        found = list(cases)
        wanted = min(len(found), max(least, round(len(found) * self.scale)))
        return [found[at * len(found) // wanted] for at in range(wanted)]

    async def start(
        self, name: str, words: Sequence[str], port: int, environment: Mapping[str, str] | None = None, limit: int = 0
    ) -> Running:
        """A program: `python -m words`. `limit`: bytes that it may write into one file."""
        log = self.folder / f"{len(self.programs):03}-{name}.log"
        inside = {**os.environ, "LLAVA_CLUSTER_SECRET": SECRET, "TMPDIR": str(self.folder / "tmp"), **(environment or {})}
        inside["TORCHINDUCTOR_CACHE_DIR"] = str(self.folder / "torch")  # torch makes it when it is imported
        inside = {name: value for name, value in inside.items() if value}
        cap = (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))) if limit else None
        with log.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", *words), cwd=ROOT, env=inside, stdout=out, stderr=out, start_new_session=True, preexec_fn=cap
            )
        running = Running(name, port, list(words), process, log)
        self.programs.append(running)
        self.closing.push_async_callback(_stopped, running)
        return running

    async def new_controller(self, port: int | None = None) -> Running:
        """A controller; the one at `port` anew, where it is given."""
        port = port or free_port()
        running = await self.start("controller", ["llava.serve.controller", "--port", str(port)], port)
        await until(lambda: _alive(port), running)
        return running

    async def new_worker(self, controller: Running, *words: str, port: int | None = None) -> Running:
        """A playing worker, registered."""
        port = port or free_port()
        flags = ["--controller", controller.url, "--port", str(port), "--faults", str(self.folder / "faults"), *words]
        running = await self.start("worker", ["tests.resilience.play", *flags], port)
        await until(lambda: ready(port), running)
        return running

    async def new_gateway(self, *words: str, controller: Running | None = None, environment: Mapping[str, str] | None = None) -> Running:
        """A gateway before a controller, ready."""
        port, hub = free_port(), controller or self.controller
        flags = ["--engine", f"controller://127.0.0.1:{hub.port}", "--port", str(port), "--max-per-key", "0", *words]
        keys = {"LLAVA_API_KEY": f"{KEY},admin:{ADMIN}", **(environment or {})}
        running = await self.start("gateway", ["llava.serve.api_server", *flags], port, keys)
        await until(lambda: ready(port), running)
        return running

    async def new_cluster(self, workers: int, *words: str) -> Cluster:
        """One that no other row sees, ready. `words`: options of its gateway."""
        hub = await self.new_controller()
        found = [await self.new_worker(hub) for _ in range(workers)]
        await self.all_know(workers, hub)
        return Cluster(hub, found, await self.new_gateway(*words, controller=hub))

    async def all_know(self, count: int, controller: Running | None = None) -> None:
        """Wait until the controller knows so many workers."""
        hub = controller or self.controller
        seen: set[str] = set()

        async def known() -> bool:
            for _ in range(4 * count):
                answer = await ask(hub.port, "POST", "/get_worker_address", {"model": "tiny", "avoid": sorted(seen)}, bearer(SECRET))
                if not (address := answer.json().get("address")):
                    break
                seen.add(address)
            return len(seen) >= count and all([await _alive(int(address.rsplit(":")[-1])) for address in seen])

        await until(known)


@asynccontextmanager
async def stack(folder: Path, scale: float) -> AsyncIterator[Stack]:
    """The standing stack of the matrix."""
    for name in ("tmp", "faults"):
        (folder / name).mkdir(parents=True)
    with canary() as trap:
        async with AsyncExitStack() as closing:
            found = Stack(folder, trap, scale, closing)
            found.controller = await found.new_controller()
            found.workers = [await found.new_worker(found.controller) for _ in range(2)]
            await found.all_know(2)
            found.gateway = await found.new_gateway("--audit-log", str(found.audit))
            yield found


async def until(true: Callable[[], Awaitable[bool]], running: Running | None = None, seconds: float = PATIENCE) -> float:
    """Wait for it; gives the seconds that it took. Raises `Lost` when it does not come, or when the program ends before."""
    begin = time.monotonic()
    while time.monotonic() - begin < seconds:
        if running is not None and running.process.returncode is not None:
            raise Lost(f"the {running.name} ended: {running.log.read_text(encoding='utf-8', errors='replace')[-300:]}")
        try:
            if await true():
                return time.monotonic() - begin
        except OSError:
            pass
        await asyncio.sleep(0.02)
    raise Lost(f"it did not come within {seconds:g} s")


async def beside(width: int, works: Iterable[Awaitable[T]]) -> list[T]:
    """Do them side by side, at most `width` at a time; the first that raises ends the others."""
    places = asyncio.Semaphore(width)

    async def one(work: Awaitable[T]) -> T:
        async with places:
            return await work

    tasks = [asyncio.ensure_future(one(work)) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _alive(port: int) -> bool:
    return (await get(port, "/health")).status == 200


async def ready(port: int) -> bool:
    """Whether a gateway or a worker is."""
    return (await get(port, "/ready")).status == 200


async def counts(port: int, running: int, waiting: int = 0) -> bool:
    """Whether a gateway says that so many requests run and wait."""
    metrics = (await get(port, "/metrics", bearer(ADMIN))).body
    return b"num_requests_running %d\n" % running in metrics and b"num_requests_waiting %d\n" % waiting in metrics


async def _stopped(running: Running) -> None:
    running.kill()
    await running.process.wait()
