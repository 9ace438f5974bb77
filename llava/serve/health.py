"""Whether a server's model can work: true after a self-test, false from an engine's failure until the next self-test passes.

While all is well nothing is asked of the model, and never because somebody asks `/ready`. A model in this process may fail for good: after
some errors a GPU takes no work any more until its process ends. Then its engine says so (`ModelLost`), or self-tests fail one after
another, and it is for the process to end, so that who watches over it starts it anew (`lost`). Knows no engine.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable

from llava.errors import EngineError, EngineTimeout, Misconfigured, ModelLost, Overloaded, UnknownModel

log = logging.getLogger(__name__)
PAUSE = 5.0  # seconds between self-tests while they fail
MOST = 3  # self-tests that fail in a row: a model in this process does not come back by itself


class Health:
    """`ready` is what the last self-test or request showed; without a `test`, always true.

    `trusted`: ready before the first self-test, which then waits for a failure. `most`: so many self-tests that fail in a row are for good.
    """

    def __init__(
        self, test: Callable[[], Awaitable[None]] | None, pause: float | None = None, *, trusted: bool = False, most: float = math.inf
    ) -> None:
        self._test = test
        self._pause = PAUSE if pause is None else pause
        self._most = most
        self._doubt = asyncio.Event()
        self._lost = asyncio.Event()
        self._why = ModelLost("The model of this process fails at everything, a short self-test too: the process ends. Start it again.")
        self.ready = trusted or test is None
        if not self.ready:
            self._doubt.set()

    def failed(self, error: Exception) -> None:
        """A request ended with `error`. Only those count that say something about the engine itself."""
        if isinstance(error, ModelLost):
            self.ready, self._why = False, error
            self._lost.set()
        elif self._test is not None and _tells(error):
            self.ready = False
            self._doubt.set()

    async def watch(self) -> None:
        """Test until it passes, then wait for doubt; for ever, or until the model is lost."""
        failures = 0
        while self._test is not None and failures < self._most and not self.is_lost:
            await self._doubt.wait()
            try:
                await self._test()
            except Exception as error:  # noqa: BLE001 - a self-test may fail in any way; the loop goes on
                log.warning("a self-test of the model failed: %s", type(error).__name__)
                self.failed(error)
                failures += _tells(error)
                if failures < self._most and not self.is_lost:
                    await asyncio.sleep(self._pause)
            else:
                failures = 0
                self._doubt.clear()
                self.ready = not self.is_lost
        if failures:
            self._lost.set()

    @property
    def is_lost(self) -> bool:
        """Whether the model has failed for good."""
        return self._lost.is_set()

    async def lost(self) -> ModelLost:
        """Wait until the model has failed for good; gives the error that says so."""
        await self._lost.wait()
        return self._why


def _tells(error: Exception) -> bool:
    return isinstance(error, EngineError | Misconfigured | UnknownModel) and not isinstance(error, Overloaded | EngineTimeout)
