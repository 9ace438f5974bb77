"""Rows 1 to 6: many clients, too many clients, slow clients, clients that leave; hours of all of it."""

from __future__ import annotations

import asyncio
import random
import re
import secrets
import time
from collections import Counter

import openai

from tests.resilience.bundle import broken, levels
from tests.resilience.client import official, told
from tests.resilience.matrix import row
from tests.resilience.play import STEPS
from tests.resilience.stack import ADMIN, KEY, SECRET, Stack, beside, counts, until
from tests.resilience.talk import CHAT, Answer, ask, bearer, check_answer, get, question, request, send
from tests.resilience.tally import Tally, expect, quantile, spread


@row(
    1,
    "1, 8, 32 and 128 clients at a time, each with a word of its own; every fifth request by the official client",
    "200, and nobody gets another one's word",
)
async def many_clients(stack: Stack, tally: Tally) -> None:
    async with official(stack.gateway.port) as program:
        for clients in (1, 8, 32, 128):
            seconds: list[float] = []
            begin = time.monotonic()
            await beside(clients, (_client(stack, tally, program, number, seconds) for number in range(stack.many(400, clients))))
            rate = len(seconds) / (time.monotonic() - begin)
            tally.figures[f"{clients} clients"] = f"{spread(seconds)}, {rate:.0f}/s"


async def _client(stack: Stack, tally: Tally, program: openai.AsyncOpenAI, number: int, seconds: list[float]) -> None:
    word, begin = secrets.token_hex(8), time.monotonic()
    body = question(f"mood({('benign', 'harmful')[number % 2]}) echo({word})", stream=number % 3 == 0)
    with tally.trial("a client among many"):
        if number % 5:
            answer = await ask(stack.gateway.port, "POST", CHAT, body, bearer(KEY))
            check_answer(answer, {200})
            text = answer.text
        else:
            text = (await told(program, body)).text
        expect(re.findall(r"\b[0-9a-f]{16}\b", text) == [word], "another client's word, or none")
        seconds.append(time.monotonic() - begin)


@row(
    2, "four times as many requests as there is room for, on a fixed beat", "the rest get 429 with Retry-After at once; recovers within 5 s"
)
async def overload(stack: Stack, tally: Tally) -> None:
    gateway = await stack.new_gateway("--max-running", "4", "--max-waiting", "8")
    each = 0.25
    beat = each / 4 / 4
    shed: list[float] = []
    served: list[float] = []

    async def one() -> None:
        with tally.trial("a request of the storm"):
            answer = await ask(gateway.port, "POST", CHAT, question(f"slow({round(1000 * each)})"), bearer(KEY))
            check_answer(answer, {200, 429}, {"overloaded"})
            (served if answer.status == 200 else shed).append(answer.seconds)

    asking = []
    for _ in range(stack.many(round(300 / beat), 120)):
        asking.append(asyncio.create_task(one()))
        await asyncio.sleep(beat)
    await asyncio.gather(*asking)

    async def answered() -> bool:
        return (await ask(gateway.port, "POST", CHAT, question("?"), bearer(KEY))).status == 200

    with tally.trial("recovers"):
        seconds = await until(answered, seconds=5)
        tally.figures["recovered after"] = f"{seconds:.2f} s"
    tally.figures |= {"served": f"{len(served)}, {spread(served)}", "turned away": f"{len(shed)}, {spread(shed)}"}
    gateway.kill()


@row(
    3,
    "hundreds of connections that say nothing, drip their head or drip their body",
    "closed at the deadline, 408 for a body; others are served",
)
async def slow_senders(stack: Stack, tally: Tally) -> None:
    gateway = await stack.new_gateway("--cap", "body_seconds=5")
    head = request("POST", CHAT, question("?"), bearer(KEY))
    fine: list[float] = []

    async def healthy() -> None:
        while True:
            answer = await ask(gateway.port, "POST", CHAT, question("?"), bearer(KEY))
            expect(answer.status == 200, "a healthy client is not served")
            fine.append(answer.seconds)
            await asyncio.sleep(0.1)

    async def drip(start: bytes, rest: bytes, statuses: set[int]) -> None:
        with tally.trial("a slow sender"):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(start)
            feeding = asyncio.create_task(_drip(writer, rest))
            try:
                async with asyncio.timeout(25):
                    got = await _to_end(reader)
            finally:
                feeding.cancel()
                writer.transport.abort()
            expect(Answer(got).status in statuses, f"status {Answer(got).status}")

    beside = asyncio.create_task(healthy())
    cut = head.index(b"\r\n\r\n") + 4
    kinds = [(b"", b"", {0}), (head[:40], head[40:cut], {0, 400}), (head[:cut], head[cut:], {408})]
    await asyncio.gather(*(drip(*kinds[number % 3]) for number in range(stack.many(500, 30))))
    beside.cancel()
    await asyncio.gather(beside, return_exceptions=True)
    with tally.trial("the healthy client"):
        expect(fine and not (beside.done() and not beside.cancelled() and beside.exception()), "it was not served")
    tally.figures["healthy client"] = spread(fine)
    gateway.kill()


async def _drip(writer: asyncio.StreamWriter, rest: bytes) -> None:
    for byte in rest:
        await asyncio.sleep(1)
        writer.write(bytes([byte]))


async def _to_end(reader: asyncio.StreamReader) -> bytes:
    got = b""
    try:
        while part := await reader.read(2**16):
            got += part
    except ConnectionError:
        pass
    return got


@row(4, "clients that stop reading in the middle of an answer", "the connection is closed at the write deadline, the place is free")
async def slow_readers(stack: Stack, tally: Tally) -> None:
    free = await stack.new_gateway("--mode", "off")
    await asyncio.gather(*(_stalls(stack, tally, free.port, number % 2 == 0) for number in range(stack.many(60))))
    with tally.trial("the places are free"):
        await until(lambda: counts(free.port, 0), seconds=5)
    free.kill()


async def _stalls(stack: Stack, tally: Tally, gateway: int, worker: bool) -> None:
    with tally.trial("a reader that stops"):
        port = stack.workers[0].port if worker else gateway
        asked = (
            {"model": "tiny", "prompt": "USER: fault(answer=vast) ASSISTANT:"} if worker else question("fault(answer=huge)", stream=True)
        )
        path, key = ("/worker_generate_stream", SECRET) if worker else (CHAT, KEY)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**12)
        try:
            writer.write(request("POST", path, asked, bearer(key)))
            expect((await reader.read(100)).startswith(b"HTTP/1.1 200"), "no answer began")
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await until(lambda: _gone(port, writer), seconds=60)
        finally:
            writer.transport.abort()


async def _gone(port: int, writer: asyncio.StreamWriter) -> bool:
    """Whether the server has let the connection go: none to this client's port in the kernel's table belongs to a process.

    What the server gave to the kernel before may stay there, without an owner, for as long as the client lives and takes nothing.
    """
    await asyncio.sleep(0.5)
    mine = f":{writer.get_extra_info('sockname')[1]:04X}"
    with open("/proc/net/tcp", encoding="ascii") as table:  # noqa: ASYNC230, PTH123 - a few lines of the kernel's
        rows = [line.split() for line in table][1:]
    return not any(words[1].endswith(f":{port:04X}") and words[2].endswith(mine) and words[9] != "0" for words in rows)


@row(
    5,
    "clients that leave: before the body's end, in the queue, in each step, while they are sent to",
    "the model's call ends within a second; no place stays taken",
)
async def leavers(stack: Stack, tally: Tally) -> None:
    ended: list[float] = []
    for _ in range(stack.many(40, 2)):
        for step in STEPS:
            with tally.trial(f"leaves in {step}"):
                await _leave(stack, f"mood(harmful) fault({step}=hang)", 0.3)
                ended.append(await until(lambda: _idle(stack), seconds=1))
        for share in (0.3, 0.9):
            with tally.trial("leaves before the body's end"):
                data = request("POST", CHAT, question("?"), bearer(KEY))
                _, writer = await asyncio.open_connection("127.0.0.1", stack.gateway.port)
                writer.write(data[: round(share * len(data))])
                await asyncio.sleep(0.02)
                writer.transport.abort()
                await until(lambda: _idle(stack), seconds=5)
        with tally.trial("leaves at any moment"):
            await _leave(stack, "mood(harmful)", random.random() / 20)
            await until(lambda: _idle(stack), seconds=5)
    await _leave_a_small_one(stack, tally)
    tally.figures["the model's call ended after"] = spread(ended)


async def _leave_a_small_one(stack: Stack, tally: Tally) -> None:
    """A gateway with one place, where answers are sent as they come."""
    small = await stack.new_gateway("--mode", "off", "--max-running", "1", "--max-waiting", "2")
    for _ in range(stack.many(40, 2)):
        with tally.trial("leaves in the queue"):
            first = await _sent(small.port, "fault(answer=hang)")
            await until(lambda: counts(small.port, 1), seconds=5)
            second = await _sent(small.port, "?")
            await until(lambda: counts(small.port, 1, waiting=1), seconds=5)
            second[1].transport.abort()
            await until(lambda: counts(small.port, 1), seconds=1)
            first[1].transport.abort()
            await until(lambda: counts(small.port, 0), seconds=1)
        with tally.trial("leaves while it is sent to"):
            reader, writer = await _sent(small.port, "fault(answer=huge)", stream=True)
            expect((await reader.read(1000)).startswith(b"HTTP/1.1 200"), "no answer began")
            writer.transport.abort()
            await until(lambda: counts(small.port, 0), seconds=5)
    small.kill()


async def _sent(port: int, text: str, **more: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**12)
    writer.write(request("POST", CHAT, question(text, **more), bearer(KEY)))
    return reader, writer


async def _leave(stack: Stack, text: str, seconds: float) -> None:
    _, writer = await _sent(stack.gateway.port, text)
    await asyncio.sleep(seconds)
    writer.transport.abort()


async def _idle(stack: Stack) -> bool:
    metrics = await get(stack.gateway.port, "/metrics", bearer(ADMIN))
    status = [(await ask(worker.port, "POST", "/worker_get_status", {}, bearer(SECRET))).json() for worker in stack.workers]
    return b"num_requests_running 0\n" in metrics.body and all(each["queue_length"] == 0 for each in status)


@row(6, "hours of mixed good and bad requests", "all conditions hold at the end; memory does not grow", optional=True)
async def soak(stack: Stack, tally: Tally) -> None:
    before, begin, memory = levels(stack), time.monotonic(), []
    seen: Counter[int] = Counter()
    while time.monotonic() - begin < 3600 * stack.scale:
        await asyncio.gather(*(_mixed(stack, tally, seen) for _ in range(16)))
        memory.append(levels(stack).memory)
    settled = memory[len(memory) // 4 :]
    per_thousand = 1024 * (settled[-1] - settled[0]) / max(tally.tried * 0.75 / 1000, 1)
    tally.count("after all", await broken(stack, before))
    tally.figures |= {
        "statuses": str(dict(seen)),
        "memory": f"{quantile(settled, 0.5):.0f} MiB, {per_thousand:+.0f} KiB per 1,000 requests",
    }


async def _mixed(stack: Stack, tally: Tally, seen: Counter[int]) -> None:
    kind = random.randrange(6)
    texts = ["?", "mood(harmful)", f"mood(harmful) fault({random.choice(STEPS)}=engine)", "fault(check=garbage)", "mood(worst)"]
    with tally.trial("a request of the soak"):
        if kind == 5:
            answer = await send(stack.gateway.port, request("POST", CHAT, b'{"model": ', bearer(KEY)))
        else:
            answer = await ask(stack.gateway.port, "POST", CHAT, question(texts[kind], stream=random.random() < 0.5), bearer(KEY))
        check_answer(answer, {200, 400, 429, 502, 503})
        seen[answer.status] += 1
