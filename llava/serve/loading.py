"""LLaVA's options that say how a model is loaded into this process, and what becomes of them: the model worker's and the terminal chat's.

What cannot be honoured is refused with a sentence that says what to do instead. Knows no server and no terminal.
"""

from __future__ import annotations

import argparse

from llava.cli import pair
from llava.engines import Engine, connect
from llava.errors import UserError
from llava.model.templates import template_for


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare them."""
    add = parser.add_argument
    add("--model-base", metavar="PATH", help="not supported yet: merge a LoRA or projector-only checkpoint into its base first")
    add("--device", metavar="NAME", help="cpu, cuda, cuda:N, mps (default: the best there is)")
    add("--conv-mode", metavar="NAME", help="conversation template (default: by the model's name)")
    add("--load-8bit", action="store_true", help="not supported yet: try --engine-option dtype=float16")
    add("--load-4bit", action="store_true", help="not supported yet, like --load-8bit")
    add("--engine-option", action="append", default=[], metavar="KEY=VALUE", help="of the engine, such as dtype=float16")


def engine(target: str, options: argparse.Namespace, **more: object) -> Engine:
    """The engine for `target` with these options; `more` are options that --engine-option may replace. None counts as not given.

    Raises `UserError` for what the engine cannot do, and what `connect` raises.
    """
    if options.model_base:
        raise UserError(
            "--model-base (LoRA and projector-only checkpoints) is not supported yet: merge the checkpoint into its base first."
        )
    if options.load_8bit or options.load_4bit:
        raise UserError("--load-8bit and --load-4bit are not supported by the engine yet: try --engine-option dtype=float16.")
    if options.conv_mode:
        template_for(target, options.conv_mode)  # a wrong name is told at once, not after the weights are read
    flags = {"device": options.device, "conv_mode": options.conv_mode, **more}
    given = {name: value for name, value in flags.items() if value is not None}
    return connect(target, **{**given, **dict(pair(text) for text in options.engine_option)})
