"""The embedded model's table of docs/results.md, with every figure from the commands themselves: python -m scripts.results

Runs `llava eval` on the small sets of playground/data/mini with four methods, `llava judge` with the rule by refusal phrases (no key, no
network), measures, and writes docs/results.json (what of the run's metrics.json the page shows) and the part of docs/results.md between its
two marks, in the report's own tables. A run that was interrupted goes on; other weights make another run. Minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from llava.eval.judge.judgment import KEYWORD
from llava.eval.metrics.material import load
from llava.eval.metrics.measure import from_json, measure, to_json, write
from llava.eval.metrics.result import Metrics, TaskMetrics
from llava.eval.provenance import model_of
from llava.eval.report import tables
from llava.eval.report.material import ordered
from scripts.mini.judge import harmful

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parent.parent
PAGE, FIGURES = ROOT / "docs/results.md", ROOT / "docs/results.json"
BEGIN, END = "<!-- make results -->\n", "<!-- end of make results -->\n"
TASKS = ("vlsafe", "mm_safetybench", "mossbench", "xstest", "mme", "mmbench")
METHODS = ("direct", "ecso", "caption_only", "refuse")
IN_FULL = ("xstest", "mme")  # what their first score does not tell: the harmful counterparts, cognition


def main() -> int:
    """Run, judge, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, help="samples a task: a quick look, which writes no page")
    options = parser.parse_args()
    sha256 = model_of("mini", None, {}).sha256 or ""
    run = ROOT / "runs/results" / (sha256[:12] + (f"-{options.limit}" if options.limit else ""))
    more = ["--task-option", "xstest.labels=safe,unsafe", *(["--limit", str(options.limit)] if options.limit else [])]
    _program("llava.eval", "--model", "mini", "--tasks", ",".join(TASKS), "--methods", ",".join(METHODS), "--out", str(run), *more)
    _program("llava.eval.judge", str(run))
    metrics = measure(run)
    write(metrics, run)
    found = {"agreement": agreement(run), "metrics": to_json(shown(metrics))}
    print(rendered(found))
    if not options.limit:
        FIGURES.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
        PAGE.write_text(spliced(PAGE.read_text("utf-8"), rendered(found)), "utf-8")
    return 0


def _program(module: str, *words: str) -> None:
    subprocess.run([sys.executable, "-m", module, *words], cwd=ROOT, check=True)


def agreement(run: Path) -> dict[str, list[int]]:
    """The rule by phrases beside the made world's own rule (scripts/mini/judge.py), over answers to harmful questions: how many, how many
    only the rule by phrases calls harmful, how many only the world's."""
    found = {}
    for task in load(run):
        if task.task.scored_by != "harmless":
            continue
        pairs = []
        for method in task.methods.values():
            said = method.said((KEYWORD, KEYWORD), "answer")
            told = [item for item in method.items if item.answer is not None and item.id in said]
            pairs += [(said[item.id][0].verdict == "harmful", harmful(item.answer or "")) for item in told]
        found[task.name] = [len(pairs), pairs.count((True, False)), pairs.count((False, True))]
    return found


def shown(metrics: Metrics) -> Metrics:
    """What the page shows, and nothing else."""
    found = ordered(metrics)
    return replace(
        found,
        tasks=tuple(map(_shown, found.tasks)),
        sweeps=tuple(replace(one, points=()) for one in found.sweeps if one.method == "ecso"),
        outcomes=(),
    )


def _shown(task: TaskMetrics) -> TaskMetrics:
    """Of categories only the kinds of picture, of comparisons and stages ECSO's, of costs not those of each path."""
    methods = (replace(m, groups=tuple(group for group in m.groups if group.table == "mode")) for m in task.methods)
    return replace(
        task,
        methods=tuple(methods),
        comparisons=tuple(one for one in task.comparisons if one.table == "" and one.b == "ecso"),
        attribution=tuple(one for one in task.attribution if one.table == "" and one.method == "ecso"),
        sweeps=(),
        costs=tuple(one for one in task.costs if one.path == "all"),
        published=(),
    )


def spliced(page: str, part: str) -> str:
    """The page with its generated part replaced."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + part + END + after


def rendered(found: Json) -> str:
    """The generated part of the page, from what docs/results.json holds."""
    metrics = from_json(found["metrics"])
    named = {task.task: task for task in metrics.tasks}
    pairs = [replace(one, key=task.task) for task in metrics.tasks for one in task.comparisons]
    stages = [replace(one, key=task.task) for task in metrics.tasks for one in task.attribution]
    parts = [
        tables.headlines(metrics),
        *(tables.scores(named[name]) for name in IN_FULL),
        tables.groups(named["mm_safetybench"], "mode", "harmless_rate", KEYWORD),
        _by_task(tables.comparisons("ECSO beside the direct answers, sample by sample", pairs)),
        _by_task(tables.stages("What became of the samples under ECSO", stages)),
        tables.sweeps(metrics),
        tables.costs(metrics),
    ]
    return "\n".join([_head(metrics, found["agreement"]), *(part.markdown() for part in parts)])


def _by_task(table: tables.Table) -> tables.Table:
    """A table of categories, each of which is a task here."""
    return replace(table, columns=tuple("Task" if name == "Category" else name for name in table.columns))


def _head(metrics: Metrics, agreeing: dict[str, list[int]]) -> str:
    samples = ", ".join(f"{task.task} {task.samples}" for task in metrics.tasks)
    total, phrases, world = (sum(counts[i] for counts in agreeing.values()) for i in range(3))
    versions = metrics.versions or {}
    return (
        f"Model `{metrics.model['sha256'][:12]}`, torch {versions['torch']}, transformers {versions['transformers']}. Samples: {samples}.\n"
        "Harmless and refused are decided by the rule by refusal phrases (a rule, no judge). Of "
        f"{total} answers to harmful questions it calls\n{phrases} harmful that are harmless by the made world's own rule, "
        f"and {world} harmless that are harmful. MME and MMBench are scored by their\nofficial rules.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
