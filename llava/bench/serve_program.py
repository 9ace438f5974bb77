"""Measure serving: what the gateway costs, what many clients get, when the first text of a guarded stream comes.

    llava bench serve --quick
    llava bench serve --parts overhead,streams --rounds 5

It starts its own servers on loopback, prints Markdown tables, and writes serve.json (every round) to --out. Timings of a machine that
does something else meanwhile are worth nothing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from llava.bench.options import numbers, planned, words


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--quick", action="store_true", help="a minute or two: one round, few requests, a tiny model instead of 33m, 100 streams")
    add("--parts", type=words, metavar="LIST", help="some of overhead,streams,mini,long,shape,first (default: all)")
    add("--rounds", type=int, metavar="N", help="how often everything is measured (default: 3)")
    add("--clients", type=numbers, metavar="LIST", help="clients at a time, for all parts (default: each part's own, such as 1,4,16)")
    add("--streams", type=int, metavar="N", help="streams open at one time (default: 1000)")
    add("--shape", metavar="NAME", help="of the random model of parts shape and first: 33m (default), tiny, 5m, 7b")
    add("--tokens", type=int, metavar="N", help="longest answer of the models; random ones always give as many (default: 64)")
    add("--requests", type=int, metavar="N", help="at each level of parts mini and long, at least (default: 48)")
    add("--per-client", type=int, metavar="N", help="requests of a client to the scripted model (default: 16)")
    add("--seed", type=int, metavar="N", help="of the pictures (default: 1)")
    add("--out", type=Path, default=Path("runs/bench"), metavar="FOLDER", help="for serve.json (default: runs/bench)")


def run(options: argparse.Namespace) -> int:
    """Measure, print, write."""
    from llava.bench import report, serve, serve_report  # torch only now: a mistake and --help need not wait for it

    plan = planned(serve.Plan(), options)

    def say(number: int, part: str, record: serve.Record) -> None:
        print(f"round {number + 1} of {plan.rounds}, {part}: {serve_report.line(record)}", file=sys.stderr, flush=True)

    result = serve.run(plan, say)
    print(serve_report.markdown(result))
    print(f"written: {report.write(options.out, 'serve', report.data(result))}", file=sys.stderr)
    return 0
