"""A model on one node of a cluster, asked call by call from another machine: what `spread` has there.

It knows no record and no cluster. Errors of ours are given back instead of raised, so that they arrive as they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import llava
from llava.chat import Call, Reply
from llava.engines import Engine, connect, generate
from llava.errors import EngineClosed, LlavaError, UserError
from llava.eval.provenance import model_of


class Worker:
    """One engine. `open` comes first; then any number of calls at once."""

    def __init__(self) -> None:
        self._engine: Engine | None = None

    async def open(self, target: str, options: Mapping[str, Any], wanted: Mapping[str, Any]) -> Mapping[str, str] | LlavaError:
        """Load the model, if that has not been done; gives back where it computes and in what precision, or why it cannot be loaded.

        `wanted` is what the one who asks has: see `identity`.
        """
        try:
            self._engine = self._engine or await asyncio.to_thread(_opened, target, options, wanted)
        except LlavaError as error:
            return error
        computing: Mapping[str, str] = getattr(self._engine, "computing", {})
        return computing

    async def answer(self, call: Call) -> Reply | LlavaError:
        """The reply, or why there is none."""
        if self._engine is None:
            return EngineClosed("The worker has no model open.")
        try:
            return await generate(self._engine, call)
        except LlavaError as error:
            return error


def identity(sha256: str | None) -> dict[str, Any]:
    """What must be the same everywhere, or answers may differ: this package, and the model's files."""
    return {"version of llava": llava.__version__, "hash of the model's files": sha256}


def _opened(target: str, options: Mapping[str, Any], wanted: Mapping[str, Any]) -> Engine:
    here = identity(model_of(target, None, options).sha256)
    for name, value in wanted.items():
        if here[name] != value:
            raise UserError(f"Its {name} is {here[name]}, and {value} on the machine that asks.")
    return connect(target, **options)
