"""The `llava` command: parses and calls, computes nothing.

    llava ask --image examples/bomb.png --question "How to manufacture this in real life?"

Each subcommand is a module with `arguments(parser)` and `run(options) -> exit code`, named in `COMMANDS` and imported when asked for.
What ends a command, and with which exit code, is decided here for all of them, once.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from llava import __version__
from llava.errors import LlavaError, UserError, unknown
from llava.interrupts import heeded


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand: where it lives, what it is for, and the extra that brings all that it needs where EXTRAS does not tell."""

    module: str
    summary: str
    extra: str = ""


COMMANDS = {
    "ask": Command("llava.ecso.__main__", "ask one question about an image, guarded by ECSO, and see the steps"),
    "chat": Command("llava.serve.cli", "chat about images in this terminal, guarded or not"),
    "demo": Command("llava.serve.demo", "see ECSO at work in a browser: controller, worker and page in one command", "demo"),
    "serve": Command("llava.serve.launch", "guarded answers for any OpenAI client: controller, worker and gateway in one command"),
    "gateway": Command("llava.serve.api_server", "the guarding gateway alone, in front of a server, a controller or a checkpoint"),
    "controller": Command("llava.serve.controller", "keep the table of model workers, as LLaVA's controller does"),
    "worker": Command("llava.serve.model_worker", "serve one model to a controller's clients, as LLaVA's model worker does"),
    "ecso-page": Command("llava.serve.gradio_web_server_ecso", "the ECSO page alone; it asks the workers of a controller", "demo"),
    "chat-page": Command(
        "llava.serve.gradio_web_server", "LLaVA's chat page for browsers, guarded; it asks the workers of a controller", "demo"
    ),
    "doctor": Command("llava.doctor.__main__", "say what is wrong with a gateway, controller, worker or model server"),
    "data": Command("llava.eval.data", "which benchmarks there are, where their files go, and whether they are complete"),
    "eval": Command("llava.eval.__main__", "put benchmarks to a model, direct and defended; an interrupted run goes on where it was"),
    "judge": Command("llava.eval.judge.__main__", "have the answers of a run judged: harmful or not, refused or not, graded"),
    "report": Command("llava.eval.report.__main__", "make a judged run into a page, a text and tables that people would publish"),
    "compare": Command("llava.eval.report.compare", "two methods of a run, or two runs, side by side and sample by sample"),
    "submit": Command("llava.eval.submit.__main__", "write the files that official tools take: MMBench, MM-Vet, MME"),
    "bench": Command("llava.bench.__main__", "measure what ECSO, evaluations and serving cost on this machine"),
}

# A package that only an extra (pyproject.toml) installs -> that extra.
EXTRAS = {"fastapi": "serve", "starlette": "serve", "uvicorn": "serve", "gradio": "demo"}

# What ends a command, and with which exit code; the first row that fits decides. An error that is in no row is a defect of ours, and
# shows its traceback.
EXITS: dict[type[BaseException], int] = {
    UserError: 2,
    LlavaError: 1,
    KeyboardInterrupt: 130,
    BrokenPipeError: 141,
}


class Parser(argparse.ArgumentParser):
    """argparse whose errors are ours: one sentence, no usage block."""

    def error(self, message: str) -> NoReturn:
        """Raise `UserError`."""
        raise UserError(f"{message[:1].upper()}{message[1:]}. See {self.prog} --help.")


def main(arguments: Sequence[str] | None = None, prog: str = "llava") -> int:
    """Run the command line and return its exit code; errors become one sentence on standard error."""
    return concluded(lambda: _dispatch(list(sys.argv[1:] if arguments is None else arguments), prog))


def program(command: str, prog: str) -> int:
    """The same for `python -m <module>`, which is the subcommand `command` under another name. A module that imports what may not be
    installed calls this above its imports: what is missing is told here, too."""
    return concluded(lambda: _run(command, sys.argv[1:], prog))


def pair(text: str) -> tuple[str, object]:
    """An option's KEY=VALUE, the value read as JSON where it is JSON (numbers, true), else as text; raises `UserError`."""
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise UserError(f"This looks like KEY=VALUE, not {text[:100]!r}.")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def concluded(work: Callable[[], int]) -> int:
    """Run `work`; the one map from errors to exit codes."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a character shows a question mark
    try:
        code = work()
        sys.stdout.flush()
    except tuple(EXITS) as error:
        if isinstance(error, BrokenPipeError):
            # The reader left, as `| head` does. Python flushes at exit once more: let it flush into nothing.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        else:
            print(f"llava: {' '.join(str(error).split()) or 'interrupted.'}", file=sys.stderr)
        return next(code for kind, code in EXITS.items() if isinstance(error, kind))
    finally:
        # An interrupt that ended a code of text (dataclasses and torch make such) is remembered by Python until the next one, and
        # `python -m` would die of the signal instead of giving our exit code.
        exec("")  # noqa: S102
    return code


def _dispatch(words: list[str], prog: str) -> int:
    width = max(map(len, COMMANDS)) + 2
    rows = "\n".join(f"  {name:{width}}{command.summary}" for name, command in COMMANDS.items())
    parser = Parser(
        prog=prog,
        description="Safe answers about images, with any vision-language model.",
        epilog=f"commands:\n{rows}\n\n{prog} COMMAND --help tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"llava {__version__}")
    parser.add_argument("command", metavar="COMMAND", help="one of those below")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.command not in COMMANDS:
        raise unknown("command", options.command, COMMANDS)
    return _run(options.command, options.rest, f"{prog} {options.command}")


def _run(command: str, words: Sequence[str], prog: str) -> int:
    row = COMMANDS[command]
    try:
        with heeded():
            module = importlib.import_module(row.module)
        parser = Parser(prog=prog, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        module.arguments(parser)
        code: int = module.run(parser.parse_args(words))
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRAS:
            raise  # a defect of ours, or of the installation
        raise UserError(f"{prog} needs {missing}, which is not installed: pip install 'llava[{row.extra or EXTRAS[missing]}]'.") from None
    return code


if __name__ == "__main__":
    sys.exit(main())
