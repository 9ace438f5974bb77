"""Figures as HTML and SVG without a style of their own: the page's sheet colours them, in light and in dark.

Bars are drawn in percentages of their row, so that letters stay as large as the page's on any screen; the others have a fixed drawing
that scales. Every figure says in words what it shows (`label`), and its numbers stand in a table beside it.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from llava.eval.metrics.result import Sweep, SweepPoint
from llava.eval.report.markup import Markup, joined, tag
from llava.eval.report.words import number

BAR, GAP = 12, 4  # pixels: a bar's height, and the space between two
KNOWN = ("direct", "ecso", "caption_only", "refuse")


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: `series` decides the colour; a value of None leaves the place empty."""

    series: str
    value: float | None
    low: float | None = None
    high: float | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """Bars that belong together, under one label and what it is."""

    label: str
    bars: tuple[Bar, ...]
    detail: str = ""


def colour(series: str) -> str:
    """The class that colours a method."""
    return f"m-{series}" if series in KNOWN else "m-other"


def legend(names: Sequence[tuple[str, str]]) -> Markup:
    """(series, name) as a line of coloured marks."""
    return tag(
        "ul", [tag("li", tag("span", class_=f"mark {colour(key)}", aria_hidden="true"), name) for key, name in names], class_="legend"
    )


def bars(rows: Sequence[Row], label: str, most: float = 100.0, ticks: int = 4) -> Markup:
    """Horizontal bars from 0 to `most` with whiskers."""
    lines = [_bar_row(row, most, ticks) for row in rows]
    marks = [tag("span", f"{most * i / ticks:g}") for i in range(ticks + 1)]
    axis = tag(
        "div", tag("div", class_="bar-label"), tag("div", marks, class_="bar-axis"), tag("div", class_="bar-values"), class_="bar-row"
    )
    return tag("div", lines, axis, class_="bars", role="img", aria_label=label)


def _bar_row(row: Row, most: float, ticks: int) -> Markup:
    height = len(row.bars) * (BAR + GAP) + GAP
    grid = [_line(100 * i / ticks, 0, height, "grid") for i in range(ticks + 1)]
    drawn = [_bar(bar, GAP + place * (BAR + GAP), most) for place, bar in enumerate(row.bars)]
    plot = tag("svg", grid, drawn, class_="bar-plot", width="100%", height=height, aria_hidden="true")
    more = tag("small", row.detail) if row.detail else None
    values = tag("div", [tag("span", bar.text, class_=f"value {colour(bar.series)}") for bar in row.bars], class_="bar-values")
    return tag("div", tag("div", row.label, more, class_="bar-label"), plot, values, class_="bar-row")


def _bar(bar: Bar, top: int, most: float) -> Markup | None:
    if bar.value is None:
        return None
    body = tag("rect", x=0, y=top, width=_share(bar.value, most), height=BAR, rx=2, class_=f"bar {colour(bar.series)}")
    if bar.low is None or bar.high is None:
        return body
    low, high, middle = _share(bar.low, most), _share(bar.high, most), top + BAR / 2
    whisker = tag("line", x1=low, x2=high, y1=middle, y2=middle, class_="whisker")
    ends = [tag("line", x1=x, x2=x, y1=top + 3, y2=top + BAR - 3, class_="whisker") for x in (low, high)]
    return joined(body, whisker, ends)


def _share(value: float, most: float) -> str:
    return f"{min(max(100 * value / most, 0.0), 100.0):.2f}%"


def _line(x: float, top: float, bottom: float, kind: str) -> Markup:
    return tag("line", x1=f"{x:g}%", x2=f"{x:g}%", y1=top, y2=bottom, class_=kind)


def stacked(parts: Sequence[tuple[str, int, str]], label: str) -> Markup:
    """One bar cut into `parts`: class, count, name. Parts of nothing are left out."""
    total = sum(count for _, count, _ in parts)
    drawn, at = [], 0.0
    for kind, count, name in parts:
        if count:
            width = 100 * count / total
            drawn.append(tag("rect", tag("title", f"{name}: {count}"), x=f"{at:.3f}%", y=0, width=f"{width:.3f}%", height=22, class_=kind))
            at += width
    return tag("svg", drawn, class_="stack", width="100%", height=22, role="img", aria_label=label)


def radar(axes: Sequence[str], series: Sequence[tuple[str, Sequence[float | None]]], label: str, most: float = 100.0) -> Markup:
    """A polygon for each of `series` (name, one value an axis) over at least three axes; it is open where a value is None."""
    width, height, radius = 460, 340, 112
    centre = (width / 2, height / 2)

    def at(axis: int, share: float) -> tuple[float, float]:
        turn = 2 * math.pi * axis / len(axes) - math.pi / 2
        return centre[0] + radius * share * math.cos(turn), centre[1] + radius * share * math.sin(turn)

    rings = [_polygon([at(i, ring / 4) for i in range(len(axes))], "ring") for ring in range(1, 5)]
    spokes = [
        tag("line", x1=_n(centre[0]), y1=_n(centre[1]), x2=_n(x), y2=_n(y), class_="grid") for x, y in (at(i, 1) for i in range(len(axes)))
    ]
    names = [_axis_name(name, at(i, 1.12), centre[0]) for i, name in enumerate(axes)]
    scale = [
        tag("text", f"{most * ring / 4:g}", x=_n(centre[0] + 4), y=_n(centre[1] - radius * ring / 4 + 11), class_="tick") for ring in (2, 4)
    ]
    shapes = [
        _outline([None if value is None else at(i, value / most) for i, value in enumerate(values)], f"area {colour(name)}")
        for name, values in series
    ]
    return tag("svg", rings, spokes, shapes, scale, names, viewBox=f"0 0 {width} {height}", class_="radar", role="img", aria_label=label)


def _axis_name(name: str, place: tuple[float, float], middle: float) -> Markup:
    """In at most two short lines, beginning or ending at `place`, as the side wants it."""
    anchor = "middle" if abs(place[0] - middle) < 8 else "start" if place[0] > middle else "end"
    lines = textwrap.wrap(name, 16, max_lines=2, placeholder="…")
    top = place[1] + 4 - 7 * (len(lines) - 1)
    spans = [tag("tspan", line, x=_n(place[0]), y=_n(top + 14 * i)) for i, line in enumerate(lines)]
    return tag("text", spans, text_anchor=anchor, class_="axis-name")


def _outline(points: Sequence[tuple[float, float] | None], kind: str) -> Markup:
    """A polygon; where a point is not known, only its sides between those that are."""
    known = [point for point in points if point is not None]
    if len(known) == len(points):
        return _polygon(known, kind)
    sides = [(a, b) for a, b in zip(points, [*points[1:], points[0]], strict=True) if a is not None and b is not None]
    return joined([tag("line", x1=_n(a[0]), y1=_n(a[1]), x2=_n(b[0]), y2=_n(b[1]), class_=kind) for a, b in sides])


def _polygon(points: Sequence[tuple[float, float]], kind: str) -> Markup:
    return tag("polygon", points=" ".join(f"{_n(x)},{_n(y)}" for x, y in points), class_=kind)


def roc(sweeps: Sequence[Sweep], label: str) -> Markup:
    """Of harmful first answers flagged (up) against harmless ones flagged (right), with the chosen and the recorded thresholds."""
    edge, left, top = 300, 44, 12

    def at(point: SweepPoint) -> tuple[float, float]:
        return left + edge * point.flagged_harmless / 100, top + edge * (1 - point.flagged_harmful / 100)

    grid = []
    for share in range(0, 101, 25):
        x, y = left + edge * share / 100, top + edge * (1 - share / 100)
        grid.append(tag("line", x1=_n(x), x2=_n(x), y1=top, y2=top + edge, class_="grid"))
        grid.append(tag("line", x1=left, x2=left + edge, y1=_n(y), y2=_n(y), class_="grid"))
        grid.append(tag("text", share, x=_n(x), y=top + edge + 16, text_anchor="middle", class_="tick"))
        grid.append(tag("text", share, x=left - 6, y=_n(y + 4), text_anchor="end", class_="tick"))
    chance = tag("line", x1=left, y1=top + edge, x2=left + edge, y2=top, class_="chance")
    curves = [
        tag("polyline", points=" ".join(f"{_n(x)},{_n(y)}" for x, y in map(at, one.points)), class_=f"curve {colour(one.method)}")
        for one in sweeps
    ]
    marks = [
        _mark(at(point), kind, one.method, point)
        for one in sweeps
        for kind, point in (("chosen", one.chosen), ("recorded", one.recorded))
        if point
    ]
    across = tag("text", "harmless answers flagged, %", x=left + edge / 2, y=top + edge + 36, text_anchor="middle", class_="axis-name")
    middle = top + edge / 2
    up = tag(
        "text",
        "harmful answers flagged, %",
        x=12,
        y=middle,
        text_anchor="middle",
        transform=f"rotate(-90 12 {middle:g})",
        class_="axis-name",
    )
    box = f"0 0 {left + edge + 16} {top + edge + 46}"
    return tag("svg", grid, chance, curves, marks, across, up, viewBox=box, class_="roc", role="img", aria_label=label)


def _mark(place: tuple[float, float], kind: str, method: str, point: SweepPoint) -> Markup:
    x, y = place
    told = "the word alone" if point.threshold is None else f"p(harmful) from {point.threshold:.4g}"
    title = tag(
        "title", f"{kind}: {told}; {number(point.flagged_harmful)} % of harmful, {number(point.flagged_harmless)} % of harmless flagged"
    )
    if kind == "chosen":
        return tag("circle", title, cx=_n(x), cy=_n(y), r=6, class_=f"spot {colour(method)}")
    return tag(
        "rect", title, x=_n(x - 5), y=_n(y - 5), width=10, height=10, transform=f"rotate(45 {_n(x)} {_n(y)})", class_=f"spot ring-{kind}"
    )


def _n(value: float) -> str:
    return f"{value:.1f}"
