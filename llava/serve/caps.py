"""Limits of a request as options, NAME=NUMBER, for the fields of dataclasses that hold them. Knows no limit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from typing import Any

from llava.cli import pair
from llava.errors import UserError, unknown

MOST = 2**53  # and no NaN, which would be no cap at all


def names(kinds: Iterable[Any]) -> list[str]:
    """The fields of these dataclasses, as the help tells them."""
    return [field.name for kind in kinds for field in fields(kind)]


def capped(words: Sequence[str], *kinds: Any, only: Sequence[str] | None = None) -> tuple[Any, ...]:
    """The dataclasses `kinds` with what `words` say of their fields (of those in `only`); raises `UserError`. Seconds may have a fraction,
    counts not."""
    known = names(kinds) if only is None else only
    found = list(kinds)
    for word in words:
        name, value = pair(word)
        if name not in known:
            raise unknown("cap", name, known)
        at = next(i for i, kind in enumerate(found) if hasattr(kind, name))
        kind = type(getattr(found[at], name))
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST or value != kind(value):
            raise UserError(f"A cap looks like images=4{', a whole number' if kind is int else ''}, not {word[:100]!r}.")
        found[at] = replace(found[at], **{name: kind(value)})
    return tuple(found)
