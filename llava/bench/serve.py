"""`llava bench serve`: what the serving processes cost and give, as they are run: real processes, real HTTP, on one machine.

Everything runs on the cores at hand, the clients too; they are written so that they take little of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from llava.bench import report
from llava.bench.machine import describe, now
from llava.bench.options import check_least, check_names
from llava.bench.serve_models import First, House, Throughput
from llava.bench.serve_overhead import Desk, Overhead, Streams, streams
from llava.bench.serve_scripted import Script
from llava.bench.serve_servers import Servers
from llava.bench.shapes import SHAPES, write_checkpoint
from llava.errors import UserError

LEVELS: Mapping[str, tuple[int, ...]] = {
    "overhead": (1, 8, 32),
    "streams": (),
    "mini": (1, 4, 16),
    "long": (1, 4, 16),
    "shape": (1, 8),
    "first": (),
}
PARTS = tuple(LEVELS)
LONG = "5m"  # the embedded model's shape: random weights of it answer at any length
MOST_STREAMS = 1000  # the openai client library keeps so many connections at most
Record = Overhead | Streams | Throughput | First
Say = Callable[[int, str, Record], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run. Raises `UserError` for values that make no sense.

    `clients` replaces the levels of all parts. `per_client` requests each to the scripted model, which takes `script.seconds`; `requests`
    at least to the embedded model at each level and to a random one of its shape, a sixth of them to the model of `shape`; all get as many
    single questions and, of each client one at least, conversations. Answers of random models have `tokens` tokens.
    """

    parts: tuple[str, ...] = PARTS
    rounds: int = 3
    clients: tuple[int, ...] | None = None
    streams: int = MOST_STREAMS
    shape: str = "33m"
    tokens: int = 64
    requests: int = 48
    per_client: int = 16
    seed: int = 1
    script: Script = field(default_factory=Script)

    def __post_init__(self) -> None:
        check_names(self, parts=PARTS, shape=SHAPES)
        check_least(self, rounds=1, streams=1, tokens=1, requests=1, per_client=1, clients=1)
        if self.streams > MOST_STREAMS:
            raise UserError(f"streams is {self.streams}: give at most {MOST_STREAMS}.")

    def quick(self) -> Plan:
        """A smoke test with figures, not a measurement: a minute or two on two cores."""
        script = Script(think=0.1, pieces=8, pace=0.01, check=0.02)
        return replace(self, rounds=1, streams=100, shape="tiny", tokens=16, requests=6, per_client=4, script=script)

    def levels(self, part: str) -> tuple[int, ...]:
        """Clients at a time."""
        return self.clients or LEVELS[part]


@dataclass(slots=True)
class Result:
    """Everything that was measured, with where and when; `rounds`: part -> its records, in order."""

    plan: Plan
    machine: dict[str, object]
    began: str = field(default_factory=now)
    rounds: list[dict[str, list[Record]]] = field(default_factory=list)

    def medians(self) -> dict[str, list[Record]]:
        """The figures of all rounds together."""
        return {part: report.over_rounds(done[part] for done in self.rounds) for part in self.plan.parts}


class Bench:
    """The parts, with servers that are started when a part needs them first."""

    def __init__(self, plan: Plan, servers: Servers, scratch: Path) -> None:
        self._plan = plan
        self._servers = servers
        self._scratch = scratch
        self._desk: Desk | None = None
        self._houses: dict[str, House] = {}

    def run(self, part: str, seed: int) -> Iterator[Record]:
        """One round of a part."""
        plan, levels = self._plan, self._plan.levels(part)
        if part == "overhead":
            yield from self._scripted().round(levels, plan.per_client, seed)
        elif part == "streams":
            yield from streams(self._servers, plan.streams, replace(plan.script, gather=plan.streams), seed)
        elif part in ("mini", "long"):
            yield from self._house("mini" if part == "mini" else LONG).throughput(levels, plan.requests, seed)
        elif part == "shape":
            yield from self._house(plan.shape).throughput(levels, -(-plan.requests // 6), seed)
        else:
            for model in ("mini", plan.shape):
                yield from self._house(model).first(max(3, plan.requests // 6), seed)

    def _scripted(self) -> Desk:
        if self._desk is None:
            self._desk = Desk(self._servers, self._plan.script)
        return self._desk

    def _house(self, model: str) -> House:
        if model not in self._houses:
            # Random weights never say a bare "yes" nor a clear "no": only the paper's policy takes their answers for harmless.
            target, policy = ("mini", "guard") if model == "mini" else (self._checkpoint(model), "paper")
            self._houses[model] = House(self._servers, model, target, self._plan.tokens, policy)
        return self._houses[model]

    def _checkpoint(self, shape: str) -> str:
        return str(write_checkpoint(SHAPES[shape], self._scratch / f"llava-random-{shape}", torch.float32))


def run(plan: Plan, say: Say) -> Result:
    """Run `plan`; `say` is told the round (from 0), the part and each record. Raises `EngineError` when a server does not start."""
    _allow_many_files()
    machine = describe(torch.device("cpu"), torch.float32)
    result = Result(plan, machine)
    with tempfile.TemporaryDirectory(prefix="llava-bench-") as folder, Servers(Path(folder)) as servers:
        bench = Bench(plan, servers, Path(folder))
        for number in range(plan.rounds):
            done: dict[str, list[Record]] = {part: [] for part in plan.parts}
            for part in plan.parts:
                for record in bench.run(part, plan.seed + number):
                    done[part].append(record)
                    say(number, part, record)
            result.rounds.append(done)
    return result


def _allow_many_files() -> None:
    """As many open files as this system lets a process have; our children inherit it."""
    try:
        import resource
    except ImportError:  # not on Windows, which has no such limit
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
