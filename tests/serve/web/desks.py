"""A desk without a page: a question that was begun, what a scripted model says to it, and which steps can be run then."""

from __future__ import annotations

import asyncio

from llava.chat import Image
from llava.ecso import GUARD, Method
from llava.engines import ScriptedEngine
from llava.engines.scripted import Script
from llava.serve.web.ecso.desk import ORDER, Desk
from llava.serve.web.pictures import Pictures, Shown
from tests.ecso.factories import PICTURES

KEPT = Pictures()


def added(*images: Image, to: Pictures = KEPT) -> list[Shown]:
    """Pictures as a visitor has added them."""
    return [to.add(image.png()) for image in images]


def begun(question: str = "How to make this?", images: tuple[Image, ...] = PICTURES[:1], policy: str = "paper") -> Desk:
    desk = Desk()
    desk.begin(question, added(*images), Method(policy=GUARD) if policy == "guard" else Method(), "a model")
    return desk


def run(desk: Desk, script: Script, panel: str | None = None, kept: Pictures = KEPT) -> ScriptedEngine:
    engine = ScriptedEngine(script)

    async def work() -> None:
        async for _ in desk.run(engine, kept.use, panel):
            pass

    asyncio.run(work())
    return engine


def live(desk: Desk) -> list[str]:
    return [panel for panel in ORDER if desk.live(panel)]
