"""Rows 11 and 14 to 17: processes that die, start, stop, start wrongly or find the disk full."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import socket
import time
from functools import partial
from pathlib import Path

import psutil

from tests.loopback import free_port
from tests.resilience.matrix import row
from tests.resilience.play import SAFE
from tests.resilience.stack import ADMIN, KEY, Running, Stack, beside, counts, ready, until
from tests.resilience.talk import CHAT, Answer, ask, bearer, check_answer, check_said, get, question
from tests.resilience.tally import Lost, Tally, expect, spread


@row(
    11,
    "the controller is killed and comes back, with requests under way",
    "workers register again; requests finish or get 502/503; nobody's doing",
)
async def controller_dies(stack: Stack, tally: Tally) -> None:
    own = await stack.new_cluster(2)
    gateway = own.gateway
    back: list[float] = []
    for _ in range(stack.many(30, 2)):
        asking = [asyncio.create_task(_one(gateway.port, f"mood(harmful) slow({10 * number})")) for number in range(10)]
        await asyncio.sleep(random.random() / 10)
        own.controller.kill()
        await own.controller.process.wait()
        for each in asking:
            with tally.trial("a request under way"):
                answer = await each
                check_answer(answer, {200, 502, 503})
                check_said(answer, SAFE)
        with tally.trial("a request without a controller"):
            check_answer(await _one(gateway.port, "?"), {502, 503})
        own.controller = await stack.new_controller(own.controller.port)
        begin = time.monotonic()
        with tally.trial("comes back"):
            await until(lambda: _answers(gateway.port), seconds=20)
            back.append(time.monotonic() - begin)
        await stack.all_know(2, own.controller)
    tally.figures["answers again after"] = spread(back)
    own.kill()


async def _one(port: int, text: str) -> Answer:
    return await ask(port, "POST", CHAT, question(text), bearer(KEY))


async def _answers(port: int) -> bool:
    return (await _one(port, "?")).status == 200


@row(14, "the model's forward pass raises: a defect, a device error, no memory", "that request gets an error; the next are right")
async def forward_errors(stack: Stack, tally: Tally) -> None:
    for _ in range(stack.many(50, 2)):
        for way in ("defect", "memory"):
            with tally.trial(f"step 1: {way}"):
                check_answer(await _one(stack.gateway.port, f"fault(answer={way})"), {500, 502})
            with tally.trial(f"the check: {way}"):
                check_answer(await _one(stack.gateway.port, f"mood(harmful) fault(check={way})"), {503}, {"guard_unavailable"})
            with tally.trial("the next request"):
                answer = await _one(stack.gateway.port, "?")
                check_answer(answer, {200})
                expect(answer.text == "A cat on a mat.", "another answer than before")
    tally.figures["of the local engine itself"] = "tests/engines/local"


@row(
    15,
    "SIGTERM with answers under way, twice, while loading; the parent dies",
    "what runs is finished, new is refused; exit 0; the port is free",
)
async def stopping(stack: Stack, tally: Tally) -> None:
    await beside(3, (_stopped_in_order(stack, tally) for _ in range(stack.many(25, 1))))
    await beside(3, (_impatient(stack, tally) for _ in range(stack.many(25, 1))))
    await asyncio.gather(_orphaned(stack, tally), _while_loading(stack, tally))


async def _stopped_in_order(stack: Stack, tally: Tally) -> None:
    own = await stack.new_cluster(1)
    await _drains(tally, own.gateway)
    await _stops(tally, [*own.workers, own.controller])


async def _drains(tally: Tally, gateway: Running) -> None:
    running = [asyncio.create_task(_one(gateway.port, "mood(harmful) slow(2000)")) for _ in range(4)]
    await until(lambda: counts(gateway.port, 4))
    gateway.signal(signal.SIGTERM)
    with tally.trial("a new request while it drains"):
        await until(lambda: _refuses(gateway.port))
        expect(not any(each.done() for each in running), "it refuses only after the last answer")
    with tally.trial("the exit code after SIGTERM"):
        expect(await gateway.end() == 0, f"exit code {gateway.process.returncode}")
    for each in running:
        with tally.trial("an answer under way"):
            answer = await each
            check_answer(answer, {200})
            check_said(answer, SAFE)
    with tally.trial("the port is free"):
        socket.create_server(("127.0.0.1", gateway.port)).close()


async def _stops(tally: Tally, programs: list[Running]) -> None:
    for program in programs:
        with tally.trial(f"SIGTERM to the {program.name}"):
            program.signal(signal.SIGTERM)
            expect(await program.end() == 0, f"exit code {program.process.returncode}")
            expect(not program.tree(), "a child is left")


async def _impatient(stack: Stack, tally: Tally) -> None:
    """SIGTERM twice: at once, and without waiting for what hangs."""
    gateway = await stack.new_gateway()
    hanging = asyncio.create_task(_one(gateway.port, "fault(answer=hang)"))
    await until(lambda: counts(gateway.port, 1))
    gateway.signal(signal.SIGTERM)
    await until(lambda: _refuses(gateway.port))  # two signals at once would be one
    gateway.signal(signal.SIGTERM)
    with tally.trial("told twice"):
        expect(await gateway.end(14) == 0, f"exit code {gateway.process.returncode}")
        answer = await hanging
        expect(answer.status in (0, 503), f"status {answer.status}")


async def _orphaned(stack: Stack, tally: Tally) -> None:
    """`llava serve` itself dies, in order or not: its controller and its worker go with it."""
    for number in (signal.SIGKILL, signal.SIGTERM):
        words, keys = ["llava.cli", "serve", "--engine", "scripted:A cat.|No"], {"LLAVA_API_KEY": KEY, "LLAVA_CLUSTER_SECRET": ""}
        port = free_port()
        parent = await stack.start("serve", [*words, "--port", str(port)], port, keys)
        await until(partial(ready, port), parent)
        family = parent.tree()
        parent.signal(number)
        with tally.trial(f"the parent of all dies of {number.name}"):
            expect(len(family) == 3, f"{len(family)} processes")
            await parent.end()
            left = await asyncio.to_thread(psutil.wait_procs, family, 20)
            for each in left[1]:
                each.kill()
            expect(not left[1], "a child outlives it")
            socket.create_server(("127.0.0.1", port)).close()


async def _refuses(port: int) -> bool:
    try:
        await get(port, "/health")
    except ConnectionError:
        return True
    return False


async def _while_loading(stack: Stack, tally: Tally) -> None:
    """Before it serves anything: a signal ends it, and nothing is left."""
    for seconds in (0.3, 1.0, 2.5):
        port = free_port()
        words = ["llava.serve.model_worker", "--model-path", "mini", "--no-register", "--port", str(port)]
        worker = await stack.start("loading-worker", words, port)
        await asyncio.sleep(seconds)
        worker.signal(signal.SIGTERM)
        with tally.trial("SIGTERM while loading"):
            code = await worker.end(300)
            expect(code in (0, -signal.SIGTERM), f"exit code {code}")


@row(
    16,
    "wrong starts: no checkpoint, a bad one, a taken port, a folder that cannot be written, 0.0.0.0 without a key, and others",
    "one sentence, an exit code, at once",
)
async def wrong_starts(stack: Stack, tally: Tally) -> None:
    (empty := stack.folder / "empty-model").mkdir(exist_ok=True)
    (pickled := stack.folder / "pickled-model").mkdir(exist_ok=True)
    (pickled / "config.json").write_text('{"model_type": "llava"}', encoding="utf-8")
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    gateway, worker, hub = "llava.serve.api_server", "llava.serve.model_worker", "llava.serve.controller"
    taken = str(stack.gateway.port)
    cases: list[list[str]] = [
        [gateway, "--engine", "/no/such/checkpoint"],
        [gateway, "--engine", str(empty)],
        [gateway, "--engine", str(pickled)],
        [gateway, "--engine", "ftp://x"],
        [gateway, "--engine", "http://127.0.0.1:1/v1", "--wait", "0", "--engine-option", "retries=0"],
        [gateway, "--engine", "controller://127.0.0.1:1", "--wait", "0"],
        [gateway, "--engine", "scripted:x", "--port", taken],
        [gateway, "--engine", "scripted:x", "--host", "0.0.0.0"],
        [gateway, "--engine", "scripted:x", "--audit-log", "/proc/no"],
        [gateway, "--engine", "scripted:x", "--api-key", "short"],
        [gateway, "--engine", "scripted:x", "--api-key", "@/no/such/file"],
        [gateway, "--engine", "scripted:x", "--mode", "open"],
        [gateway, "--engine", "scripted:x", "--cap", "body=-1"],
        [gateway, "--engine", "scripted:x", "--port", "99999"],
        [worker, "--model-path", "/no/such/checkpoint", "--no-register"],
        [worker, "--model-path", str(pickled), "--no-register"],
        [worker, "--engine", "scripted:x", "--worker-address", "ftp://x"],
        [worker, "--engine", "scripted:x", "--limit-model-concurrency", "0"],
        [worker, "--engine", "scripted:x", "--no-register", "--port", taken],
        [hub, "--port", taken],
        [hub, "--dispatch-method", "no"],
        [hub, "--host", "no.such.host.invalid"],
    ]  # fmt: skip
    every = cases[:: 1 if stack.scale >= 0.05 else 3] * max(1, round(2 * stack.scale))
    tally.figures["until the end"] = spread(await beside(2, (_started_wrongly(stack, tally, words) for words in every)))


async def _started_wrongly(stack: Stack, tally: Tally, words: list[str]) -> float:
    begin = time.monotonic()
    with tally.trial(" ".join(words)):
        running = await stack.start("wrong-start", words, 0, {"LLAVA_API_KEY": ""})
        code = await running.end(300)  # loading torch takes a busy machine minutes
        said = running.log.read_text(encoding="utf-8").strip().splitlines()
        expect(code in (1, 2), f"exit code {code}")
        expect(said and said[-1].startswith("llava: ") and "Traceback" not in "".join(said), f"it said {said[-1:]}")
    return time.monotonic() - begin


@row(17, "the disk is full: the audit log and the log reach a limit of the kernel", "answers go on; what was not written is counted")
async def full_disk(stack: Stack, tally: Tally) -> None:
    port, audit = free_port(), stack.folder / "full.jsonl"
    words = [
        "llava.serve.api_server",
        "--engine",
        f"controller://127.0.0.1:{stack.controller.port}",
        "--port",
        str(port),
        "--audit-log",
        str(audit),
    ]
    gateway = await stack.start("full-gateway", words, port, {"LLAVA_API_KEY": f"{KEY},admin:{ADMIN}"}, limit=20_000)
    await until(lambda: _answers(port), gateway)
    for number in range(stack.many(300, 60)):
        with tally.trial("a request on a full disk"):
            text = "?" if number % 3 else "mood(harmful) fault(recheck=engine)"  # the second kind writes to the log, too
            check_answer(await _one(port, text), {200, 503})
    with tally.trial("what was not written is counted"):
        metrics = (await get(port, "/metrics", bearer(ADMIN))).body.decode()
        failures = next((line for line in metrics.splitlines() if line.startswith("llava_guard_audit_failures_total ")), "")
        expect(failures and float(failures.split()[1]) > 0, "no failure of the audit log is counted")
    with tally.trial("what was written is whole"):
        _whole_lines(audit)
    gateway.kill()


def _whole_lines(path: Path) -> None:
    lines = path.read_bytes().splitlines()
    for number, line in enumerate(lines[:-1]):
        try:
            json.loads(line)
        except ValueError:
            raise Lost(f"line {number + 1} of {len(lines)} is torn") from None
