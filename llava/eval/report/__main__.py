"""Make a run into a report: `llava report RUN`.

    llava report runs/first              # report.html, report.md, metrics.json, outcomes.jsonl and samples.parquet, in the run's folder
    llava report runs/first --out site   # the same, elsewhere
    llava report runs/first --inspect    # also Inspect's logs, for `inspect view --log-dir runs/first/inspect`

Asks no model and no judge: `llava judge RUN` comes first. Exit codes: 0 done, 1 the disk did not take it, 2 a mistake in the input.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from llava.cli import program
from llava.errors import UserError
from llava.eval.metrics.measure import encoded
from llava.eval.records import write_whole
from llava.eval.report.material import Material, findings, gather, notices
from llava.eval.report.page import page
from llava.eval.report.parquet import parquet
from llava.eval.report.text import text


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="the --out folder of a `llava eval`")
    add("--out", type=Path, metavar="FOLDER", help="where the report goes (default: RUN)")
    add("--data", type=Path, metavar="FOLDER", help="where the benchmarks are, for their pictures (default: where the run had them)")
    add("--coverage", type=float, default=0.95, metavar="SHARE", help="a score needs verdicts on this share of its samples (default: 0.95)")
    add("--no-pictures", action="store_true", help="leave the pictures out of the page")
    add("--no-parquet", action="store_true", help="do not write samples.parquet")
    add("--inspect", action="store_true", help="also write logs that the viewer of Inspect opens")


def run(options: argparse.Namespace) -> int:
    """Write everything, and say what was found."""
    if options.out is not None and options.out.exists() and not options.out.is_dir():
        raise UserError(f"--out {options.out} is a file: name a folder.")
    material = gather(options.run, options.coverage, options.data, not options.no_pictures)
    out: Path = options.out or options.run
    for path in written(material, out, not options.no_parquet, options.inspect):
        print(path)
    for sentence in notices(material):
        print(f"note: {sentence}", file=sys.stderr)
    for sentence in findings(material.metrics):
        print(sentence)
    return 0


def written(material: Material, out: Path, with_parquet: bool, with_inspect: bool) -> list[Path]:
    """Write the report's files below `out`, all of them made before the first is written; raises `StorageError` and `UserError`."""
    made = {"report.html": page(material), "report.md": text(material)}
    if with_parquet:
        made["samples.parquet"] = parquet(material)
    if with_inspect:
        from llava.eval.report.inspect_log import logs

        made |= {f"inspect/{name}": data for name, data in logs(material).items()}
    made |= encoded(material.metrics)
    paths = []
    for name, data in made.items():
        write_whole(out / name, data)
        paths.append(out / name)
    return paths


if __name__ == "__main__":
    sys.exit(program("report", "python -m llava.eval.report"))
