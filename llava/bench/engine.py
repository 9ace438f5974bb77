"""`llava bench engine`: what ECSO costs on the local engine, beside the plain way and beside the machine's own limit.

It makes a random LLaVA checkpoint of a realistic shape, and runs in one process and in turn, for several rounds,
(a) the plain way: transformers' `generate`, a call for each step, one sample at a time, and
(b) the engine through ECSO, with several samples in flight, each about a picture of its own or four about each picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from llava.bench import pictures, report
from llava.bench.floor import Size
from llava.bench.flows import PATHS, Flow, flows
from llava.bench.machine import Others, Rates, apart, describe, measured_rates, now, said
from llava.bench.mini import Mini, mini
from llava.bench.options import check_least, check_names
from llava.bench.probes import Check, Decode, check_on_cached_prefix, decode_rates
from llava.bench.random_model import RandomModel, Say
from llava.bench.setup import Setup
from llava.bench.soak import Soak, soak

PARTS = ("flows", "check", "decode", "mini")


@dataclass(frozen=True, slots=True)
class Plan(RandomModel):
    """What to run. Raises `UserError` for values that make no sense."""

    parts: tuple[str, ...] = PARTS
    verdicts: tuple[str, ...] = ("no", "yes")
    rounds: int = 3
    samples: int = 16
    tokens: int = 64
    used: int = 192  # pictures at most that an engine has read before it is measured; of shape 33m more than fit a CPU's cache
    in_flight: tuple[int, ...] = (1, 4, 16)
    batches: tuple[int, ...] = (1, 8, 32)
    mini_rows: int = 500
    soak: int = 0
    pictures: Path | None = None
    seed: int = 1
    rate_seconds: float = 1.0  # for each of the three measurements of the machine's own speed

    def __post_init__(self) -> None:
        RandomModel.__post_init__(self)
        check_names(self, parts=PARTS, verdicts=PATHS)
        check_least(self, rounds=1, samples=1, tokens=2, used=1, mini_rows=1, soak=0, in_flight=1, batches=1)
        if self.pictures is not None:
            pictures.mixed(1, self.pictures, self.seed)

    def quick(self) -> Plan:
        """About a minute's worth of it on two cores: a smoke test with figures, not a measurement."""
        return replace(self, rounds=1, samples=8, tokens=16, used=32, in_flight=(1, 8), batches=(1, 8), mini_rows=24, rate_seconds=0.2)


@dataclass(slots=True)
class Round:
    """The figures of one round, and the machine's own rates just before."""

    rates: Rates
    flows: list[Flow] = field(default_factory=list)
    check: list[Check] = field(default_factory=list)
    decode: list[Decode] = field(default_factory=list)
    mini: list[Mini] = field(default_factory=list)


@dataclass(slots=True)
class Result:
    """Everything that was measured, with where and when."""

    plan: Plan
    machine: dict[str, object]
    size: Size
    began: str = field(default_factory=now)
    rounds: list[Round] = field(default_factory=list)
    soak: list[Soak] = field(default_factory=list)
    others: float | None = None  # the part of the processors that other processes took meanwhile

    def medians(self) -> Round:
        """The figures of all rounds together."""
        rates = report.medians([done.rates for done in self.rounds])
        return Round(rates, *(report.over_rounds(getattr(done, part) for done in self.rounds) for part in PARTS))


def run(plan: Plan, say: Say, keep: Callable[[Result], object] = lambda _: None) -> Result:
    """Run `plan`; `say` is told what is going on. `keep` gets what there is after each round: whoever stops an hour's run has those."""
    with plan.made(say) as (loaded, _):
        others, size = Others(), Size.of(loaded)
        result = Result(plan, describe(loaded.device, loaded.dtype), size)
        for number in range(plan.rounds):
            say("measuring the machine's own speed")
            rates = apart(lambda: measured_rates(loaded.device, loaded.dtype, plan.rate_seconds))
            setup = Setup(loaded, size, rates, plan.tokens, plan.samples, plan.used)
            result.rounds.append(_round(setup, plan, number, say))
            result.others = others.share()
            keep(result)
    if plan.soak:
        say(f"{plan.soak} mixed calls, many of them cancelled")
        result.soak.append(soak(plan.soak, plan.seed))
    result.others = others.share()
    return result


def _round(setup: Setup, plan: Plan, number: int, say: Say) -> Round:
    seed, done = plan.seed + 1000 * number, Round(setup.rates)
    parts: dict[str, Callable[[], Iterator[object]]] = {
        "flows": lambda: flows(setup, plan.verdicts, sorted(plan.in_flight), seed),
        "check": lambda: iter([check_on_cached_prefix(setup, seed + 100)]),
        "decode": lambda: decode_rates(setup, plan.batches, seed + 200),
        "mini": lambda: iter([mini(plan.mini_rows, plan.pictures, seed + 300)]),
    }
    for part in plan.parts:
        for record in parts[part]():
            getattr(done, part).append(record)
            say(f"round {number + 1} of {plan.rounds}, {part}: {_short(record)}")
    return done


def _short(record: object) -> str:
    return ", ".join(f"{column.heading} {column.shown(record)}" for column in report.COLUMNS[type(record)][:6])


def markdown(result: Result) -> str:
    """The figures as text that can be pasted into docs/results.md."""
    plan, size, both = result.plan, result.size, result.medians()
    forced = " and ".join(f'"{verdict.capitalize()}" ({PATHS[verdict]} path)' for verdict in plan.verdicts if verdict != "model")
    head = (
        f"`llava bench engine`, {result.began[:10]}: {said(result.machine)}. Shape {plan.shape}: random weights "
        f"({size.body / 1e6:.1f} M in the language model's layers), a prompt begins with {size.prefix} tokens of system line and image. "
        f"Answers and captions have {plan.tokens} tokens. {plan.rounds} rounds in turn, medians. The machine multiplies "
        f"{both.rates.operations / 1e9:.0f} G operations/s and moves {both.rates.bytes / 1e9:.1f} GB/s.{_beside(result.others)}"
    )
    parts = [head]
    if forced and both.flows:
        parts.append(
            f"Forced verdicts: random weights never say yes, so the check is computed and its text replaced by {forced}; on the engine "
            "a No is computed up to the token that settles it, a Yes to its last token."
        )
    for records in (both.flows, both.check, both.decode, both.mini, result.soak):
        if records:
            parts.append(f"{_ABOUT[type(records[0])]}\n\n{report.table(records)}")
    return "\n\n".join(parts)


def _beside(others: float | None) -> str:
    if others is None:
        return ""
    return f" Other processes took {others:.0%} of the processors meanwhile{': the timings are worth little.' if others > _QUIET else '.'}"


_QUIET = 0.05  # of all processors: what others may take
_ABOUT: dict[type, str] = {
    Flow: "ECSO (an answer = the plain way's direct answer; the first text is that of step 1):",
    Check: "A check, to its first token, on an image whose prefix is cached:",
    Decode: "Decoding alone, prompts not counted:",
    Mini: 'The embedded model, `ECSO("mini").map`, mixed questions, verdicts of its own:',
    Soak: "Mixed calls with random cancellations on the embedded model:",
}


def title(result: Result) -> str:
    """Of the chart."""
    where = result.machine["card"] or result.machine["processor"]
    return f"ECSO on the local engine: shape {result.plan.shape}, {result.machine['dtype']}, {where}, {result.began[:10]}"
