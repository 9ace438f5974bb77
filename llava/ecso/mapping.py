"""Many rows through one guard: bounded concurrency, order kept, a progress bar, and nothing finished is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from llava.ecso.defences import Method
from llava.ecso.driver import run
from llava.ecso.inputs import row_chat
from llava.ecso.portal import Portal
from llava.ecso.trace import Trace
from llava.errors import UserError

if TYPE_CHECKING:
    from llava.engines.base import Engine


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during `map`. `done` maps the number of each finished row (from 0) to its trace.

    In a notebook the exception is at hand as `sys.last_value`: `sys.last_value.done`.
    """

    def __init__(self, done: dict[int, Trace]) -> None:
        super().__init__(
            f"Interrupted; {len(done)} finished rows are kept in this exception's `done` (in a notebook: sys.last_value.done)."
        )
        self.done = done


class Progress(Protocol):
    """As much of a tqdm bar as is used here."""

    def update(self, n: int) -> object: ...
    def set_postfix(self, ordered_dict: dict[str, int], refresh: bool) -> object: ...
    def close(self) -> object: ...


@dataclass(slots=True)
class RowWork:
    """The state of one `map`: rows still to come, traces that are there."""

    method: Method
    engine: Engine
    rows: Iterable[object]
    concurrency: int
    raise_errors: bool
    done: dict[int, Trace] = field(default_factory=dict)

    def collect(self, portal: Portal, progress: bool) -> list[Trace]:
        """Run on `portal` until all rows are done."""
        bar = _bar(self.rows, progress)
        try:
            portal.run(self._all(bar))
        except KeyboardInterrupt:
            raise Interrupted(dict(sorted(self.done.items()))) from None
        finally:
            bar.close()
        return [self.done[number] for number in sorted(self.done)]

    async def _all(self, bar: Progress) -> None:
        numbered = enumerate(self.rows)  # shared: each worker takes the next row when it is free
        workers = [asyncio.ensure_future(self._worker(numbered, bar)) for _ in range(self.concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _worker(self, numbered: Iterator[tuple[int, object]], bar: Progress) -> None:
        for number, row in numbered:
            self.done[number] = await self._row(row)
            traces = list(self.done.values())
            bar.set_postfix(
                {"harmful": sum(t.harmful is True for t in traces), "failed": sum(t.error is not None for t in traces)}, refresh=False
            )
            bar.update(1)

    async def _row(self, row: object) -> Trace:
        chat = None
        try:
            chat = row_chat(row)
            return await run(self.method, chat, self.engine)
        except Exception as error:  # whatever happens to one row, the others go on; the error is kept in its trace
            if self.raise_errors:
                raise
            return Trace(chat, self.method, self.engine.name, error=error)


def map_rows(method: Method, engine: Engine, rows: Iterable[object], concurrency: int, raise_errors: bool) -> RowWork:
    """The work of one `map`; raises `UserError` when `rows` cannot be rows."""
    if isinstance(rows, str | bytes) or not isinstance(rows, Iterable):
        raise UserError(f"Rows are a list (or another iterable) of (image, question) pairs, not {type(rows).__name__}.")
    return RowWork(method, engine, rows, concurrency, raise_errors)


def _bar(rows: Iterable[object], shown: bool) -> Progress:
    from tqdm import tqdm

    total = len(rows) if isinstance(rows, Sized) else None
    bar: Progress = tqdm(total=total, unit="row", disable=not shown)
    return bar
