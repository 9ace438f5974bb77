"""Carry out the acceptance matrix, and write what it counted into docs/security.md.

    make resilience                                          # all rows at full scale: about half an hour, on idle cores
    python -m tests.resilience --rows 7,9,44 --scale 0.05    # a quick look; --no-write leaves the page as it is
    python -m tests.resilience --rows 6 --scale 1            # the soak: one hour

Most rows wait more than they compute, so several lanes go on side by side, each a process with a stack of its own. The exit code is 0
when nothing was lost.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.resilience import report
from tests.resilience.bundle import Levels, broken, golden, levels, probing
from tests.resilience.matrix import Row, chosen, divided, rows
from tests.resilience.stack import Stack, stack
from tests.resilience.tally import Tally, upper_bound


async def carry_out(numbers: list[int], scale: float, folder: Path, *, write: bool) -> int:
    """Run rows one after the other on one standing stack; gives how many trials were lost."""
    known, lost = rows(), 0
    async with stack(folder, scale) as running:
        running.golden = await golden(running)
        begin = levels(running)
        for number in numbers:
            before = levels(running) if number != numbers[-1] else begin  # what each row leaves behind may not add up
            tally, seconds = await one(running, known[number], before)
            lost += tally.lost
            _tell(number, tally, seconds)
            if write:
                report.record(known, number, report.entry(tally, scale, seconds))
    return lost


async def one(running: Stack, row: Row, before: Levels) -> tuple[Tally, float]:
    """One row and its post-conditions."""
    tally, begin = Tally(), time.monotonic()
    async with probing(running.gateway) as probe:
        try:
            await row.play(running, tally)
        except Exception as error:  # noqa: BLE001 - a row that cannot go on is lost; the rows after it still run
            tally.count("the row itself", [f"{type(error).__name__}: {error}"])
        seconds = time.monotonic() - begin
    tally.count("afterwards", await broken(running, before) + ([f"/health failed {probe.failed} times"] if probe.failed else []))
    tally.figures["slowest /health"] = f"{1000 * probe.slowest:.0f} ms"
    return tally, seconds


def _tell(number: int, tally: Tally, seconds: float) -> None:
    bound = 100 * upper_bound(tally.lost, tally.tried)
    print(f"row {number:2}: tried {tally.tried:6}, lost {tally.lost:3}, below {bound:.2g} %, {seconds:.0f} s  {tally.figures}", flush=True)  # noqa: T201
    for reason, count in tally.reasons.most_common(10):
        print(f"    {count} x {reason}", flush=True)  # noqa: T201


def side_by_side(numbers: list[int], options: argparse.Namespace, folder: Path) -> bool:
    """The rows in lanes, each a run of its own; whether nothing was lost in any."""
    seconds = {int(number): found["seconds"] / found["scale"] for number, found in report.load().items()}
    words = ["--scale", str(options.scale), "--lanes", "1", *(["--no-write"] if options.no_write else [])]
    programs = []
    for at, lane in enumerate(divided(numbers, options.lanes, seconds)):
        which = ["--rows", ",".join(map(str, lane)), "--keep", str(folder / f"lane-{at}")]
        programs.append(subprocess.Popen([sys.executable, "-m", "tests.resilience", *which, *words], start_new_session=True))
    try:
        codes = [program.wait() for program in programs]
        return not any(codes)
    finally:
        for program in programs:  # what still runs, where this one was told to stop: Ctrl-C reaches it only here, and once
            program.terminate()
            program.wait()


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.resilience", description="Carry out the acceptance matrix.")
    parser.add_argument("--rows", metavar="1-5,7", help="which rows (default: all but the soak, row 6)")
    parser.add_argument("--scale", type=float, default=1.0, help="how many trials of each kind, in relation to the full run (default: 1)")
    parser.add_argument("--lanes", type=int, default=(os.cpu_count() or 1) + 1, help="how many rows at a time (default: cores + 1)")
    parser.add_argument("--no-write", action="store_true", help="leave docs/security.md as it is")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the logs of all processes there")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # the way out that ends all servers
    numbers = chosen(options.rows) if options.rows else [number for number, row in rows().items() if not row.optional]
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary) / "run"
        if options.lanes > 1 and len(numbers) > 1:
            return 0 if side_by_side(numbers, options, folder) else 1
        lost = asyncio.run(carry_out(numbers, options.scale, folder, write=not options.no_write))
    print(f"{lost} lost" if lost else "nothing was lost")  # noqa: T201
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
