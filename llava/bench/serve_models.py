"""Real models through gateway, controller and worker: tokens a second with one client and with many, and when the first text comes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from statistics import median

from llava.bench import pictures
from llava.bench.serve_client import HOST, Got, drive
from llava.bench.serve_overhead import CHAT
from llava.bench.serve_servers import Servers
from llava.chat import Call, Chat, Sampling
from llava.engines import connect
from llava.errors import EngineError

MODES = {"off": "unguarded", "guard": "guarded"}  # the gateway's mode -> what it is called here


@dataclass(frozen=True, slots=True)
class Throughput:
    """`clients` at a time, each question about a picture of its own. `tokens_per_second`: all that the model wrote, in all steps.

    Rates are those of the answers that came while all clients were at work. `ratio`: tokens a second over those of the first level, which
    is one client if not chosen otherwise. `released`: of all answers, those that were the model's own; `lost`: requests without an answer.
    """

    model: str
    way: str
    clients: int
    requests: int
    lost: int
    answers_per_second: float
    tokens_per_second: float
    ratio: float
    released: float


@dataclass(frozen=True, slots=True)
class First:
    """Seconds from the request to the first text and to the last (medians, one client); `ratio`: `first` over that of the worker."""

    model: str
    way: str
    requests: int
    first: float
    whole: float
    ratio: float


class House:
    """One model behind a worker, a controller and a gateway whose requests may switch the guard off."""

    def __init__(self, servers: Servers, model: str, target: str, tokens: int, policy: str = "guard") -> None:
        self.model = model
        self._tokens = tokens
        self._hub = servers.cluster("--model-path", target)
        self._gateway = servers.gateway(f"controller://{HOST}:{self._hub}", "--allow-override", "--policy", policy)
        self._name = target.rpartition("/")[2]
        self._round = 0
        asyncio.run(drive(self._gateway, CHAT, [self._body(chat, "guard", stream=False) for chat in self._chats(2, 0)], 1))  # warms it up

    def throughput(self, levels: Sequence[int], requests: int, seed: int) -> Iterator[Throughput]:
        """One round: each level unguarded and guarded, with pictures that come nowhere else."""
        for mode in MODES:
            base = None
            for clients in levels:
                record = self._measure(mode, clients, self._chats(max(requests, 6 * clients), seed), base)
                base = base or record.tokens_per_second
                yield record

    def _measure(self, mode: str, clients: int, chats: Sequence[Chat], base: float | None) -> Throughput:
        load = asyncio.run(drive(self._gateway, CHAT, [self._body(chat, mode, stream=False) for chat in chats], clients))
        came = [(at, got) for (_, at), got in zip(load.spans, load.answers, strict=True) if got is not None and got.status == 200]
        if not came:
            raise EngineError(f"The model {self.model} answered none of {len(chats)} requests.")
        begin, end = load.steady(clients)
        timed = [got for at, got in came if begin < at <= end]
        tokens = sum(got.json()["usage"]["completion_tokens"] for got in timed) / (end - begin)
        own = sum(got.headers["x-llava-guard-verdict"] in ("safe", "bypassed") for _, got in came) / len(came)
        lost, answers = len(chats) - len(came), len(timed) / (end - begin)
        return Throughput(self.model, MODES[mode], clients, len(chats), lost, answers, tokens, tokens / (base or tokens), own)

    def first(self, requests: int, seed: int) -> Iterator[First]:
        """One round: the worker's own stream, then the gateway's, without the guard and with it."""
        base = None
        for way in ("the worker's stream, unguarded", *(f"gateway, {said}" for said in MODES.values())):
            chats = self._chats(requests, seed)
            mode = next((mode for mode, said in MODES.items() if way == f"gateway, {said}"), None)
            seconds = asyncio.run(self._worker(chats)) if mode is None else self._streamed(chats, mode)
            first, whole = (median(column) for column in zip(*seconds, strict=True))
            base = base or first
            yield First(self.model, way, len(seconds), first, whole, first / base)

    def _streamed(self, chats: Sequence[Chat], mode: str) -> list[tuple[float, float]]:
        load = asyncio.run(drive(self._gateway, CHAT, [self._body(chat, mode, stream=True) for chat in chats], 1))
        return [(got.first, got.seconds) for got in map(_answered, load.answers)]

    async def _worker(self, chats: Sequence[Chat]) -> list[tuple[float, float]]:
        engine, found = connect(f"controller://{HOST}:{self._hub}"), []
        for chat in chats:
            begin, first = time.perf_counter(), 0.0
            async with aclosing(engine.stream(Call("answer", chat, Sampling(max_tokens=self._tokens)))) as deltas:
                async for delta in deltas:
                    first = first or (time.perf_counter() - begin if delta.text else 0.0)
            found.append((first, time.perf_counter() - begin))
        await engine.close()
        return found

    def _chats(self, count: int, seed: int) -> list[Chat]:
        self._round += 1  # no picture twice: the worker would know it
        return pictures.chats(count, 1, 1000 * seed + self._round)

    def _body(self, chat: Chat, mode: str, *, stream: bool) -> bytes:
        image = {"type": "image_url", "image_url": {"url": chat.images[0].data_url()}}
        messages = [{"role": "user", "content": [image, {"type": "text", "text": chat.question}]}]
        sampling = {"temperature": 0, "max_tokens": self._tokens, "stream": stream}
        return json.dumps({"model": self._name, "messages": messages, "guard": {"mode": mode}, **sampling}).encode()


def _answered(got: Got | None) -> Got:
    if got is None or got.status != 200:
        raise EngineError("A request was not answered.")
    return got
