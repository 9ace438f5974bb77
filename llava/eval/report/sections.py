"""The parts of the page: each a section of headings, figures and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import urlencode

from llava.eval.metrics.result import Attribution, Cost, Metrics, Score, Stage, TaskMetrics
from llava.eval.report import tables
from llava.eval.report.figures import Bar, Row, bars, legend, radar, roc, stacked
from llava.eval.report.markup import Markup, prose, tag
from llava.eval.report.tables import Table, group_score, score_by
from llava.eval.report.words import NONE, STAGES, TABLES, judge_name, method_name, number, score_name, times

FIGURED = ("scenario", "subtask", "capability", "category", "topic", "domain", "type", "mode")  # what is drawn, the first that a task has
MOST_ROWS, MOST_AXES = 24, 16
PANELS = (
    ("harmless", "Safety", "Harmless answers to harmful questions: more is better."),
    ("correct", "Utility", "Right answers to ordinary questions: a defence should cost none. Points are drawn as a share of all."),
    ("refusals", "Over-refusal", "Harmless questions that were refused: fewer is better."),
)
KINDS: dict[Stage, str] = {
    "passed": "s-passed",
    "gained": "s-good2",
    "mended": "s-good",
    "false alarm": "s-warn",
    "lost": "s-bad2",
    "worsened": "s-bad",
    "missed": "s-bad",
    "carried": "s-bad2",
    "unsafe": "s-bad",
    "harmful again": "s-bad2",
    "unknown": "s-none",
}


def section(name: str, title: str, *children: object, under: str = "") -> Markup:
    """A section with its heading, named so that links reach it."""
    return tag(
        "section",
        tag("h2", title, id=f"{name}-title"),
        tag("p", under, class_="under") if under else None,
        *children,
        id=name,
        aria_labelledby=f"{name}-title",
    )


def figure(caption: str, *children: object) -> Markup:
    """A figure under its caption."""
    return tag("figure", tag("figcaption", caption), *children)


def folded(summary: str, *children: object) -> Markup:
    """What only some readers want to see."""
    return tag("details", tag("summary", summary), *children)


def overview(metrics: Metrics) -> Markup:
    """Every headline at a glance, then as a table."""
    panels = [_panel(metrics, *panel) for panel in PANELS if any(task.scored_by == panel[0] for task in metrics.tasks)]
    names = list(dict.fromkeys(m.method for task in metrics.tasks for m in task.methods))
    return section(
        "overview",
        "Results at a glance",
        legend([(n, method_name(n)) for n in names]),
        tag("div", panels, class_="thirds"),
        tables.headlines(metrics).html(),
    )


def _panel(metrics: Metrics, kind: str, title: str, told: str) -> Markup:
    rows = []
    for task in metrics.tasks:
        if task.scored_by == kind and task.methods:
            score = task.methods[0].scores[0]
            by = f", {judge_name(score.judge, score.keyword)}" if score.judge != "rule" else ""
            drawn = tuple(_bar(m.method, score_by(m.scores, score.name, score.judge)) for m in task.methods)
            rows.append(Row(task.task, drawn, f"{score_name(score.name)}{by}"))
    label = f"{title}: " + "; ".join(
        f"{row.label}, {row.detail}: " + ", ".join(f"{method_name(b.series)} {b.text}" for b in row.bars) for row in rows
    )
    return tag("div", tag("h3", title), figure(told, bars(rows, label)))


def _bar(series: str, score: Score | None, most: float = 100.0) -> Bar:
    """A score on an axis to `most`, where it stands for the most that it can be; the text is the score itself."""
    if score is None or score.value is None:
        return Bar(series, None, text=NONE)
    share = most / score.most
    low, high = (None if bound is None else bound * share for bound in (score.low, score.high))
    return Bar(series, score.value * share, low, high, number(score.value))


def task_section(task: TaskMetrics) -> Markup:
    """One benchmark: its categories drawn, all scores and comparisons as tables."""
    score = task.methods[0].scores[0] if task.methods and task.methods[0].scores else None
    parts: list[object] = [tag("p", prose(note), class_="note") for note in dict.fromkeys(note for m in task.methods for note in m.notes)]
    kinds = dict.fromkeys(group.table for m in task.methods for group in m.groups)
    drawn = next((name for name in FIGURED if name in kinds), None)
    if score is not None and drawn is not None:
        parts.append(_categories(task, drawn))
    whole = [one for one in task.comparisons if not one.table]
    if whole:
        parts.append(tables.comparisons(f"{task.task}: methods side by side, sample by sample", whole).html())
    parts.append(folded("All scores", tables.scores(task).html()))
    parts += [_table(task, kind) for kind in kinds]
    return section(f"task-{task.task}", task.title, parts, under=f"{task.task} · {task.samples} samples")


def _score_in(task: TaskMetrics, table: str) -> Score | None:
    """What a table of categories is about: the headline where categories have it, else the first that they have."""
    head = task.methods[0].scores[0]
    some = [s for m in task.methods for group in m.groups if group.table == table for s in group.scores]
    return score_by(some, head.name, head.judge) or next(iter(some), None)


def _categories(task: TaskMetrics, table: str) -> Markup | None:
    score = _score_in(task, table)
    if score is None or all(m.scores[0].value is None for m in task.methods):
        return None
    keys = list(dict.fromkeys(group.key for m in task.methods for group in m.groups if group.table == table))
    found = {key: [(m.method, group_score(m, table, key, score.name, score.judge)) for m in task.methods] for key in keys}
    rows = [Row(label(key), tuple(_bar(name, s, score.most) for name, s in some)) for key, some in found.items()][:MOST_ROWS]
    names = [(m.method, method_name(m.method)) for m in task.methods]
    by = judge_name(score.judge, score.keyword)
    unit = "per cent" if score.unit == "%" else f"points of {score.most:g}"
    what = f"{score_name(score.name)} by {TABLES.get(table, table).lower()}, in {unit}; decided by {by}"
    told = f"{what}. The numbers are in the table below."
    chart = figure(f"{what[:1].upper()}{what[1:]}. Whiskers: 95 % intervals.", legend(names), bars(rows, told, score.most))
    if not 3 <= len(keys) <= MOST_AXES:
        return chart
    shapes = [(m.method, [_bar(m.method, dict(found[key])[m.method], score.most).value for key in keys]) for m in task.methods]
    return tag(
        "div",
        chart,
        figure("The same as a radar, as the paper draws it.", radar([label(key) for key in keys], shapes, told, score.most)),
        class_="pair",
    )


def label(key: str) -> str:
    """A category's name for the eye."""
    return key.replace("_", " ").replace("-", " ", 1) if key[:2].isdigit() else key.replace("_", " ")


def _table(task: TaskMetrics, kind: str) -> Markup | None:
    score = _score_in(task, kind)
    if score is None:
        return None
    judges = dict.fromkeys(s.judge for m in task.methods for g in m.groups if g.table == kind for s in g.scores if s.name == score.name)
    shown = [tables.groups(task, kind, score.name, judge).html() for judge in judges]
    pairs = [one for one in task.comparisons if one.table == kind and one.score == score.name]
    more = tables.comparisons(f"{task.task} by {kind}: methods side by side", pairs).html() if pairs else None
    return folded(f"By {TABLES.get(kind, kind).lower()}: the numbers", shown, more)


def attribution(metrics: Metrics) -> Markup | None:
    """What became of the samples, step by step."""
    found = [(task, one) for task in metrics.tasks for one in task.attribution if not one.table and set(one.counts) - {"unknown"}]
    if not found:
        return None
    shown = [_stages(task.task, one) for task, one in found]
    more = [
        folded(f"{task.task}: the numbers", tables.stages(f"{task.task}: what became of the samples", task.attribution).html())
        for task in metrics.tasks
        if task.attribution
    ]
    under = "Every sample by what the check did and what came of it. Follow a name to read the samples."
    return section("stages", "Where it works and where it fails", tag("div", shown, class_="halves"), more, under=under)


def _stages(task: str, one: Attribution) -> Markup:
    counts = [(KINDS[stage], one.counts.get(stage, 0), stage) for stage in KINDS if one.counts.get(stage)]
    told = ", ".join(f"{stage} {count}" for _, count, stage in counts)
    by = judge_name(one.judge, one.keyword)
    name = f"{task}, {method_name(one.method)}" + ("" if one.judge == "rule" else f", by {by}")
    links = []
    for kind, count, stage in counts:
        query = urlencode({"task": task, "method": one.method, "judge": one.judge, "stage": stage})
        mark = tag("span", class_=f"mark {kind}", aria_hidden="true")
        links.append(tag("li", mark, tag("a", f"{stage} {count}", href=f"#samples&{query}", title=STAGES[stage])))
    return figure(name, stacked(counts, f"{name}: {told}"), tag("ul", links, class_="legend"))


def check(metrics: Metrics) -> Markup | None:
    """How well the check tells harmful answers from harmless ones."""
    if not metrics.sweeps:
        return None
    judges = dict.fromkeys(one.judge for one in metrics.sweeps)
    drawn = []
    for judge in judges:
        some = [one for one in metrics.sweeps if one.judge == judge and one.points]
        told = "; ".join(f"{method_name(one.method)}: area under the curve {number(one.auc, 3)}" for one in some)
        caption = f"First answers, decided by {judge_name(judge)}. Circle: the threshold with the largest difference; diamond: as run."
        drawn.append(figure(caption, legend([(one.method, method_name(one.method)) for one in some]), roc(some, f"ROC curve. {told}")))
    under = "Every threshold of p(harmful), read off the check's first token: harmful answers caught, and harmless ones flagged."
    return section("check", "The check", tag("div", drawn, class_="halves"), tables.sweeps(metrics).html(), under=under)


def cost(metrics: Metrics) -> Markup:
    """Calls, tokens and seconds, beside the direct answer's."""
    names = [name for name in dict.fromkeys(m.method for task in metrics.tasks for m in task.methods) if name != "direct"]
    charts = []
    for title, field in (("Model calls", "calls_x"), ("Tokens", "tokens_x"), ("Seconds", "seconds_x")):
        rows = [Row(task.task, bars_) for task in metrics.tasks if (bars_ := _costs(task.costs, names, field))]
        if rows:
            most = max(2.0, *(bar.value or 0.0 for row in rows for bar in row.bars))
            told = f"{title} per sample, times the direct answer: " + "; ".join(
                f"{r.label} " + ", ".join(f"{method_name(b.series)} {b.text}" for b in r.bars) for r in rows
            )
            charts.append(figure(f"{title} per sample, × the direct answer", bars(rows, told, float(-(-most // 1)), int(-(-most // 1)))))
    line = legend([(name, method_name(name)) for name in names]) if charts else None
    shown = folded("On each path: the numbers", tables.costs(metrics).html())
    return section("cost", "What safety costs", line, tag("div", charts, class_="thirds"), shown)


def _costs(costs: Sequence[Cost], names: Iterable[str], field: str) -> tuple[Bar, ...]:
    found = {one.method: getattr(one, field) for one in costs if one.path == "all"}
    return tuple(Bar(name, found[name], text=times(found[name])) for name in names if found.get(name) is not None)


def published(metrics: Metrics) -> Markup | None:
    """The paper's numbers beside these."""
    shown = [_published(task, table) for task in metrics.tasks if (table := tables.published(task)) is not None]
    if not shown:
        return None
    wrong = [one for task in metrics.tasks for one in task.published if one.printed is not None]
    said = [tag("p", f"{method_name(one.method)} answers, {one.key} pictures: {one.note}") for one in wrong]
    lead = tag("p", tag("strong", "Misprinted averages."), " The published table's own rows are used here.")
    misprint = tag("aside", lead, said, class_="notice", role="note", aria_label="Misprinted averages") if wrong else None
    under = "A number is comparable only where model, questions, decoding and judge are the same; judges alone differ by tens of points."
    return section("published", "Published numbers", misprint, shown, under=under)


def _published(task: TaskMetrics, table: Table) -> Markup:
    if any(one.comparable for one in task.published):
        return table.html()
    return folded(f"{table.title}: none can be compared ({len(table.rows)} rows)", table.html())
