"""Which benchmarks there are, where their files go, and whether they are complete. Downloads nothing.

    llava data list
    llava data where mme
    llava data check mm_safetybench --task-option modes=SD_TYPO
    llava data check vlsafe --data playground/data/mini

Exit codes: 0 all is as it should be, 1 `check` found something wrong, 2 a mistake in the input.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from llava.errors import UserError
from llava.eval.sample import Task
from llava.eval.tasks import TASKS, configured
from llava.paths import DATA

MARKS = {"ok": "ok   ", "note": "note ", "wrong": "WRONG"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("action", choices=("list", "where", "check"), help="all benchmarks; where files go and come from; check them")
    parser.add_argument("task", nargs="*", metavar="TASK", help=f"some of: {', '.join(TASKS)}")
    parser.add_argument("--data", type=Path, default=DATA, metavar="FOLDER", help="the data folder (%(default)s)")
    parser.add_argument(
        "--task-option", action="append", default=[], metavar="[TASK.]KEY=VALUE", help="of a benchmark, such as mm_safetybench.modes=SD"
    )
    parser.add_argument("--no-pictures", action="store_true", help="check: do not decode the pictures")


def run(options: argparse.Namespace) -> int:
    """0: as it should be; 1: something is wrong; raises `UserError`."""
    if options.action != "list" and not options.task:
        raise UserError(f"Name a task: llava data {options.action} TASK, where TASK is one of {', '.join(TASKS)}.")
    chosen = configured(tuple(options.task or TASKS), options.task_option)
    if options.action == "list":
        for one in chosen:
            print(f"{one.name:15}{'here' if _here(one, options.data) else '-':6}{one.about.title} [{one.about.licence}]")
        return 0
    if options.action == "where":
        for one in chosen:
            _where(one, options.data)
        return 0
    return max([_check(one, options.data, not options.no_pictures) for one in chosen])


def _here(one: Task, root: Path) -> bool:
    try:
        return bool(one.files(root)) and all(place.optional or place.find(root) for place in one.where())
    except UserError:
        return False


def _where(one: Task, root: Path) -> None:
    print(f"{one.name}: {one.about.title}")
    for place in one.where():
        found = place.find(root)
        print(f"  {place.what}: {found or f'not there yet; goes to {root / place.candidates[0]}'}")
        if found is None and len(place.candidates) > 1:
            print(f"    (or: {', '.join(place.candidates[1:])})")
    for step in one.about.download:
        print(f"  get: {step}")
    print(f"  licence: {one.about.licence}")
    if one.about.citation:
        print(f"  cite: {one.about.citation}")


def _check(one: Task, root: Path, pictures: bool) -> int:
    print(f"{one.name}: {root}")
    wrong = 0
    for finding in one.check(root, pictures):
        wrong |= finding.level == "wrong"
        print(f"  {MARKS[finding.level]} {finding.text}")
    return wrong
