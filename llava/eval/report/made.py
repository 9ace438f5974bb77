"""How the numbers were made: sessions, model, data, prompts, judges. From the manifest and the headers of the records."""

from __future__ import annotations

import json
from collections.abc import Iterator

from llava.eval.judge.judgment import Judgment
from llava.eval.judge.panel import MAJORITY, agreement
from llava.eval.metrics.material import MethodRun
from llava.eval.report.markup import Markup, tag
from llava.eval.report.material import Material, shown_command
from llava.eval.report.sections import folded, section
from llava.eval.report.tables import Table
from llava.eval.report.words import NONE, method_name, number


def sessions(material: Material) -> Table:
    """Every session that worked on the run."""
    rows = []
    for one in material.manifest["sessions"]:
        commit = str(one.get("git") or NONE)[:12]
        rows.append((str(one.get("begun")), str(one.get("ended") or NONE), str(one.get("host")), commit, shown_command(one.get("command"))))
    return Table("Sessions", ("Begun", "Ended", "Machine", "Commit", "Command"), tuple(rows), words=5)


def inputs(material: Material) -> Table:
    """Hashes of all that decides the answers."""
    rows = [("model", material.model, str(material.metrics.model.get("sha256") or "behind an address: no hash"))]
    for task in material.tasks:
        header = task.header
        rows.append((f"{task.name}: questions", f"{header['task']['samples']} in the benchmark", str(header["data"].get("sha256") or NONE)))
        rows += [(f"{task.name}: file", name, str(value)) for name, value in header["data"].get("files", {}).items()]
    prompts = {(run.method, str(run.header["method"].get("prompts_sha256") or NONE)) for run in _runs(material)}
    rows += [("prompts", method_name(method), value) for method, value in sorted(prompts)]
    return Table("What went in, by SHA-256", ("What", "Which", "SHA-256"), tuple(rows), words=3)


def judging(material: Material) -> Table:
    """Who judged what, as they were asked for and as they called themselves, and what it took."""
    rows: dict[tuple[str, str, str], list[Judgment]] = {}
    for one in _judgments(material):
        rows.setdefault((one.judge, one.mode, one.model or NONE), []).append(one)
    shown = []
    for key, some in sorted(rows.items()):
        lost = sum(not one.counted for one in some)
        costs = [one.cost for one in some]
        dollars = NONE if None in costs else f"{sum(cost or 0.0 for cost in costs):.2f}"
        shown.append((*key, f"{len(some)}", f"{lost}", f"{sum(one.calls for one in some)}", dollars))
    columns = ("Judge", "Mode", "Called itself", "Judgments", "Without a verdict", "Requests", "Cost, US $")
    return Table("Judges", columns, tuple(shown), words=3)


def agreeing(material: Material) -> Table:
    """How far the judges agree where several judged the same texts."""
    rows = tuple((who, f"{texts}", number(alpha, 3)) for who, texts, alpha in agreement(_judgments(material)))
    note = "Alpha is 1 for full agreement and 0 for what chance would bring; it is not defined where all verdicts are the same."
    return Table("Agreement of the judges", ("Judges", "Texts", "Krippendorff's alpha"), rows, (note,))


def _judgments(material: Material) -> list[Judgment]:
    """Those that somebody gave: a panel's are counted from them."""
    return [one for run in _runs(material) for one in run.judgments if one.mode != MAJORITY]


def _runs(material: Material) -> list[MethodRun]:
    return [run for task in material.tasks for run in task.methods.values()]


def versions(material: Material) -> Table:
    """Packages, as the last session had them."""
    return Table("Versions", ("Package", "Version"), tuple((material.metrics.versions or {}).items()), words=2)


def all_tables(material: Material) -> Iterator[Table]:
    """Those that have rows."""
    for table in (sessions(material), judging(material), agreeing(material), inputs(material), versions(material)):
        if table.rows:
            yield table


def _policies(material: Material) -> Iterator[tuple[str, str]]:
    """How each method was run; more than once where that depends on the benchmark, as under the preset repo."""
    for name in material.methods:
        told: dict[str, list[str]] = {}
        for task in material.tasks:
            if name in task.methods:
                told.setdefault(json.dumps(task.methods[name].header["method"], indent=1, ensure_ascii=False), []).append(task.name)
        for how, tasks in told.items():
            yield method_name(name) + (f": {', '.join(tasks)}" if len(told) > 1 else ""), how


def made(material: Material) -> Markup:
    """The section."""
    shown = [(tag("h3", title), tag("pre", told)) for title, told in _policies(material)]
    manifest = {
        **material.manifest,
        "sessions": [one | {"command": shown_command(one.get("command"))} for one in material.manifest["sessions"]],
    }
    return section(
        "made",
        "How this was made",
        [table.html() for table in all_tables(material)],
        folded("Methods, policies and sampling", shown),
        folded("The run's manifest", tag("pre", json.dumps(manifest, indent=1, ensure_ascii=False))),
        under="Enough to run it again: llava eval with these commands on these files gives the same answers where decoding is greedy.",
    )
