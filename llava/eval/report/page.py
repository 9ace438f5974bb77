"""report.html: one file that asks nobody for anything, with a content policy that would not let it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from llava.eval.metrics.result import NOBODY
from llava.eval.report.made import made
from llava.eval.report.markup import Markup, prose, tag
from llava.eval.report.material import Material, findings, notices, titled
from llava.eval.report.samples import browser_data, for_script
from llava.eval.report.sections import attribution, check, cost, overview, published, section, task_section
from llava.eval.report.words import METHODS, STAGES, STEPS, method_name

FILTERS = (
    ("task", "Task"),
    ("category", "Category"),
    ("mode", "Picture"),
    ("method", "Method"),
    ("judge", "Decided by"),
    ("verdict", "Verdict"),
    ("stage", "What became of it"),
)
FOUR = ("answer", "check", "caption", "regenerate")
ORDERS = {"direct": ("answer",), "ecso": FOUR, "caption_only": ("caption", "regenerate"), "refuse": ("answer", "check")}


def page(material: Material) -> bytes:
    """The whole document, UTF-8."""
    style, script = (files(__package__).joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    title = titled(material)
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"{title} – llava report"),
        tag("style", Markup(style)),
    )
    data = {**browser_data(material.tasks, material.metrics, material.pictures.urls), "names": _names(material)}
    sections = _sections(material, data)
    body = tag(
        "body",
        tag("a", "Skip to the samples", href="#samples", class_="skip"),
        _top(material, title),
        _contents(sections),
        tag("main", [one for _, _, one in sections], class_="wide"),
        tag("footer", tag("p", "Made by llava report. Model answers are shown as they are; some may be offensive.", class_="wide")),
        tag("script", Markup(for_script(data)), type="application/json", id="data"),
        tag("script", Markup(script)),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n".encode()


def _policy(style: str, script: str) -> str:
    """Nothing but this file's own style and script, and pictures inside it; no string ever becomes markup."""
    own = {name: f"'sha256-{_hash(text)}'" for name, text in (("style", style), ("script", script))}
    return (
        f"default-src 'none'; script-src {own['script']}; style-src {own['style']}; img-src data:; base-uri 'none'; form-action 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _names(material: Material) -> dict[str, Any]:
    """What the browser's script has to call by a name."""
    return {
        "methods": {name: method_name(name) for name in material.methods},
        "judges": material.judges,
        "steps": STEPS,
        "stages": dict(STAGES),
        "order": {name: ORDERS[name] for name in METHODS},
    }


def _top(material: Material, title: str) -> Markup:
    told = [tag("li", sentence.replace(" %", "\u00a0%")) for sentence in findings(material.metrics)]
    samples = sum(task.samples for task in material.metrics.tasks)
    facts = (
        ("Model", material.model),
        ("Methods", ", ".join(method_name(name) for name in material.methods)),
        ("Benchmarks", ", ".join(task.task for task in material.metrics.tasks)),
        ("Samples", f"{samples:,}"),
        ("Decided by", ", ".join(name for name in material.judges.values() if name != NOBODY)),
        ("Run", material.folder.name or str(material.folder)),
    )
    listed = tag("dl", [tag("div", tag("dt", name), tag("dd", value)) for name, value in facts], class_="facts")
    lines = tag("ul", told, class_="findings") if told else None
    said = [tag("p", prose(sentence)) for sentence in notices(material)]
    aside = tag("aside", said, class_="notice", role="note", aria_label="Before you read on") if said else None
    return tag(
        "header",
        tag("div", tag("p", "Safety, utility and cost", class_="eyebrow"), tag("h1", title), lines, listed, aside, class_="wide"),
        class_="top",
    )


def _sections(material: Material, data: dict[str, Any]) -> list[tuple[str, str, Markup]]:
    """Those that have something to show: the place that a link names, what the link says, the section."""
    metrics = material.metrics
    all_of_them = (
        ("overview", "At a glance", overview(metrics)),
        *((f"task-{task.task}", task.task, task_section(task)) for task in metrics.tasks),
        ("stages", "Stages", attribution(metrics)),
        ("check", "Check", check(metrics)),
        ("cost", "Cost", cost(metrics)),
        ("published", "Published", published(metrics)),
        ("samples", "Samples", _browser(data)),
        ("made", "How", made(material)),
    )
    return [(place, name, one) for place, name, one in all_of_them if one is not None]


def _contents(sections: Sequence[tuple[str, str, Markup]]) -> Markup:
    links = [tag("li", tag("a", name, href=f"#{place}")) for place, name, _ in sections]
    return tag("nav", tag("ul", links, class_="wide"), aria_label="Contents")


def _browser(data: dict[str, Any]) -> Markup:
    selects = [tag("label", name, tag("select", id=f"f-{key}")) for key, name in FILTERS]
    find = tag("label", "Text", tag("input", id="f-find", type="search", placeholder="in questions and answers", autocomplete="off"))
    cut = f"Texts longer than {data['cut']:,} characters are cut here, not in the records." if data["cut"] else None

    def pager(end: str) -> Markup:
        told = tag("p", id="count", role="status", tabindex=-1) if not end else None
        back, forth = (tag("button", name, type="button", id=f"{key}{end}") for key, name in (("back", "Previous"), ("next", "Next")))
        return tag("div", told, back, forth, class_="pager")

    return section(
        "samples",
        "Every sample",
        tag("noscript", tag("p", "The samples need JavaScript. samples.parquet and the records hold all of them.", class_="notice")),
        tag("p", cut, class_="note") if cut else None,
        tag("div", [*selects, find], class_="filters", role="search", aria_label="Filter the samples"),
        pager(""),
        tag("div", id="list", aria_label="Samples"),
        pager("2"),
        under="What was asked, what each step said, what was released. Pictures are blurred until you click them.",
    )
