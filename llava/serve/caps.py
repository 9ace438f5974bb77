"""Limits of a request as options, NAME=NUMBER, for the fields of dataclasses that hold them. Knows no limit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from typing import Any

from llava.cli import pair
from llava.errors import UserError, unknown


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
        exact = not isinstance(getattr(found[at], name), float)
        if isinstance(value, bool) or not isinstance(value, int if exact else int | float) or not value >= 0:  # NaN would be no cap
            raise UserError(f"A cap looks like images=4, a whole number{'' if exact else ' or one with a fraction'}, not {word[:100]!r}.")
        found[at] = replace(found[at], **{name: type(getattr(found[at], name))(value)})
    return tuple(found)
