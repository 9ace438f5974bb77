"""Measure `llava eval`: samples a second, direct and ECSO together, beside the way of the original's scripts.

    llava bench eval --quick
    llava bench eval --workloads choice --rounds 5

It prints a Markdown table, and writes eval.json (every round) to --out. Timings of a machine that does something else meanwhile are
worth nothing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from llava.bench.options import model_options, planned, words


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--quick", action="store_true", help="about a minute: one round, few samples, short answers")
    model_options(parser)
    add("--workloads", type=words, metavar="LIST", help="some of safe,harmful (a picture for each question), choice (one for four)")
    add("--rounds", type=int, metavar="N", help="how often everything is measured (default: 3)")
    add("--samples", type=int, metavar="N", help="of a workload (default: 64)")
    add("--tokens", type=int, metavar="N", help="length of answers and captions (default: 64)")
    add("--short", type=int, metavar="N", help="length of answers to multiple choice (default: 2, the letter and the end)")
    add("--concurrency", type=int, metavar="N", help="samples under way at most (default: what llava eval takes)")
    add("--seed", type=int, metavar="N", help="of the pictures (default: 1)")
    add("--out", type=Path, default=Path("runs/bench"), metavar="FOLDER", help="for eval.json (default: runs/bench)")


def run(options: argparse.Namespace) -> int:
    """Measure, print, write."""
    from llava.bench import eval as bench  # torch only now: a mistake and --help need not wait for it
    from llava.bench import report

    plan = planned(bench.Plan(), options)
    result = bench.run(plan, lambda line: print(line, file=sys.stderr))
    print(bench.markdown(result))
    print(f"written: {report.write(options.out, 'eval', report.data(result))}", file=sys.stderr)
    return 0
