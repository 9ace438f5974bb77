"""What the benchmarks' options have in common. Knows no benchmark."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import Field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from llava.errors import UserError, unknown


class _Plan(Protocol):
    """A frozen dataclass; `quick` makes a small one of it."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def quick(self: P) -> P: ...


P = TypeVar("P", bound=_Plan)


def planned(plan: P, options: argparse.Namespace) -> P:
    """What `options` make of a benchmark's default plan: the quick one where that is asked for, and what is said by name.

    Raises `UserError` when `--out` names a file.
    """
    if options.quick:
        plan = plan.quick()
    said = {field.name: getattr(options, field.name, None) for field in fields(plan)}
    plan = replace(plan, **{name: value for name, value in said.items() if value is not None})
    check_folder(options.out)
    return plan


def check_names(plan: object, **known: Iterable[str]) -> None:
    """Raise `UserError` where a field of `plan` holds a name that is none of the `known` ones, or no name at all."""
    for field, names in known.items():
        chosen = getattr(plan, field)
        for value in (chosen,) if isinstance(chosen, str) else chosen:
            if value not in names:
                raise unknown(field, value, names)
        if not chosen:
            raise UserError(f"Nothing is chosen: {field} are some of {', '.join(names)}.")


def check_least(plan: object, **least: int) -> None:
    """Raise `UserError` where a field of `plan`, a whole number or several, is smaller than it must be at `least`; None is no number."""
    for field, bound in least.items():
        value = getattr(plan, field)
        if isinstance(value, tuple):
            if not value or min(value) < bound:
                raise UserError(f"{field} is {value}: give whole numbers, each at least {bound}.")
        elif value is not None and value < bound:
            raise UserError(f"{field} is {value}: give at least {bound}.")


def check_folder(folder: Path) -> None:
    """Raises `UserError` when `--out` names a file."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder} is a file: name a folder.")


def model_options(parser: argparse.ArgumentParser) -> None:
    """Declare what a `RandomModel` has."""
    add = parser.add_argument
    add("--shape", metavar="NAME", help="of the random model: 33m (default: 576 image tokens, 33 M parameters), 7b (for a GPU), tiny")
    add("--device", metavar="NAME", help="cpu (default), cuda, mps, auto")
    add("--dtype", metavar="NAME", help="float32 (default on a CPU), bfloat16 (default elsewhere), float16")
    add("--threads", type=int, metavar="N", help="processor cores for torch (default: its own choice)")


def words(text: str) -> tuple[str, ...]:
    """An option's texts, separated by commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def numbers(text: str) -> tuple[int, ...]:
    """An option's whole numbers, separated by commas."""
    return tuple(int(word) for word in words(text))


numbers.__name__ = "list of whole numbers"  # argparse says it in its error
