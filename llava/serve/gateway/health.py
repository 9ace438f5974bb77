"""Whether the gateway can do its work: true after a self-test of the guard, false from an engine's failure until the next one passes.

While all is well nothing is asked of the model, and never because somebody asks `/ready`. Knows no engine.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from llava.errors import EngineError, EngineTimeout, Misconfigured, Overloaded, UnknownModel

log = logging.getLogger(__name__)
PAUSE = 5.0  # seconds between self-tests while they fail


class Health:
    """`ready` is what the last self-test or request showed; without a `test`, always true."""

    def __init__(self, test: Callable[[], Awaitable[None]] | None, pause: float = PAUSE) -> None:
        self._test = test
        self._pause = pause
        self._doubt = asyncio.Event()
        self._doubt.set()
        self.ready = test is None

    def failed(self, error: Exception) -> None:
        """A request ended with `error`. Only those count that say something about the engine itself."""
        if (
            self._test is not None
            and isinstance(error, EngineError | Misconfigured | UnknownModel)
            and not isinstance(error, Overloaded | EngineTimeout)
        ):
            self.ready = False
            self._doubt.set()

    async def watch(self) -> None:
        """Test until it passes, then wait for doubt; for ever."""
        while self._test is not None:
            await self._doubt.wait()
            try:
                await self._test()
            except Exception as error:  # noqa: BLE001 - a self-test may fail in any way; the loop goes on
                log.warning("the guard's self-test failed: %s", type(error).__name__)
                await asyncio.sleep(self._pause)
            else:
                self._doubt.clear()
                self.ready = True
