"""What must hold after each row, whatever it did: the post-conditions, and a probe of the event loop while it runs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import psutil

from llava.errors import UserError
from llava.serve.gateway.audit import verify
from tests.resilience.play import MARK
from tests.resilience.stack import ADMIN, KEY, SECRET, Running, Stack
from tests.resilience.talk import CHAT, Answer, ask, bearer, get, question
from tests.serve.gateway.running import data_url

PROMPT = "sentinel-prompt-d41d8c"
PICTURE = data_url("teal", (40, 30))
SENTINELS = (KEY, ADMIN, SECRET, PROMPT, MARK, PICTURE[60:100], "Traceback (most recent call last)")
GOLDEN = question(f"{PROMPT}: what is this?", PICTURE, temperature=0)
SETTLE = 5.0  # seconds in which all must be as before


@dataclass
class Levels:
    """Descriptors, threads and children of each process of the stack; the gateway's memory in MiB."""

    counts: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    memory: float = 0.0


def levels(stack: Stack) -> Levels:
    """As they are now."""
    found = Levels()
    for running in (stack.gateway, stack.controller, *stack.workers):
        tree = running.tree()
        try:
            found.counts[running.log.name] = (sum(p.num_fds() for p in tree), sum(p.num_threads() for p in tree), len(tree))
        except psutil.NoSuchProcess:
            continue
    if tree := stack.gateway.tree():
        found.memory = tree[0].memory_info().rss / 2**20
    return found


async def golden(stack: Stack) -> bytes:
    """The golden request's answer, without what differs from one to the next."""
    answer = await ask(stack.gateway.port, "POST", CHAT, GOLDEN, bearer(KEY))
    return re.sub(rb'"(id|created)":("[^"]*"|\d+)', b"", answer.body) if answer.status == 200 else answer.raw[:200]


async def broken(stack: Stack, before: Levels) -> list[str]:
    """What does not hold, after some seconds to settle. What stays, such as a line in a log, is told once: of the row that did it."""
    found: list[str] = []
    for _ in range(round(SETTLE / 0.25)):
        found = await _broken(stack, before)
        if not found:
            break
        await asyncio.sleep(0.25)
    new = [each for each in unclean(stack) if each not in stack.told]
    stack.told.update(new)
    return found + new


async def _broken(stack: Stack, before: Levels) -> list[str]:
    found = []
    try:
        metrics = await get(stack.gateway.port, "/metrics", bearer(ADMIN))
        if not re.search(rb"num_requests_running 0\n", metrics.body) or not re.search(rb"num_requests_waiting 0\n", metrics.body):
            found.append("a place in the gateway's queue is held")
        for worker in stack.workers:
            status = (await ask(worker.port, "POST", "/worker_get_status", {}, bearer(SECRET))).json()
            if status["queue_length"] != 0:
                found.append("a place in a worker's queue is held")
        now = levels(stack)
        if await golden(stack) != stack.golden:
            found.append("the golden request has another answer")
    except (OSError, ValueError, TimeoutError) as error:
        return [f"a server does not answer ({type(error).__name__})"]
    for name, (fds, threads, children) in now.counts.items():
        was = before.counts.get(name, (fds, threads, children))
        if fds > was[0] + 24 or threads > was[1] + 24 or children != was[2]:  # idle connections between them, and idle threads, come and go
            found.append(f"{name} holds {fds} descriptors, {threads} threads, {children} processes; before {was}")
    return found


def unclean(stack: Stack) -> list[str]:
    """What must never be: calls of the canary, secrets or texts in a log, files left over, a torn chain of the audit log."""
    found = [f"the canary was called: {path}" for path in stack.trap.hits]
    found += [f"{path.name} is left in the temporary folder" for path in (stack.folder / "tmp").iterdir()]
    for running in stack.programs:
        log = running.log.read_text(encoding="utf-8", errors="replace")
        found += [f"{running.log.name} holds {word[:24]!r}" for word in SENTINELS if word in log]
    try:
        verify(stack.audit)
    except UserError as error:
        found.append(f"{error}")
    return found


@dataclass
class Probe:
    """How long `/health` took to answer while a row ran, in seconds."""

    slowest: float = 0.0
    failed: int = 0


@asynccontextmanager
async def probing(running: Running) -> AsyncIterator[Probe]:
    """Ask `/health` every 50 ms while the block runs."""
    probe = Probe()

    async def watch() -> None:
        while True:
            try:
                answer: Answer = await get(running.port, "/health")
                probe.slowest = max(probe.slowest, answer.seconds)
            except (OSError, TimeoutError):
                probe.failed += 1
            await asyncio.sleep(0.05)

    task = asyncio.create_task(watch())
    try:
        yield probe
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
