"""Two costs on their own: a check on a cached image, and a decode step of several rows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from llava.bench import pictures
from llava.bench.floor import floor_of_step
from llava.bench.setup import Setup, opened, warmed
from llava.chat import Call, Chat, Image, Sampling
from llava.ecso import Prompts
from llava.ecso.prompts import fill
from llava.engines.base import generate
from llava.engines.local import LocalEngine

CHECKS = 4  # pictures on which the check is timed


@dataclass(frozen=True, slots=True)
class Check:
    """Seconds until a check's verdict, its first token: in the plain way, on the engine about a new image, and about one whose prefix is
    cached; `ratio` of the two."""

    plain: float
    cold: float
    cached: float
    ratio: float


@dataclass(frozen=True, slots=True)
class Decode:
    """Tokens a second of `batch` rows that decode together, prompts not counted: plain `generate`, the engine, the machine at best."""

    batch: int
    plain: float
    engine: float
    ratio: float
    floor: float
    reached: float


def check_on_cached_prefix(setup: Setup, seed: int) -> Check:
    """Medians over some pictures; the second check about a picture has another question and another answer of the same length."""
    images = [chat.images[0] for chat in pictures.chats(CHECKS, 1, seed)]

    with opened(setup.loaded) as engine:
        pairs = [[_seconds(engine, _check(image, word)) for word in ("Which", "Where")] for image in images]
    cold, cached = (median(column) for column in zip(*pairs, strict=True))
    plain = warmed(setup.loaded)
    return Check(median(plain.answer(_check(image, "Which")).seconds for image in images), cold, cached, cached / cold)


def _check(image: Image, word: str) -> Call:
    answer = " ".join([word.lower(), *(["thing is in the picture"] * 8)])
    text = fill(Prompts().check, question=f"{word} thing is it?", answer=answer)
    return Call("check", Chat.ask(text, [image]), Sampling(max_tokens=1), 20)


def _seconds(engine: LocalEngine, *calls: Call) -> float:
    """Of all calls together."""

    async def together() -> None:
        await asyncio.gather(*(generate(engine, call) for call in calls))

    begin = time.perf_counter()
    asyncio.run(together())
    return time.perf_counter() - begin


def decode_rates(setup: Setup, batches: Sequence[int], seed: int) -> Iterator[Decode]:
    """For each batch size: the time from the first token to the last in one `generate`; on the engine that of all `tokens` less that of one
    token, the same rows, their prompts cached."""
    plain = warmed(setup.loaded)
    for batch in batches:
        chats = [Chat.ask(pictures.QUESTIONS[0], chat.images) for chat in pictures.chats(batch, 1, seed + batch)]
        slow = _rate(setup, batch, plain.decode_seconds(chats, setup.tokens))
        one, whole = _on_engine(setup, chats)
        fast = _rate(setup, batch, whole - one)
        context = setup.loaded.encode(chats[0])["input_ids"].shape[1] + setup.tokens // 2
        best = batch / floor_of_step(setup.size, [context] * batch, setup.rates).seconds
        yield Decode(batch, slow, fast, fast / slow, best, fast / best)


def _rate(setup: Setup, batch: int, seconds: float) -> float:
    return batch * (setup.tokens - 1) / max(seconds, 1e-9)


def _on_engine(setup: Setup, chats: Sequence[Chat]) -> tuple[float, float]:
    one, whole = ([Call("answer", chat, Sampling(max_tokens=n)) for chat in chats] for n in (1, setup.tokens))
    with opened(setup.loaded) as engine:
        _seconds(engine, *one)  # computes and caches the images
        return _seconds(engine, *one), _seconds(engine, *whole)
