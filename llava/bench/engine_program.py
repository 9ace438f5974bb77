"""Measure the engine: what ECSO costs on it, beside the plain way and beside the machine's own limit.

    llava bench engine --quick
    llava bench engine --shape 7b --device cuda --dtype bfloat16 --parts decode,check,flows

It prints Markdown tables, and writes engine.json (every round, as soon as it is done) and engine.svg to --out. Timings of a machine that
does something else meanwhile are worth nothing; it says how much others took.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from llava.bench.options import model_options, numbers, planned, words


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--quick", action="store_true", help="about a minute: one round, few rows, short answers")
    model_options(parser)
    add("--parts", type=words, metavar="LIST", help="some of flows,check,decode,mini (default: all)")
    add("--verdicts", type=words, metavar="LIST", help="forced verdicts, or the model's own: some of no,yes,model (default: no,yes)")
    add("--rounds", type=int, metavar="N", help="how often everything is measured (default: 3)")
    add("--samples", type=int, metavar="N", help="rows of a workload (default: 16)")
    add("--tokens", type=int, metavar="N", help="length of answers and captions (default: 64)")
    add("--in-flight", type=numbers, metavar="LIST", help="rows at a time on the engine (default: 1,4,16)")
    add("--batches", type=numbers, metavar="LIST", help="rows that decode together (default: 1,8,32)")
    add("--mini-rows", type=int, metavar="N", help="rows for the embedded model (default: 500)")
    add("--pictures", type=Path, metavar="FOLDER", help="pictures for the embedded model, besides drawn ones")
    add("--soak", type=int, metavar="N", help="also N mixed calls with random cancellations (default: 0)")
    add("--seed", type=int, metavar="N", help="of pictures and cancellations (default: 1)")
    add("--out", type=Path, default=Path("runs/bench"), metavar="FOLDER", help="for engine.json and engine.svg (default: runs/bench)")


def run(options: argparse.Namespace) -> int:
    """Measure, print, write."""
    from llava.bench import engine, report  # torch only now: a mistake and --help need not wait for it

    plan = planned(engine.Plan(), options)
    result = engine.run(
        plan,
        lambda line: print(line, file=sys.stderr),
        lambda so_far: report.write(options.out, "engine", report.data(so_far)),
    )
    print(engine.markdown(result))
    flows = result.medians().flows
    chart = report.chart(flows, engine.title(result)) if flows else None
    print(f"written: {report.write(options.out, 'engine', report.data(result), chart)}", file=sys.stderr)
    return 0
