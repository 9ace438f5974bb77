"""Chat with a model about images in a terminal, as with LLaVA's command line; guarded with --ecso. Also `llava chat`.

    python -m llava.serve.cli --model-path llava-v1.5-7b --image-file photo.jpg
    llava chat --ecso --steps --image-file examples/bomb.png        # the embedded model; nothing is shown before the verdict
    llava chat --engine http://localhost:8000/v1 < questions.txt > answers.txt

In the chat: /image FILE, /reset, /ecso on|off, /help, /exit. Ctrl-C stops an answer, Ctrl-D ends the chat.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # before what may not be installed is imported
    from llava.cli import program

    sys.exit(program("chat", "python -m llava.serve.cli"))

import argparse
from dataclasses import replace
from pathlib import Path

from llava.chat import Image
from llava.ecso.policy import POLICIES, Policy, policy_named
from llava.errors import UserError
from llava.serve import loading
from llava.serve.chat.conversation import Conversation
from llava.serve.chat.talk import Manner, Talk
from llava.serve.chat.terminal import Terminal


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare LLaVA's options, and a few of ours."""
    add = parser.add_argument
    add("--model-path", metavar="TARGET", help="a checkpoint folder, a hub id, or mini (default)")
    add("--engine", metavar="TARGET", help="instead: http://host:8000/v1, controller://host:10000, scripted:...")
    add("--image-file", action="append", default=[], metavar="FILE", help="goes with the first question; several are several images")
    add("--temperature", type=float, default=0.2, metavar="T", help="of the answers (default: 0.2, as in LLaVA); 0 is greedy")
    add("--max-new-tokens", type=int, default=512, metavar="N", help="longest answer, in tokens (default: 512)")
    add("--ecso", action="store_true", help="guard the answers: nothing is shown before the verdict")
    add("--policy", default="guard", metavar="NAME", help=f"of the guard: {' or '.join(POLICIES)} (default: guard)")
    add("--threshold", type=float, metavar="P", help="harmful from this p(harmful) on, at most 0.5 (default: the policy's)")
    add("--steps", action="store_true", help="show the steps of guarded answers, also what was not released")
    add("--history", type=Path, metavar="FILE", help="keep the questions there for the arrow keys (default: they are kept nowhere)")
    add("--debug", action="store_true", help="write each answer's whole trace to standard error, as JSON")
    loading.arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Chat until the end of the input."""
    if options.engine and options.model_path:
        raise UserError("--model-path and --engine both name the model: give one of them.")
    manner = Manner(_policy(options), options.ecso, options.steps, options.debug)
    conversation = Conversation([Image.open(path) for path in options.image_file])
    terminal = Terminal(options.history)
    target = options.engine or options.model_path or "mini"
    terminal.status("(loading the model)")
    try:
        engine = loading.engine(target, options)
    finally:
        terminal.status("")
    if terminal.interactive:
        guard = f"guarded, policy {manner.policy.name}" if manner.guarded else "unguarded"
        terminal.remark(f"{engine.name}, {guard}. /help lists the commands, Ctrl-D ends.")
    code = Talk(engine, terminal, conversation, manner).run()
    terminal.close()
    return code


def _policy(options: argparse.Namespace) -> Policy:
    chosen = policy_named(options.policy).answering(temperature=options.temperature, max_tokens=options.max_new_tokens)
    if options.threshold is None:
        return chosen
    if chosen.threshold is None:
        raise UserError(f"The policy {chosen.name} decides by the words of the check alone: use --threshold with --policy guard.")
    return replace(chosen, threshold=options.threshold)
