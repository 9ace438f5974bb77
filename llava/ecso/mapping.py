"""Many rows through one guard: bounded concurrency, order kept, a progress bar, and nothing finished is lost.

Rows are drawn and their images decoded on the calling thread, while the calls in flight go on on the guard's own: a slow or picky
iterable (a database cursor, one that calls the guard itself) disturbs nobody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol

from llava.chat import Chat
from llava.ecso.defences import Method
from llava.ecso.driver import run
from llava.ecso.inputs import row_chat
from llava.ecso.portal import Portal, Work, stop
from llava.ecso.trace import Trace
from llava.errors import LlavaError, Overloaded, UserError

if TYPE_CHECKING:
    from llava.engines.base import Engine


class Unfinished(BaseException):
    """A `map` that ended before its rows did. `done` maps the number of each finished row (from 0, ascending) to its trace.

    In a notebook the exception is at hand as `sys.last_value`: `sys.last_value.done`.
    """

    def __init__(self, why: str, done: dict[int, Trace]) -> None:
        super().__init__(f"{why}; {len(done)} finished rows are kept in this exception's `done` (in a notebook: sys.last_value.done).")
        self.done = done
        self._why = why

    def __reduce__(self) -> tuple[type[Unfinished], tuple[str, dict[int, Trace]]]:  # its text is no argument of its own
        return type(self), (self._why, self.done)


class Interrupted(Unfinished, KeyboardInterrupt):
    """Ctrl-C during `map`."""


class Stopped(Unfinished, LlavaError):
    """The iterable of rows failed, or a row did under `on_error="raise"`. `__cause__` is that error."""


class Progress(Protocol):
    """As much of a tqdm bar as is used here."""

    def update(self, n: int) -> object: ...
    def set_postfix(self, ordered_dict: dict[str, int], refresh: bool) -> object: ...
    def close(self) -> object: ...


@dataclass(slots=True)
class RowWork:
    """The state of one `map`: rows in flight, rows to be tried again, traces that are there."""

    method: Method
    engine: Engine
    rows: Iterable[object]
    limit: int  # rows in flight; less after the engine had no room for so many
    raise_errors: bool
    done: dict[int, Trace] = field(default_factory=dict)
    running: dict[Work[Trace], tuple[int, Chat]] = field(default_factory=dict)
    again: deque[tuple[int, Chat]] = field(default_factory=deque)
    ended: SimpleQueue[Work[Trace]] = field(default_factory=SimpleQueue)
    counts: dict[str, int] = field(default_factory=lambda: {"harmful": 0, "failed": 0})

    def collect(self, portal: Portal, progress: bool) -> list[Trace]:
        """Run on `portal` until all rows are done; raises `Interrupted` and `Stopped`."""
        bar = _bar(self.rows, progress)
        try:
            try:
                self._all(portal, bar)
            finally:
                self._stop(bar)
                bar.close()
        except KeyboardInterrupt:
            raise Interrupted("Interrupted", self._in_order()) from None
        except Exception as error:
            sentence = str(error).rstrip(".") or "without a word"
            raise Stopped(f"The rows ended early ({type(error).__name__}: {sentence})", self._in_order()) from error
        return list(self._in_order().values())

    def _all(self, portal: Portal, bar: Progress) -> None:
        for number, row in enumerate(self.rows):
            self._draw(number, row, portal, bar)
            while not self.ended.empty() or len(self.running) >= self.limit:
                self._take(self.ended.get(), portal, bar)
        while self.running:
            self._take(self.ended.get(), portal, bar)

    def _draw(self, number: int, row: object, portal: Portal, bar: Progress) -> None:
        try:
            chat = row_chat(row)
        except Exception as error:  # whatever a row is, the others go on; the error is kept in its trace
            if self.raise_errors:
                raise
            self._failed(number, None, error, bar)
        else:
            self._begin(number, chat, portal)

    def _begin(self, number: int, chat: Chat, portal: Portal) -> None:
        work = portal.start(run(self.method, chat, self.engine))
        self.running[work] = number, chat
        work.add_done_callback(self.ended.put)  # type: ignore[arg-type]

    def _take(self, work: Work[Trace], portal: Portal, bar: Progress) -> None:
        """Note what became of a row that has ended, and begin those that waited for room."""
        number, chat = self.running[work]
        error = work.exception()
        if error is None:
            self._keep(number, work.result(), bar)
        elif isinstance(error, Overloaded) and len(self.running) > 1:  # our own rows take the room: try again with fewer at a time
            self.limit = min(self.limit, len(self.running) - 1)
            self.again.append((number, chat))
        elif isinstance(error, Exception) and not self.raise_errors:
            self._failed(number, chat, error, bar)
        else:
            raise error
        del self.running[work]  # last: an interrupt in between loses nothing
        while self.again and len(self.running) < self.limit:
            self._begin(*self.again.popleft(), portal)

    def _keep(self, number: int, trace: Trace, bar: Progress) -> None:
        self.done[number] = trace
        self.counts["harmful"] += trace.harmful is True
        self.counts["failed"] += trace.error is not None
        bar.set_postfix(self.counts, refresh=False)
        bar.update(1)

    def _failed(self, number: int, chat: Chat | None, error: Exception, bar: Progress) -> None:
        self._keep(number, Trace(chat, self.method, self.engine.name, error=error), bar)

    def _stop(self, bar: Progress) -> None:
        """Cancel what still runs; rows that had finished meanwhile are kept."""
        stop(self.running)
        for work, (number, _) in self.running.items():
            if work.done() and work.exception() is None:
                self._keep(number, work.result(), bar)

    def _in_order(self) -> dict[int, Trace]:
        return dict(sorted(self.done.items()))


def map_rows(method: Method, engine: Engine, rows: Iterable[object], concurrency: int, raise_errors: bool) -> RowWork:
    """The work of one `map`; raises `UserError` when `rows` cannot be rows."""
    if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
        raise UserError(f"Rows are a list (or another iterable) of (image, question) pairs, not {type(rows).__name__}.")
    return RowWork(method, engine, rows, concurrency, raise_errors)


def _bar(rows: Iterable[object], shown: bool) -> Progress:
    from tqdm import tqdm

    total = len(rows) if isinstance(rows, Sized) else None
    bar: Progress = tqdm(total=total, unit="row", disable=not shown)
    return bar
