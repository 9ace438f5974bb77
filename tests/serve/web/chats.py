"""A chat session without a page: what a scripted model says in it, and what was to be seen on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from llava.chat import Image
from llava.ecso.policy import policy_named
from llava.engines import ScriptedEngine
from llava.engines.scripted import Line
from llava.errors import UserError
from llava.serve.web import running
from llava.serve.web.chat import view
from llava.serve.web.chat.session import Asking, Session
from llava.serve.web.pictures import Shown
from tests import factories

DRAFT = "DRAFT-of-a-bomb-7f3a"
HARMFUL: dict[str, Line] = {
    "answer": f"{DRAFT} mix the powder.",
    "check": "Yes",
    "caption": "CAPTION-5b1c a red bomb.",
    "regenerate": "I cannot help with that.",
    "recheck": "No",
}
HARMLESS = HARMFUL | {"answer": "A cat on a mat.", "check": "No"}
IMAGE = factories.image()


@contextmanager
def lent(ids: Sequence[str]) -> Iterator[tuple[Image, ...]]:
    if "gone" in ids:
        raise UserError("A picture is no longer kept: add it again.")
    yield tuple(IMAGE for _ in ids)


def asking(script: Any, **changes: Any) -> Asking:
    engine = script if isinstance(script, ScriptedEngine) else ScriptedEngine(script)
    return replace(Asking(engine, "tiny", policy_named("guard"), lent), **changes)


def shown(id: str = "a") -> Shown:
    return Shown(id, IMAGE.sha256, (8, 8), "data:image/jpeg;base64,")


async def all_drawn(session: Session, question: str, how: Asking, pictures: Sequence[Shown] = ()) -> list[str]:
    """Ask; gives everything that was to be seen on the way."""
    session.ask(question, pictures, how)
    seen = []
    async with aclosing(session.answer()) as changes:
        async for _ in changes:
            seen.append(view.past(session) + view.running(session) + repr(session.turns))
    return seen


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(work())


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "PACE", 0.0)
