"""`llava judge` as a function: every judge of an order goes through a run, and what they said is counted."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llava.engines.openai.address import host_and_port
from llava.errors import UserError
from llava.eval.judge.asking import Asker, Patience
from llava.eval.judge.budget import PRICES, Estimate, Meter, Price
from llava.eval.judge.cache import Cache
from llava.eval.judge.engine import NO_SERVER
from llava.eval.judge.judges import Spec
from llava.eval.judge.judgment import KEYWORD, UNCOUNTED, Judgment, Origin, series_of
from llava.eval.judge.keyword import RULE_SHA256, keyword_judgment
from llava.eval.judge.ledger import RULE, Ledger
from llava.eval.judge.modes import prompts_sha256
from llava.eval.judge.session import Group, Pass, Terms
from llava.eval.judge.work import Item, Shelf, Wish, shelves
from llava.eval.lock import locked
from llava.eval.manifest import begun, ended
from llava.eval.progress import Progress

Named = tuple[str, Item]  # a judge's name and a text


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be judged and by whom. `again`: verdicts that are to be had anew. `keys`: of the judges that are models, in their order.

    `prices` are by judge, "" for all others; else the listed ones count. `max_cost` is for all judges together. `announce` is told each
    judge's estimate before its first call; whether to go on.
    """

    out: Path
    wish: Wish
    judges: tuple[Spec, ...]
    keys: tuple[str, ...] = ()
    terms: Terms = field(default_factory=Terms)
    timeout: float = 120.0
    retries: int = 4
    prices: Mapping[str, Price] = field(default_factory=dict)
    max_cost: float | None = None
    cache: Path | None = None
    again: tuple[str, ...] = ("failed",)
    announce: Callable[[str, Estimate], bool] = lambda judge, estimate: True
    shown: bool | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What there is of one judge's verdicts on one part of one method: of so many `texts`."""

    task: str
    method: str
    part: str
    series: tuple[str, str]
    texts: int
    verdicts: Counter[str]

    @property
    def counted(self) -> int:
        """How many of them have a verdict."""
        return sum(count for verdict, count in self.verdicts.items() if verdict not in UNCOUNTED)


@dataclass(frozen=True, slots=True)
class Spent:
    """What one judge took in this session. `left`: texts that were not asked for want of money."""

    judge: str
    calls: int
    cached: int
    cost: float | None
    left: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """A session's end: what there is now of all that was ordered, and what it took."""

    results: tuple[Result, ...]
    spent: tuple[Spent, ...]
    pairs: tuple[tuple[Item, Judgment], ...]
    model: str = ""  # the run's, as its original files call it

    @property
    def judgments(self) -> list[Judgment]:
        """What was said of all texts."""
        return [one for _, one in self.pairs]

    @property
    def whole(self) -> bool:
        """Whether every text has a verdict by every judge."""
        return all(result.counted == result.texts for result in self.results)


def judge(order: Order) -> Outcome:
    """Judge a run from where an earlier session left it.

    Raises `UserError` for what cannot be done or a person has to mend, `EngineError` when a judge is gone, `StorageError` when the disk
    does not take it; what was judged until then is kept, and the next session goes on from there.
    """
    if not order.out.is_dir():
        raise UserError(
            f"There is no run {order.out}: make it first (llava eval ... --out {order.out}), or name the folder of another one."
        )
    with locked(order.out):
        first = [shelves(order.out, _wish(order, spec)) for spec in order.judges]  # finds mistakes before anything is asked
        if not any(shelf.items for found in first for shelf in found):
            raise UserError("There is nothing to judge: what there is is scored without a judge, or needs a model for one (--judge).")
        for spec in order.judges:
            if spec.kind != KEYWORD:
                Meter(_price(order, spec), order.max_cost)  # a limit without a price
        told = {"judge": [_described(order, spec) for spec in order.judges], "again": list(order.again)}
        manifest = begun(order.out, told)
        sessions = _sessions(manifest["sessions"], told)
        keys, left = iter(order.keys), order.max_cost
        spent: list[Spent] = []
        said: list[tuple[Named, Judgment | None]] = []
        for spec, found in zip(order.judges, first, strict=True):
            one, some = _judged(replace(order, max_cost=left), spec, found, next(keys, "none") if spec.keyed else "none", sessions)
            left = None if left is None else left - (one.cost or 0.0)
            spent.append(one)
            said += some
        manifest["sessions"][-1]["left"] = sum(one.left for one in spent)
        ended(order.out, manifest, {})
    return Outcome(_results(said), tuple(spent), tuple((item, one) for (_, item), one in said if one is not None), _model(first))


def _model(first: Sequence[Sequence[Shelf]]) -> str:
    return next((shelf.model for found in first for shelf in found), "")


def _wish(order: Order, spec: Spec) -> Wish:
    if spec.kind == "engine" and order.wish.mode == "guard":
        raise UserError(NO_SERVER)
    modes = {KEYWORD: None, "guard": "guard"}
    return replace(order.wish, mode=modes.get(spec.kind, order.wish.mode), runs=1 if spec.kind == KEYWORD else order.wish.runs)


def _described(order: Order, spec: Spec) -> dict[str, Any]:
    told: dict[str, Any] = {"name": spec.name, "kind": spec.kind}
    if spec.kind == KEYWORD:
        return told | {"rule_sha256": RULE_SHA256}
    told |= {"mode": _wish(order, spec).mode, "temperature": order.terms.temperature, "prompts_sha256": prompts_sha256(order.wish.modes)}
    return told | ({"endpoint": host_and_port(spec.url)} if spec.keyed else {})


def _sessions(known: Sequence[Mapping[str, Any]], told: Mapping[str, Any]) -> tuple[str, ...]:
    """The last session, and those before it that had the same order and did not come to its end: they are gone on with."""
    found = [str(known[-1]["id"])]
    for one in reversed(known[:-1]):
        if any(one.get(name) != value for name, value in told.items()) or (one.get("ended") and not one.get("left")):
            break
        found.append(str(one.get("id", "")))
    return tuple(found)


def _judged(
    order: Order, spec: Spec, found: Sequence[Shelf], key: str, sessions: tuple[str, ...]
) -> tuple[Spent, list[tuple[Named, Judgment | None]]]:
    """One judge's pass, and every text with what this judge says of it, now or in an earlier session."""
    with ExitStack() as opened:
        ledgers: dict[tuple[str, str], Ledger] = {}
        for shelf in found:
            if shelf.items:
                ledgers[shelf.task, shelf.method] = ledger = Ledger(shelf.folder, sessions)
                opened.callback(ledger.close)
        if spec.kind == KEYWORD:
            spent, origin = _by_rule(order, found, ledgers), RULE
        else:
            cache = Cache(order.cache)
            opened.callback(cache.close)
            asker = spec.connected(key, order.timeout)
            origin = _origin(order, asker)
            spent = asyncio.run(_by_model(order, spec, asker, cache, found, ledgers))
        items = [item for shelf in found for item in shelf.items]
        said = [((spec.name, item), ledgers[item.task, item.method].said(item, spec.name, origin)) for item in items]
    return spent, said


def _by_rule(order: Order, found: Sequence[Shelf], ledgers: dict[tuple[str, str], Ledger]) -> Spent:
    for shelf in found:
        for item in shelf.items:
            if not ledgers[shelf.task, shelf.method].settled(item, KEYWORD, RULE_SHA256, order.again):
                ledgers[shelf.task, shelf.method].add(keyword_judgment(item))
    return Spent(KEYWORD, 0, 0, 0.0, 0)


async def _by_model(
    order: Order, spec: Spec, asker: Asker, cache: Cache, found: Sequence[Shelf], ledgers: dict[tuple[str, str], Ledger]
) -> Spent:
    progress: Progress | None = None

    def record(judgment: Judgment) -> None:
        ledgers[judgment.task, judgment.method].add(judgment)
        if progress is not None:
            progress.step()

    try:
        meter = Meter(_price(order, spec), order.max_cost)
        work = Pass(asker, cache, meter, record, order.terms, Patience(order.retries))
        groups = work.groups(_lacking(order, asker, found, ledgers))
        if groups and order.announce(asker.name, work.estimate(groups)):
            progress = Progress(f"judge {asker.name}", sum(len(group.items) for group in groups), order.shown)
            await work.run(groups)
        left = work.count.left if progress is not None else _size(groups)
    finally:
        if progress is not None:
            progress.close()
        await asker.close()
    return Spent(asker.name, work.count.calls, work.count.cached, meter.spent if meter.price else None, left)


def _size(groups: Sequence[Group]) -> int:
    return sum(len(group.items) for group in groups)


def _origin(order: Order, asker: Asker) -> Origin:
    return asker.endpoint, order.terms.temperature


def _lacking(order: Order, asker: Asker, found: Sequence[Shelf], ledgers: dict[tuple[str, str], Ledger]) -> list[Item]:
    lacking, origin = [], _origin(order, asker)
    for shelf in found:
        for item in shelf.items:
            prompt = item.request(order.terms.temperature, order.terms.max_tokens).prompt_sha256 if item.text.strip() else ""
            if not ledgers[shelf.task, shelf.method].settled(item, asker.name, prompt, order.again, origin):
                lacking.append(item)
    return lacking


def _price(order: Order, spec: Spec) -> Price | None:
    ours = spec.kind == "engine" and not spec.name.startswith("http")  # another's server may well send a bill
    free = Price(0.0, 0.0) if ours else None
    return order.prices.get(spec.name) or order.prices.get("") or free or PRICES.get(spec.name)


def _series(name: str, item: Item) -> tuple[str, str]:
    return series_of(name, item.mode.name, item.mode.prompts) if item.mode else (name, name)


def _results(said: Sequence[tuple[Named, Judgment | None]]) -> tuple[Result, ...]:
    texts: Counter[tuple[str, str, str, tuple[str, str]]] = Counter()
    verdicts: dict[tuple[str, str, str, tuple[str, str]], Counter[str]] = defaultdict(Counter)
    for (name, item), judgment in said:
        place = (item.task, item.method, item.part, _series(name, item))
        texts[place] += 1
        if judgment is not None:
            verdicts[place][judgment.verdict] += 1
    return tuple(Result(*place, count, verdicts[place]) for place, count in texts.items())
