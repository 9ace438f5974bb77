"""Rows 7, 8, 10 and 12: workers that die, hang or are not there, in each step."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import signal
import time
from collections.abc import Sequence
from typing import Any

import openai
import psutil

from tests.resilience.client import official, told
from tests.resilience.matrix import row
from tests.resilience.play import REFUSED, SAFE, STEPS
from tests.resilience.stack import ADMIN, KEY, SECRET, Cluster, Running, Stack, beside, counts, until
from tests.resilience.talk import CHAT, Answer, ask, bearer, check_answer, check_said, get, question
from tests.resilience.tally import Lost, Tally, expect, spread

KINDS = list(itertools.product(STEPS, (False, True)))  # step, stream
FAILED = {502, 503}
IMPATIENT = ("--timeout", "8", "--engine-option", "first_timeout=3", "--engine-option", "idle_timeout=4")
CLUSTERS = 4  # in which workers are stopped side by side


@row(7, "kill -9 of a worker in each step, whole and streamed", "answered by another worker, or 502/503; never a part of an answer")
async def killed(stack: Stack, tally: Tally) -> None:
    once: list[float] = []
    always: list[float] = []
    async with official(stack.gateway.port) as client:
        for at, (step, stream) in enumerate(KINDS * stack.many(15, 1)):
            late = "die_late" if step in ("answer", "caption") and len(once) % 3 == 0 else "die"
            with tally.trial(f"a worker dies in {step}"):
                answer = await _asked(stack, f"mood(harmful) fault({step}={late}#{secrets.token_hex(6)})", stream)
                check_answer(answer, {200})
                check_said(answer, SAFE)
                once.append(answer.seconds)
            with tally.trial(f"all workers die in {step}"):
                body = question(f"mood(harmful) fault({step}={late})", stream=stream)
                if at % 3:
                    answer = await ask(stack.gateway.port, "POST", CHAT, body, bearer(KEY))
                    check_answer(answer, FAILED)
                    always.append(answer.seconds)
                else:
                    said = await told(client, body)
                    expect(said.status in FAILED and said.proper, f"the official client is told {said}")
            await stack.all_know(2)
    tally.figures |= {"with another worker": spread(once), "time to the error": spread(always)}


@row(8, "a worker is stopped (SIGSTOP), hangs or drips, in each step", "504 or 503 at the deadline; others go on serving")
async def silent(stack: Stack, tally: Tally) -> None:
    slow = await stack.new_gateway(*IMPATIENT, "--max-running", "128")
    cases = (KINDS if stack.scale >= 0.5 else KINDS[::4]) * stack.many(20, 1)
    clusters = [await stack.new_cluster(2, *IMPATIENT) for _ in range(min(CLUSTERS, len(cases)))]
    detected: list[float] = []
    try:
        stops = [_all_stopped(stack, tally, cluster, cases[at :: len(clusters)]) for at, cluster in enumerate(clusters)]
        await asyncio.gather(_all_late(stack, tally, slow.port, detected), *stops)
    finally:
        slow.kill()
        for cluster in clusters:
            cluster.kill()
    tally.figures["time to the error"] = spread(detected)


async def _all_late(stack: Stack, tally: Tally, port: int, detected: list[float]) -> None:
    """Four rounds at a time, which two workers can hold."""
    works = list(itertools.product(KINDS, ("hang", "drip"))) * stack.many(20, 1)
    detected += await beside(80, (_late(tally, port, step, way, stream) for (step, stream), way in works))


async def _late(tally: Tally, port: int, step: str, way: str, stream: bool) -> float:
    begin = time.monotonic()
    with tally.trial(f"{step} {way}"):
        answer = await ask(port, "POST", CHAT, question(f"mood(harmful) fault({step}={way})", stream=stream), bearer(KEY))
        check_answer(answer, {504} if step == "answer" else {503})
        expect(answer.seconds < 25, f"it took {answer.seconds:.0f} s")
    return time.monotonic() - begin


async def _all_stopped(stack: Stack, tally: Tally, cluster: Cluster, cases: Sequence[tuple[str, bool]]) -> None:
    for step, stream in cases:
        await _stopped(stack, tally, cluster, step, stream)


async def _stopped(stack: Stack, tally: Tally, cluster: Cluster, step: str, stream: bool) -> None:
    """One worker stops in that step; the other takes over, also for those who come meanwhile."""
    text, port = f"mood(harmful) fault({step}=stop#{secrets.token_hex(6)})", cluster.gateway.port
    with tally.trial(f"a worker is stopped in {step}"):
        first = asyncio.create_task(ask(port, "POST", CHAT, question(text, stream=stream), bearer(KEY)))
        await asyncio.sleep(0.5)
        others = await asyncio.gather(*(ask(port, "POST", CHAT, question("?"), bearer(KEY)) for _ in range(2)))
        for other in others:
            check_answer(other, {200})
        answer = await first
        check_answer(answer, {200, 502, 503, 504})
        check_said(answer, SAFE)
    for worker in cluster.workers:
        _wake(worker.tree())
    await stack.all_know(2, cluster.controller)


def _wake(processes: list[psutil.Process]) -> None:
    for process in processes:
        process.send_signal(signal.SIGCONT)


@row(10, "the check, caption, second answer or its check fails, in each way", "503 guard_unavailable, or the safe path; never the draft")
async def the_guard_fails(stack: Stack, tally: Tally) -> None:
    ways = ["engine", "overloaded", "user", "context", "late", "defect", "memory", "cancelled"]
    texts = ["empty", "blank", "unclear", "cut", "garbage", "long"]
    released = 0
    for _ in range(stack.many(4, 1)):
        for way, (step, stream) in stack.share(itertools.product(ways + texts, [kind for kind in KINDS if kind[0] != "answer"])):
            mood = "worst" if step == "regenerate" else "harmful"  # the last check must not clear what is marked
            with tally.trial(f"{step} {way}"):
                answer = await _asked(stack, f"mood({mood}) fault({step}={way})", stream)
                check_answer(answer, {503} if way in ways else {200, 503}, {"guard_unavailable"})
                if answer.status == 200 and answer.said not in ([SAFE], [REFUSED]):
                    released += 1
                    raise Lost(f"it said {answer.said}")
    tally.figures["drafts released"] = str(released)


@row(
    12,
    "no worker, all workers full, one key too greedy, a model that is not there; asked by hand and with the official client",
    "503 or 429 with Retry-After, 404 model_not_found; one error each",
)
async def nobody_there(stack: Stack, tally: Tally) -> None:
    await _greedy(stack, tally)
    hub = await stack.new_controller()
    worker = await stack.new_worker(hub, "--running", "1", "--waiting", "0")
    await stack.all_know(1, hub)
    gateway = await stack.new_gateway(controller=hub)
    try:
        async with official(gateway.port) as client:
            await _full(stack, tally, gateway.port, worker, client)
            worker.signal(signal.SIGTERM)
            await worker.end(60)
            await _gone(stack, tally, gateway.port, client)
        await _comes_back(stack, tally, hub, gateway.port, worker.port)
    finally:
        for running in (gateway, worker, hub):
            running.kill()


async def _full(stack: Stack, tally: Tally, port: int, worker: Running, client: openai.AsyncOpenAI) -> None:
    """The only place of the only worker is taken."""
    busy = await _hanging(port, worker)
    for number in range(stack.many(100)):
        stream = number % 2 == 1
        with tally.trial("all workers are full"):
            check_answer(await ask(port, "POST", CHAT, question("?", stream=stream), bearer(KEY)), {429}, {"overloaded"})
        with tally.trial("a model that is not there"):
            missing = question("?") | {"model": f"ghost{number}"}
            check_answer(await ask(port, "POST", CHAT, missing, bearer(KEY)), {404}, {"model_not_found"})
        if number % 4 == 0:
            for body, status in ((question("?", stream=stream), 429), (missing, 404)):
                await _raises(tally, client, body, status)
    busy.cancel()


async def _hanging(port: int, worker: Running) -> asyncio.Task[Answer]:
    """A request that holds the worker's place. It is asked again where it found the place taken: by the gateway's own first call."""
    asking: list[asyncio.Task[Answer]] = []

    async def holds() -> bool:
        if not asking or asking[-1].done():
            asking.append(asyncio.create_task(ask(port, "POST", CHAT, question("fault(answer=hang)"), bearer(KEY))))
            await asyncio.sleep(1)
        status = (await ask(worker.port, "POST", "/worker_get_status", {}, bearer(SECRET))).json()
        return bool(status["queue_length"]) and not asking[-1].done()

    await until(holds)
    return asking[-1]


async def _gone(stack: Stack, tally: Tally, port: int, client: openai.AsyncOpenAI) -> None:
    """No worker is there."""
    shed = []
    for number in range(stack.many(100)):
        body = question("?", stream=number % 2 == 1)
        with tally.trial("no worker is there"):
            answer = await ask(port, "POST", CHAT, body, bearer(KEY))
            check_answer(answer, {503})
            shed.append(answer.seconds)
        if number % 4 == 0:
            await _raises(tally, client, body, 503)
    tally.figures["time to the error"] = spread(shed)


async def _raises(tally: Tally, client: openai.AsyncOpenAI, body: dict[str, Any], status: int) -> None:
    with tally.trial(f"the official client and {status}"):
        said = await told(client, body)
        expect(said.status == status and said.proper, f"it is told {said}")


async def _greedy(stack: Stack, tally: Tally) -> None:
    """One key may have eight requests at work; another key is served meanwhile."""
    gateway = await stack.new_gateway("--max-per-key", "8", environment={"LLAVA_API_KEY": f"{KEY},{KEY}-2,admin:{ADMIN}"})
    hanging = [asyncio.create_task(ask(gateway.port, "POST", CHAT, question("fault(answer=hang)"), bearer(KEY))) for _ in range(8)]
    await until(lambda: counts(gateway.port, 8))
    for _ in range(stack.many(50)):
        with tally.trial("one request too many of a key"):
            check_answer(await ask(gateway.port, "POST", CHAT, question("?"), bearer(KEY)), {429}, {"too_many_requests"})
        with tally.trial("another key meanwhile"):
            check_answer(await ask(gateway.port, "POST", CHAT, question("?"), bearer(f"{KEY}-2")), {200})
    for each in hanging:
        each.cancel()
    gateway.kill()


async def _comes_back(stack: Stack, tally: Tally, hub: Running, gateway: int, port: int) -> None:
    """A new worker is used without anybody's doing."""
    again = await stack.new_worker(hub, port=port)

    async def answered() -> bool:
        return (await ask(gateway, "POST", CHAT, question("?"), bearer(KEY))).status == 200

    with tally.trial("a worker comes back"):
        tally.figures["back after"] = f"{await until(answered, seconds=15):.1f} s"
    again.kill()
    with tally.trial("the gateway is there at the end"):
        expect((await get(gateway, "/metrics", bearer(ADMIN))).status == 200, "it is gone")


async def _asked(stack: Stack, text: str, stream: bool) -> Answer:
    return await ask(stack.gateway.port, "POST", CHAT, question(text, stream=stream), bearer(KEY))
