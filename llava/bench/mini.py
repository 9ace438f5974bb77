"""The embedded model on mixed questions: `ECSO("mini").map` against the plain way, with the verdicts that the model gives itself."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from llava.bench import pictures
from llava.bench.plain import same
from llava.bench.setup import opened, use, warmed
from llava.bench.watched import Watched
from llava.ecso import ECSO, PAPER, Method
from llava.engines.local import cores
from llava.model.builder import load
from llava.paths import MINI


@dataclass(frozen=True, slots=True)
class Mini:
    """Rows a second of both ways. `harmful` rows went through all four steps; `equal` rows said the same in both ways."""

    rows: int
    equal: int
    harmful: int
    in_flight: int
    plain: float
    engine: float
    ratio: float


def mini(rows: int, folder: Path | None, seed: int) -> Mini:
    """One round over `rows` questions about pictures of their own, on an engine that has read others until its cache was full, at most as
    many; `map` chooses how many are in flight. `folder` holds pictures to vary, besides drawn ones."""
    chats = pictures.mixed(rows, folder, seed)
    with cores.one():
        loaded = load(str(MINI), device="cpu", dtype="float32")
    plain = warmed(loaded)
    slow = [plain.flow(Method("ecso", PAPER), chat, None) for chat in chats]
    with opened(loaded) as engine, ECSO(watched := Watched(engine)) as guard:
        use(engine, pictures.mixed(rows, folder, seed + pictures.ELSEWHERE), engine.concurrency)
        begin = time.perf_counter()
        traces = guard.map(chats, progress=False, on_error="raise")
        seconds = time.perf_counter() - begin
    pairs = [[(step.call, watched.said[step.call]) for step in trace.steps] for trace in traces]
    plain_seconds = sum(said.seconds for row in slow for _, said in row)
    return Mini(
        rows=rows,
        equal=sum(all(same(call, plain.said.get(call), said) for call, said in row) for row in pairs),
        harmful=sum(trace.harmful is True for trace in traces),
        in_flight=engine.concurrency,
        plain=rows / plain_seconds,
        engine=rows / seconds,
        ratio=plain_seconds / seconds,
    )
