"""What the gateway itself costs: a scripted model asked directly and through it. And whether many open streams lose anything.

The scripted model's time is known exactly, so that what is above it is the servers' and the network's. Every byte of every answer is
checked.
"""

from __future__ import annotations

import asyncio
import json
import math
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llava.bench import pictures
from llava.bench.serve_client import HOST, Client, Got, Load, drive, streamed_text
from llava.bench.serve_scripted import MODEL, Script, said
from llava.bench.serve_servers import Servers, against
from llava.chat import Image
from llava.errors import EngineError

CHAT = "/v1/chat/completions"
STREAM = "/worker_generate_stream"
WAYS = ("directly", "gateway, mode off", "gateway, guarded")
RARE = 0.99


@dataclass(frozen=True, slots=True)
class Overhead:
    """Seconds of a request beyond the model's own: the median and the 99th percentile.

    `added`: how much more than directly. `outside`: what is left of a request without the gateway's calls of its engine, which it tells
    itself (Server-Timing): the gateway's own work without its client for the server behind; None where nobody tells, as without a gateway
    and where the guard is off. `picture`: each request has a picture of its own. `lost`: requests whose answer was not what the model said,
    byte for byte.
    """

    way: str
    clients: int
    picture: bool
    requests: int
    lost: int
    p50: float
    p99: float
    added50: float
    added99: float
    outside50: float | None
    outside99: float | None
    answers_per_second: float


@dataclass(frozen=True, slots=True)
class Streams:
    """`open`: how many answers the model held open at one time, none of which it ended before all were open."""

    way: str
    streams: int
    open: int
    lost: int
    mib: float
    seconds: float


class Desk:
    """A scripted model and a gateway before it, whose requests may switch the guard off."""

    def __init__(self, servers: Servers, script: Script) -> None:
        self.script = script
        self.model = servers.scripted(script)
        self.gateway = servers.gateway(f"http://{HOST}:{self.model}/v1", "--allow-override")
        # Before its first picture a gateway finds out, once, whether the server behind shows its model pictures.
        asyncio.run(drive(self.gateway, CHAT, [json.dumps(request).encode() for request in _requests(WAYS[2], 1, True, 0)], 1))

    def round(self, levels: Sequence[int], per_client: int, seed: int) -> Iterator[Overhead]:
        """One round: texts at each level, and pictures at the last one."""
        for picture, clients in (*((False, level) for level in levels), (True, levels[-1])):
            count, base = _count(clients, per_client), None
            for way in WAYS:
                record = self._measure(way, clients, _requests(way, count, picture, seed), base)
                base = base or record
                yield record

    def _measure(self, way: str, clients: int, requests: list[Any], base: Overhead | None) -> Overhead:
        guarded = way == WAYS[2]
        own = self.script.seconds(guarded)
        port = self.model if way == WAYS[0] else self.gateway
        load = asyncio.run(drive(port, CHAT, [json.dumps(request).encode() for request in requests], clients, own))
        pairs = zip(requests, load.answers, strict=True)
        fine = [got for request, got in pairs if got is not None and _is_whole(got, _text(request), self.script)]
        if not fine:
            raise EngineError(f"No request was answered as the script says ({way}).")
        p50, p99 = _percentiles([got.seconds - own for got in fine])
        told = [got.seconds - inside for got in fine if (inside := _inside(got)) is not None]
        outside50, outside99 = _percentiles(told) if told else (None, None)
        added = (p50 - base.p50, p99 - base.p99) if base else (0.0, 0.0)
        picture, lost = not isinstance(requests[0]["messages"][0]["content"], str), len(requests) - len(fine)
        rate = len(requests) / load.seconds
        return Overhead(way, clients, picture, len(requests), lost, p50, p99, *added, outside50, outside99, rate)


def _inside(got: Got) -> float | None:
    """Seconds that the gateway's calls of its engine took, all steps together; None where the answer does not tell them."""
    told = got.headers.get("server-timing")
    return None if told is None else sum(float(step.partition("dur=")[2]) for step in told.split(",")) / 1e3


def _count(clients: int, per_client: int) -> int:
    return clients * max(per_client, math.ceil(2.5 * per_client / clients))


def _requests(way: str, count: int, picture: bool, seed: int) -> list[Any]:
    """Chat requests with questions, and pictures, that come nowhere else."""
    found = []
    for number in range(count):
        text = f"What do you see, {way} {seed} {number}?"
        content: Any = text
        if picture:
            url = Image(pictures.drawn(1_000_000 * seed + number)).data_url()
            content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
        mode = {"guard": {"mode": "off"}} if way == WAYS[1] else {}
        found.append({"model": MODEL, "messages": [{"role": "user", "content": content}], "stream": True, **mode})
    return found


def _text(request: Any) -> str:
    content = request["messages"][0]["content"]
    return str(content if isinstance(content, str) else content[1]["text"])


def _is_whole(got: Got | None, question: str, script: Script) -> bool:
    """Whether this is the answer to that question and nothing else."""
    try:
        return got is not None and got.status == 200 and streamed_text(got.content) == "".join(said(question, script.pieces))
    except (ValueError, KeyError):
        return False


def _percentiles(values: Sequence[float]) -> tuple[float, float]:
    """The median and the one of `RARE`, values that occurred."""
    ordered = sorted(values)
    median, rare = (ordered[math.ceil(share * len(ordered)) - 1] for share in (0.5, RARE))
    return median, rare


def streams(servers: Servers, count: int, script: Script, seed: int) -> Iterator[Streams]:
    """`count` streams, open at one time: guarded, through the gateway; and LLaVA's own, through controller and worker."""
    room = ("--timeout", "900", "--max-running", str(count), "--max-waiting", str(count))
    model = servers.scripted(script)
    gateway = servers.gateway(f"http://{HOST}:{model}/v1", "--model", MODEL, *room)
    asked = _requests(WAYS[2], count, False, seed)
    load = asyncio.run(drive(gateway, CHAT, [json.dumps(request).encode() for request in asked], count))
    whole = sum(_is_whole(got, _text(request), script) for request, got in zip(asked, load.answers, strict=True))
    yield _streams("gateway, guarded", model, load, whole)

    model = servers.scripted(script)
    hub = servers.cluster(*against(model), "--limit-model-concurrency", str(count))
    _until_listed(hub)
    questions = [_text(request) for request in asked]
    bodies = [json.dumps({"model": MODEL, "prompt": question, "max_new_tokens": 512}).encode() for question in questions]
    load = asyncio.run(drive(hub, STREAM, bodies, count))
    whole = sum(_is_whole_original(got, question, script) for question, got in zip(questions, load.answers, strict=True))
    yield _streams("controller and worker, LLaVA's stream", model, load, whole)


def _streams(way: str, model: int, load: Load, whole: int) -> Streams:
    with urllib.request.urlopen(f"http://{HOST}:{model}/v1/models") as found:
        most = int(json.load(found)["most_open"])
    count, size = len(load.answers), sum(len(got.content) for got in load.answers if got)
    return Streams(way, count, most, count - whole, size / 2**20, load.seconds)


def _is_whole_original(got: Got | None, question: str, script: Script) -> bool:
    """LLaVA's form: every object holds the prompt and all text so far, and the last one all of it."""
    if got is None or got.status != 200 or not got.content.endswith(b"\0"):
        return False
    answer = question + "".join(said(question, script.pieces))
    before = question
    for item in got.content[:-1].split(b"\0"):
        fields = json.loads(item)
        if fields.get("error_code") != 0 or not fields["text"].startswith(before) or not answer.startswith(fields["text"]):
            return False
        before = fields["text"]
    return before == answer


def _until_listed(hub: int) -> None:
    """Wait until the worker has told the controller that it is there."""

    async def main() -> None:
        async with asyncio.timeout(60), Client(hub) as client:
            while MODEL not in (await client.post("/list_models", b"{}")).json()["models"]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    asyncio.run(main())
