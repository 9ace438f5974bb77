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
# What one person may ask about a picture, one after another.
CONVERSATION = (
    *pictures.QUESTIONS,
    "Which colour is there most of?",
    "What is in the middle of it?",
    "Does anything lie on top of something else?",
    "Which title would suit it?",
)


@dataclass(frozen=True, slots=True)
class Throughput:
    """`clients` at a time. `questions` about each picture: one, or a conversation, in which a client asks all of them, in order, about a
    picture of its own, whose prefix is known after the first one. `tokens_per_second`: all that the model wrote, in all steps.

    Rates are those of the answers that came while all clients were at work. `ratio`: tokens a second over those of the first level, which
    is one client if not chosen otherwise. `released`: of all answers, those that were the model's own; `lost`: requests without an answer.
    """

    model: str
    way: str
    clients: int
    questions: int
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
        self._use(1)

    def throughput(self, levels: Sequence[int], requests: int, seed: int) -> Iterator[Throughput]:
        """One round: single questions, then conversations; each level unguarded and guarded, with pictures that come nowhere else.
        Before it all servers are used by as many clients as ever."""
        self._use(max(levels))
        for questions in (1, len(CONVERSATION)):
            for mode in MODES:
                base = None
                for clients in levels:
                    record = self._measure(mode, clients, questions, self._asked(questions, clients, requests, seed), base)
                    base = base or record.tokens_per_second
                    yield record

    def _use(self, clients: int) -> None:
        bodies = [self._body(chat, "guard", stream=False) for chat in self._chats(2 * clients, 0)]
        asyncio.run(drive(self._gateway, CHAT, bodies, clients))

    def _asked(self, questions: int, clients: int, requests: int, seed: int) -> list[Chat]:
        if questions == 1:
            return self._chats(max(requests, 6 * clients), seed)
        asked = conversations(clients, requests)
        numbers = dict.fromkeys(number for number, _ in asked)
        drawn = dict(zip(numbers, self._chats(len(numbers), seed), strict=True))
        return [Chat.ask(question, drawn[number].images) for number, question in asked]

    def _measure(self, mode: str, clients: int, questions: int, chats: Sequence[Chat], base: float | None) -> Throughput:
        turns = 1 if questions == 1 else len(chats) // clients
        bodies = [self._body(chat, mode, stream=False) for chat in chats]
        load = asyncio.run(drive(self._gateway, CHAT, bodies, clients, turns=turns))
        came = [(at, got) for (_, at), got in zip(load.spans, load.answers, strict=True) if got is not None and got.status == 200]
        if not came:
            raise EngineError(f"The model {self.model} answered none of {len(chats)} requests.")
        begin, end = load.steady(clients, turns)
        timed = [got for at, got in came if begin < at <= end]
        tokens = sum(got.json()["usage"]["completion_tokens"] for got in timed) / (end - begin)
        own = sum(got.headers["x-llava-guard-verdict"] in ("safe", "bypassed") for _, got in came) / len(came)
        lost, answers = len(chats) - len(came), len(timed) / (end - begin)
        ratio = tokens / (base or tokens)
        return Throughput(self.model, MODES[mode], clients, questions, len(chats), lost, answers, tokens, ratio, own)

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


def conversations(clients: int, requests: int) -> list[tuple[tuple[int, int], str]]:
    """At least `requests` questions in conversations: each with its picture, a client's number and the picture's among that client's.

    Every client has the same share, all of it neighbours: one conversation, or two where there is only one client. They begin at different
    places in them, so that while all are at work new pictures come as often, and as evenly, as from people.
    """
    length = len(CONVERSATION)
    each = max(length, -(-max(requests, 2 * length) // clients))
    places = [(client, (length // 2 + length * client // clients) % length) for client in range(clients)]
    return [((client, at // length), CONVERSATION[at % length]) for client, begin in places for at in range(begin, begin + each)]


def _answered(got: Got | None) -> Got:
    if got is None or got.status != 200:
        raise EngineError("A request was not answered.")
    return got
