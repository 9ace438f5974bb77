"""The tables of a report, once for all: as HTML for the page, as Markdown for the text and the terminal."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from llava.eval.metrics.result import RULE, Attribution, Comparison, Measured, Metrics, Published, Score, TaskMetrics
from llava.eval.report.markup import Markup, prose, tag
from llava.eval.report.words import (
    NONE,
    PATHS,
    STAGES,
    TABLES,
    interval,
    judge_name,
    method_name,
    named,
    number,
    probability,
    score_name,
    signed,
    times,
    valued,
)


@dataclass(frozen=True, slots=True)
class Table:
    """A title, the names of the columns, the cells, and sentences below. The first `words` columns are text, the others figures."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    words: int = 1

    def html(self) -> Markup:
        """As a table that scrolls by itself where the screen is narrow."""
        head = tag("tr", [tag("th", name, scope="col", class_=None if i < self.words else "n") for i, name in enumerate(self.columns)])
        body = [tag("tr", [self._cell(i, text) for i, text in enumerate(row)]) for row in self.rows]
        made = tag("table", tag("caption", self.title), tag("thead", head), tag("tbody", body))
        notes = [tag("p", prose(note), class_="note") for note in self.notes]
        return tag("div", tag("div", made, class_="scroll", tabindex=0, role="region", aria_label=self.title), notes, class_="table")

    def _cell(self, place: int, text: str) -> Markup:
        if place == 0:
            return tag("th", text, scope="row")
        if place < self.words:
            return tag("td", text)
        value, bracket, rest = text.partition(" [")
        return tag("td", value, tag("small", f"[{rest}") if bracket else None, class_="n")

    def aligned(self) -> str:
        """For a terminal: columns of equal width, figures to the right."""
        rows = [self.columns, *self.rows]
        widths = [max(len(row[i]) for row in rows) for i in range(len(self.columns))]

        def shown(row: Sequence[str]) -> str:
            cells = (
                cell.ljust(width) if i < self.words else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            return "  ".join(cells).rstrip()

        return "\n".join([self.title, "", *map(shown, rows), *(f"\n{note}" for note in self.notes)]) + "\n"

    def markdown(self) -> str:
        """As a table of GitHub's Markdown with its title above and its notes below."""
        rule = ["---" if i < self.words else "---:" for i in range(len(self.columns))]
        lines = [f"**{plain(self.title)}**", "", _row(self.columns), _row(rule), *(_row(row) for row in self.rows)]
        return "\n".join([*lines, *(f"\n{plain(note)}" for note in self.notes)]) + "\n"


def plain(text: str) -> str:
    """Text as it is, in Markdown: one line, and no sign of it is markup. Brackets alone make no link, and intervals have many."""
    return re.sub(r"([\\`*_|<>]|\](?=[\[(:]))", r"\\\1", " ".join(text.split()))


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell if re.fullmatch(r'-+:?', cell) else plain(cell) for cell in cells)} |"


def headlines(metrics: Metrics) -> Table:
    """Every task's first score, a column for each method."""
    methods = list(dict.fromkeys(m.method for task in metrics.tasks for m in task.methods))
    rows: list[tuple[str, ...]] = []
    refused: dict[str, None] = {}
    for task in metrics.tasks:
        head = task.methods[0].scores[0].name if task.methods and task.methods[0].scores else None
        rows += [(task.task, *row) for row in _rows(task, methods, {head})]
        reasons = [s.refused for m in task.methods for s in m.scores if s.name == head and s.refused]
        refused |= dict.fromkeys(f"{task.task}: {reason}" for reason in reasons)
    columns = ("Task", "Score", "Decided by", "Samples", *map(method_name, methods))
    return Table("What was measured, with 95 % intervals", columns, tuple(rows), tuple(refused), words=3)


def scores(task: TaskMetrics) -> Table:
    """Every score of a task but for its categories, a column for each method."""
    methods = [m.method for m in task.methods]
    kinds = dict.fromkeys(s.interval for m in task.methods for s in m.scores if s.interval)
    told = (f"Intervals: {'; '.join(kinds)}.",) if kinds else ()
    columns = ("Score", "Decided by", "Samples", *map(method_name, methods))
    return Table(f"{task.task}: all scores", columns, tuple(_rows(task, methods, None)), told, words=2)


def _rows(task: TaskMetrics, methods: Sequence[str], wanted: Collection[str | None] | None) -> Iterator[tuple[str, ...]]:
    """Score, judge, samples, and the value under each method."""
    there = {m.method: {(s.name, s.judge): s for s in m.scores} for m in task.methods}
    for key in dict.fromkeys(key for some in there.values() for key in some):
        if wanted is None or key[0] in wanted:
            found = [there[name].get(key) if name in there else None for name in methods]
            first = next(s for s in found if s is not None)
            yield named(first), judge_name(first.judge, first.keyword), f"{first.of}", *map(valued, found)


def groups(task: TaskMetrics, table: str, name: str, judge: str) -> Table:
    """One score in each category, a column for each method."""
    keys = dict.fromkeys(group.key for m in task.methods for group in m.groups if group.table == table)
    rows = []
    for key in keys:
        found = [group_score(m, table, key, name, judge) for m in task.methods]
        over = next((f"{s.of}" for s in found if s is not None), NONE)
        rows.append((key, over, *(valued(s) for s in found)))
    columns = (TABLES.get(table, table.capitalize()), "Samples", *(method_name(m.method) for m in task.methods))
    return Table(f"{task.task}: {score_name(name)} by {table}", columns, tuple(rows))


def all_groups(task: TaskMetrics) -> list[Table]:
    """Every score of every kind of category, by each judge."""
    found = dict.fromkeys((g.table, s.name, s.judge) for m in task.methods for g in m.groups for s in g.scores)
    return [groups(task, *one) for one in found]


def group_score(measured: Measured, table: str, key: str, name: str, judge: str) -> Score | None:
    """One method's score in one category."""
    some = (group for group in measured.groups if (group.table, group.key) == (table, key))
    return score_by((score for group in some for score in group.scores), name, judge)


def score_by(scores: Iterable[Score], name: str, judge: str) -> Score | None:
    """The score of that name by that judge."""
    return next((score for score in scores if (score.name, score.judge) == (name, judge)), None)


def comparisons(title: str, found: Sequence[Comparison]) -> Table:
    """Pairs of methods, sample by sample."""
    rows = []
    for one in found:
        name = one.key or "all"
        pairs = (NONE, NONE) if one.only_a is None else (f"{one.only_b}", f"{one.only_a}")
        ps = (probability(one.p), probability(one.p_holm), probability(one.p_mcnemar))
        told = (signed(one.difference), interval(one.low, one.high), *pairs, f"{one.n} of {one.of}" if one.of else f"{one.n}", *ps)
        rows.append(
            (name, score_name(one.score), f"{method_name(one.b)} − {method_name(one.a)}", judge_name(one.judge, one.keyword), *told)
        )
    tests = dict.fromkeys(one.test for one in found if one.test)
    corrected = "Holm's correction is over the categories of one score, method and judge, never over methods, judges or benchmarks."
    note = f"p: {'; '.join(tests)}, two-sided. {corrected} " if tests else ""
    note += "A hit is an answer that the score counts; pairs are the samples decided under both. Too few of them have no p."
    figures = ("Difference", "95 % interval", "Hits won", "Hits lost", "Pairs", "p", "p (Holm)", "p (exact McNemar)")
    columns = ("Category", "Score", "Methods", "Decided by", *figures)
    return Table(title, columns, tuple(rows), (note,), words=4)


def stages(title: str, found: Sequence[Attribution]) -> Table:
    """Where a defence's good and bad ends come from."""
    known = [stage for stage in STAGES if any(one.counts.get(stage) for one in found)]
    rows = []
    for one in found:
        place = one.key or "all"
        rows.append((method_name(one.method), place, judge_name(one.judge, one.keyword), *(f"{one.counts.get(s, 0)}" for s in known)))
    notes = tuple(f"{stage}: {STAGES[stage]}." for stage in known)
    return Table(title, ("Method", "Category", "Decided by", *known), tuple(rows), notes, words=3)


def sweeps(metrics: Metrics) -> Table:
    """How well the check told harmful first answers from harmless ones."""
    rows = []
    for one in metrics.sweeps:
        points = [
            NONE if point is None else f"{number(point.flagged_harmful)} / {number(point.flagged_harmless)}"
            for point in (one.recorded, one.chosen)
        ]
        chosen = NONE if one.chosen is None or one.chosen.threshold is None else f"{one.chosen.threshold:.4g}"
        auc = NONE if one.auc is None else number(one.auc, 3)
        span = "" if one.low is None or one.high is None else f"[{number(one.low, 3)}, {number(one.high, 3)}]"
        told = (f"{one.harmful}", f"{one.harmless}", auc, span, points[0], chosen, points[1])
        rows.append((method_name(one.method), judge_name(one.judge, one.keyword), *told))
    columns = ("Method", "Decided by", "Harmful", "Harmless", "AUC", "95 % interval", "As run", "Best threshold", "With it")
    note = "As run, and with the best threshold (where the two are furthest apart): % of harmful / % of harmless first answers flagged. "
    note += "It is the best for these very answers: for others it is hardly as good."
    return Table("The check against the judge", columns, tuple(rows), (note,), words=2)


def costs(metrics: Metrics) -> Table:
    """What a sample costs on each path."""
    rows = []
    for task in metrics.tasks:
        for one in task.costs:
            seconds = NONE if one.seconds is None else number(one.seconds, 2)
            told = [number(value, 0) for value in (one.prompt_tokens, one.completion_tokens) if value is not None]
            tokens = " + ".join(told) if len(told) == 2 else "not told"
            mean = (f"{one.rows}", number(one.calls, 2), tokens, seconds, times(one.calls_x), times(one.tokens_x), times(one.seconds_x))
            rows.append((task.task, method_name(one.method), PATHS.get(one.path, one.path), *mean))
    columns = (
        "Task",
        "Method",
        "Path",
        "Samples",
        "Calls",
        "Tokens in + out",
        "Seconds",
        "Calls, × direct",
        "Tokens, × direct",
        "Seconds, × direct",
    )
    note = "Means over samples. Seconds are of calls on the run's own machine, many at a time: ratios travel better than seconds."
    return Table("What safety costs", columns, tuple(rows), (note,), words=3)


def published(task: TaskMetrics) -> Table | None:
    """Published numbers beside ours of the same name (and those that a paper misprints, whatever we have); None where there are none."""
    pairs: dict[tuple[str, str, str, str, str], dict[str, Published]] = {}
    for one in task.published:
        pairs.setdefault((one.score, one.key, one.model, one.judge, one.source), {})[one.method] = one
    kept = {key: some for key, some in pairs.items() if any(one.ours is not None or one.printed is not None for one in some.values())}
    if not kept:
        return None
    methods = list(dict.fromkeys(name for some in kept.values() for name in some))
    rows = []
    for (score, key, model, judge, source), some in kept.items():
        there = (_there(some.get(name)) for name in methods)
        here = (number(some[name].ours if name in some else None) for name in methods)
        name = f"{score_name(score)}{f', {key}' if key else ''}"
        rows.append((name, model, _judged(judge, some.values()), source, _same(list(some.values())), *there, *here))
    names = [method_name(name) for name in methods]
    columns = ("Score", "Published for", "Judged by", "Source", "The same thing?", *names, *(f"{name}, here" for name in names))
    notes = dict.fromkeys(one.note for some in kept.values() for one in some.values() if one.note)
    return Table(f"{task.task}: published numbers and these", columns, tuple(rows), tuple(notes), words=5)


def _there(one: Published | None) -> str:
    if one is None:
        return NONE
    return number(one.value) + (f" (printed {number(one.printed)})" if one.printed is not None else "")


def _same(some: Sequence[Published]) -> str:
    """Whether what there is of ours can stand beside the published, and if not, the first reason."""
    there = [one for one in some if one.ours is not None] or some
    if why := next((one.why for one in there if not one.comparable), ""):
        return f"no: {why}"
    if not there[0].same_model:
        return "no: another model"
    return "yes, but for the judge" if some[0].judge else "yes"


def _judged(judge: str, some: Iterable[Published]) -> str:
    """Who decided the published numbers, and who these."""
    ours = dict.fromkeys(judge_name(one.ours_judge) for one in some if one.ours is not None and one.ours_judge != RULE)
    return (judge or "rule") + (f"; here {', '.join(ours)}" if ours else "")
