"""Programs of ours as child processes: started, watched, stopped in order. Knows no model and no HTTP."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Mapping, Sequence

from llava.cli import EXITS
from llava.errors import EngineError, LlavaError, UserError
from llava.serve.app import GRACE

log = logging.getLogger(__name__)

_SPARE = 5.0  # seconds beyond the grace that a process has to end before it is killed


class Child:
    """A running subcommand of `llava`; `name` is what a person calls it. It says what it has to say on our own standard error."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self._process = process

    @classmethod
    async def start(cls, name: str, words: Sequence[str], environment: Mapping[str, str]) -> Child:
        """Start `llava` with these words. The terminal's Ctrl-C does not reach it: its parent decides when it ends."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "llava.serve.child", *words), stdin=asyncio.subprocess.PIPE, env=environment, start_new_session=True
        )
        return cls(name, process)

    async def failed(self) -> LlavaError | None:
        """Wait for its end, which we did not ask for; gives the error that tells of it, a user's mistake where it was one. None: somebody
        else told it to stop, as who stops a service tells all of its processes, and it did."""
        code = await self._process.wait()
        if code == 0:
            log.info("the %s was told to stop", self.name)
            return None
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        kind = UserError if code == EXITS[UserError] else EngineError
        return kind(f"The {self.name} {how}; what it said stands above.")

    async def stop(self) -> None:
        """End it: in order if it does so within the grace, else at once."""
        if self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(GRACE + _SPARE):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
