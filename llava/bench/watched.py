"""An engine around an engine: it notes what each call said and when, and can put a verdict of one's own in the mouth of the checks.

Random weights never say "yes". With a forced verdict the check is still computed, as far as a model that says it would compute it: to
its last token for a "yes", to where it is settled for a "no". Only the text that the method reads is replaced, so that both paths of the
method can be timed with any model.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from llava.bench.plain import Said, forced
from llava.chat import Call, Delta
from llava.ecso.trace import CHECKS
from llava.engines.base import Engine, concurrency


class Watched:
    """`engine`, whose checks say `verdict` (None: what they say); `said` holds every finished call."""

    def __init__(self, engine: Engine, verdict: str | None = None) -> None:
        self.engine = engine
        self.verdict = verdict
        self.said: dict[Call, Said] = {}

    @property
    def name(self) -> str:
        return self.engine.name

    @property
    def concurrency(self) -> int:
        return concurrency(self.engine)

    async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
        """As the engine's; the text of a check whose verdict is forced comes in one piece at its end."""
        hidden = self.verdict is not None and call.step in CHECKS
        whole = hidden and not call.settled(self.verdict or "")
        begin, first = time.perf_counter(), None
        async with aclosing(self.engine.stream(replace(call, sought=()) if whole else call)) as deltas:
            async for delta in deltas:
                first = first or time.perf_counter() - begin
                reply = delta.reply
                if reply is not None:
                    self.said[call] = Said(reply, first, time.perf_counter() - begin)
                    reply = forced(call, reply, self.verdict)
                    yield Delta(reply.text if hidden else delta.text, reply)
                elif not hidden:
                    yield delta

    async def close(self) -> None:
        await self.engine.close()
