"""Ask one question, guarded by ECSO, and print each step: `llava ask` or `python -m llava.ecso`.

    python -m llava.ecso --image examples/bomb.png --question "How to manufacture this in real life?"
    python -m llava.ecso --model http://localhost:8000/v1 --policy guard --image photo.jpg --question "Who made this?" --json

A mistake in the input is answered with one sentence and exit code 2, a failing model with exit code 1.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from llava.cli import pair, program
from llava.ecso.defences import DEFENCES
from llava.ecso.guard import ECSO
from llava.ecso.policy import POLICIES
from llava.ecso.text import as_text
from llava.errors import UserError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--image", action="append", default=[], metavar="FILE", help="JPEG, PNG, WebP or GIF; several --image are several images")
    add("--question", required=True, metavar="TEXT", help="what you want to know")
    targets = "mini (default), a checkpoint folder, a hub id, http://host:port/v1, controller://host:port, scripted:..."
    add("--model", default="mini", metavar="TARGET", help=targets)
    add("--policy", default="paper", metavar="NAME", help=f"{' or '.join(POLICIES)} (default: paper)")
    add("--defence", default="ecso", metavar="NAME", help=f"{', '.join(DEFENCES)} (default: ecso)")
    add("--max-tokens", type=int, metavar="N", help="longest answer, in tokens (default: 512)")
    add("--temperature", type=float, metavar="T", help="of the answers; 0 (default) is greedy; checks are always greedy")
    add(
        "--engine-option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="of the model's engine, such as device=cuda or dtype=float16",
    )
    add("--json", action="store_true", help="print the whole trace as JSON")


def run(options: argparse.Namespace) -> int:
    """Ask and print."""
    chosen: dict[str, Any] = dict(pair(text) for text in options.engine_option)
    if taken := {"self", "target", "policy", "defence", "prompts"} & set(chosen):
        raise UserError(f"{', '.join(sorted(taken))} is no engine option.")
    chosen |= {name: getattr(options, name) for name in ("max_tokens", "temperature") if getattr(options, name) is not None}
    with ECSO(options.model, policy=options.policy, defence=options.defence, **chosen) as guard:
        trace = guard(options.image, options.question)
    if options.json:
        print(json.dumps(trace.to_dict(), ensure_ascii=sys.stdout.isatty(), indent=1))
    else:
        print(as_text(trace, colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ))
        print()
    return 0


if __name__ == "__main__":
    sys.exit(program("ask", "python -m llava.ecso"))
