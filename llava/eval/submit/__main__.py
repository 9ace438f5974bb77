"""Write the files that official tools take: MMBench's table, MM-Vet's JSON, MME's result folder.

    llava submit runs/first                 # below runs/first/submit
    llava submit runs/first --out upload

Exit codes: 0 done, 2 a mistake in the input, 3 some samples have no answer (official tools want all of them).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from llava.cli import program
from llava.eval.submit.folder import submit

EXIT_INCOMPLETE = 3


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a run, as `llava eval --out` made it")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where the files go (default: RUN/submit)")


def run(options: argparse.Namespace) -> int:
    """Write, and say what was written."""
    done = submit(options.run, options.out)
    for one in done:
        place = one.files[0] if len(one.files) == 1 else f"{one.files[0].parent} ({len(one.files)} files)" if one.files else "nothing"
        print(f"{one.task} {one.method}: {one.rows} of {one.samples} answers -> {place}")
        if one.changed:
            print(
                f"{one.task} {one.method}: {one.changed} answers hold what the format cannot: replaced by spaces, or cut.", file=sys.stderr
            )
        if not one.whole:
            print(f"{one.task} {one.method}: {one.samples - one.rows} samples have no answer; official tools want all.", file=sys.stderr)
    return 0 if all(one.whole for one in done) else EXIT_INCOMPLETE


if __name__ == "__main__":
    sys.exit(program("submit", "python -m llava.eval.submit"))
