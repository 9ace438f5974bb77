"""The benchmark's figures as Markdown tables, as JSON and as a chart in SVG. Computes medians and nothing else; runs nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import Field, asdict, dataclass, fields, is_dataclass, replace
from html import escape
from pathlib import Path
from statistics import median, mode
from typing import Any, ClassVar, Protocol, TypeVar

from llava.bench.flows import Flow
from llava.bench.mini import Mini
from llava.bench.probes import Check, Decode
from llava.bench.soak import Soak
from llava.eval.records import write_whole

T = TypeVar("T")
_SUMMED = {"rows", "equal", "harmful", "hits", "misses", "requests", "lost"}


def medians(rounds: Sequence[T]) -> T:
    """One record from the same record of several rounds: medians of its figures, sums of its counts, the words that most rounds have."""
    changes: dict[str, Any] = {}
    for field in fields(rounds[0]):  # type: ignore[arg-type]
        values = [getattr(record, field.name) for record in rounds]
        if field.name in _SUMMED:
            changes[field.name] = sum(values)
        elif isinstance(values[0], float):
            changes[field.name] = median(values)
        elif isinstance(values[0], str):
            changes[field.name] = mode(values)
    return replace(rounds[0], **changes)  # type: ignore[type-var]


def over_rounds(rounds: Iterable[Sequence[T]]) -> list[T]:
    """The `medians` of each record; every round has the same ones, in the same order."""
    return [medians(same) for same in zip(*rounds, strict=True)]


class Result(Protocol):
    """What a benchmark found, a dataclass: its rounds, where and when."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def medians(self) -> object:
        """The figures of all rounds together."""
        ...


def data(result: Result) -> dict[str, object]:
    """Everything that was measured, and the medians; JSON-able."""
    plain: dict[str, object] = json.loads(json.dumps({**asdict(result), "medians": result.medians()}, default=_plain))
    return plain


def _plain(value: object) -> object:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column: its heading and what it shows of a record."""

    heading: str
    shown: Callable[[Any], str]


FLOW = (
    Column("path", lambda f: f.path),
    Column("way", lambda f: f.way if f.way == "plain" else f"engine, {f.in_flight} in flight"),
    Column("questions per image", lambda f: str(f.questions)),
    Column("samples/s", lambda f: f"{f.rows_per_second:.2f}"),
    Column("x plain", lambda f: f"{f.ratio:.2f}"),
    Column("cost in answers", lambda f: f"{f.answers:.2f}"),
    Column("tokens/s", lambda f: f"{f.tokens_per_second:.0f}"),
    Column("first text", lambda f: f"{f.first:.2f} s"),
    Column("cache hits", lambda f: "-" if f.way == "plain" else f"{f.hits} of {f.hits + f.misses}"),
    Column("peak memory", lambda f: f"{f.peak_mib:.0f} MiB"),
    Column("machine's limit", lambda f: f"{f.floor:.2f} samples/s ({f.bound})"),
    Column("reached", lambda f: f"{f.reached:.0%}"),
    Column("reached, in turn", lambda f: f"{f.reached_in_turn:.0%}"),
    Column("same tokens", lambda f: "-" if f.way == "plain" else f"{f.equal} of {f.rows} rows"),
)
CHECK = (
    Column("plain check", lambda c: f"{1e3 * c.plain:.0f} ms"),
    Column("engine, new image", lambda c: f"{1e3 * c.cold:.0f} ms"),
    Column("engine, cached image", lambda c: f"{1e3 * c.cached:.0f} ms"),
    Column("cached / new", lambda c: f"{c.ratio:.2f}"),
)
DECODE = (
    Column("rows together", lambda d: str(d.batch)),
    Column("plain generate, tokens/s", lambda d: f"{d.plain:.0f}"),
    Column("engine, tokens/s", lambda d: f"{d.engine:.0f}"),
    Column("x plain", lambda d: f"{d.ratio:.2f}"),
    Column("machine's limit, tokens/s", lambda d: f"{d.floor:.0f}"),
    Column("reached", lambda d: f"{d.reached:.0%}"),
)
MINI = (
    Column("rows", lambda m: str(m.rows)),
    Column("of them harmful", lambda m: str(m.harmful)),
    Column("plain, rows/s", lambda m: f"{m.plain:.2f}"),
    Column("engine, rows/s", lambda m: f"{m.engine:.2f} ({m.in_flight} in flight)"),
    Column("x plain", lambda m: f"{m.ratio:.2f}"),
    Column("same tokens", lambda m: f"{m.equal} of {m.rows} rows"),
)
SOAK = (
    Column("calls", lambda s: str(s.calls)),
    Column("left early", lambda s: str(s.cancelled)),
    Column("memory after a quarter, at the end", lambda s: f"{s.before_mib:.0f}, {s.after_mib:.0f} MiB ({s.growth:+.1%})"),
    Column("threads", lambda s: f"{s.before_threads}, {s.after_threads}"),
    Column("calls still held", lambda s: str(s.held)),
    Column("golden request", lambda s: "equal" if s.golden_equal else "DIFFERENT"),
)
COLUMNS: dict[type, tuple[Column, ...]] = {Flow: FLOW, Check: CHECK, Decode: DECODE, Mini: MINI, Soak: SOAK}


def table(records: Iterable[object], columns: Sequence[Column] | None = None) -> str:
    """Records of one kind as a Markdown table, with `columns` or those of their kind."""
    rows = list(records)
    columns = columns or COLUMNS[type(rows[0])]
    cells = [[column.shown(row) for column in columns] for row in rows]
    lines = [[column.heading for column in columns], ["---"] * len(columns), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write(folder: Path, name: str, found: dict[str, object], chart: str | None = None) -> str:
    """`name`.json and, where there is a chart, `name`.svg in `folder`, each whole or not at all; returns which files, for people.

    Raises `StorageError`.
    """
    texts = {f"{name}.json": json.dumps(found, indent=1)} | ({} if chart is None else {f"{name}.svg": chart})
    for file, text in texts.items():
        write_whole(folder / file, f"{text}\n".encode())
    return f"{folder}/{' and '.join(texts)}"


_LEFT, _WIDE, _ROW, _TOP = 330, 520, 30, 64


def chart(flows: Sequence[Flow], title: str) -> str:
    """Bars of samples a second over the plain way's (1), each with a mark at the machine's limit; an SVG document."""
    limits = [flow.floor / flow.rows_per_second * flow.ratio for flow in flows]
    most = max([flow.ratio for flow in flows] + limits) * 1.08
    height = _TOP + _ROW * len(flows) + 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDE + 40}" height="{height}" font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="16" y="26" font-size="16" font-weight="600">{escape(title)}</text>',
        '<text x="16" y="46" fill="#666">samples a second, the plain way = 1; the mark is what the machine could do at best</text>',
    ]
    for i, (flow, limit) in enumerate(zip(flows, limits, strict=True)):
        parts += _bar(flow, limit, _TOP + _ROW * i, _WIDE / most)
    one = _LEFT + _WIDE / most
    parts.append(f'<line x1="{one:.1f}" y1="{_TOP - 6}" x2="{one:.1f}" y2="{height - 30}" stroke="#999" stroke-dasharray="3 3"/>')
    return "\n".join([*parts, "</svg>"])


def _bar(flow: Flow, limit: float, top: int, unit: float) -> list[str]:
    about = "" if flow.questions == 1 else f", {flow.questions} questions an image"
    way = "plain" if flow.way == "plain" else f"engine, {flow.in_flight} in flight"
    colour = "#b8b8b8" if flow.way == "plain" else "#3a7ca5" if flow.path == "safe" else "#c8553d"
    mark = _LEFT + limit * unit
    return [
        f'<text x="{_LEFT - 10}" y="{top + 16}" text-anchor="end">{escape(f"{flow.path}: {way}{about}")}</text>',
        f'<rect x="{_LEFT}" y="{top + 3}" width="{flow.ratio * unit:.1f}" height="18" rx="2" fill="{colour}"/>',
        f'<text x="{_LEFT + flow.ratio * unit + 6:.1f}" y="{top + 16}" fill="#222">{flow.ratio:.2f}</text>',
        f'<line x1="{mark:.1f}" y1="{top + 1}" x2="{mark:.1f}" y2="{top + 23}" stroke="#222" stroke-width="2"/>',
    ]
