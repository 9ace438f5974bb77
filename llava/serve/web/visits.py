"""Who has pages open here, and how much of the server each visitor may hold: pages, questions, messages that nobody reads.

gradio lets each browser name its own session and keeps what belongs to a name for as long as it runs; here it is bounded, and forgotten
when nobody has used it for a while. A visitor is who `security.Gate` says: an address with the key that it shows, so that behind a proxy
all who have the same key are one; those with whom the operator shares all rights are one everywhere. Knows gradio's queue, and no page.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.types import Scope

from llava.serve.refusal import Refusal

if TYPE_CHECKING:
    import gradio as gr

VISITORS, EACH = 1000, 500  # pages whose data are kept: of all visitors, of one
RECENT, FORGOTTEN = 300.0, 3600.0  # seconds without use after which a page may make room for another one, and after which it is forgotten
WAITING = 256  # questions of all visitors that may wait for their turn
ASKED = 32  # questions of one visitor that may wait or be answered; more where more are answered at a time
ASKED_BYTES = 16 * 2**20  # of them all together, as they were sent; one may be a quarter of that (site.CAPS)
UNREAD, UNREAD_EACH, UNREAD_SECONDS = 64, 1024, 120.0  # messages: of a page, of all pages of a visitor, and how long
TIDY_SECONDS = 30.0


class _Visit(NamedTuple):
    who: str
    when: float


class Visits:
    """The sessions of one page's program. `concurrency`: answers at a time."""

    def __init__(self, blocks: gr.Blocks, concurrency: int) -> None:
        self._blocks = blocks
        self._asked = max(ASKED, 2 * concurrency)
        self._visits: OrderedDict[str, _Visit] = OrderedDict()  # the one that was used last is the last

    def enter(self, scope: Scope, session: str, event: int) -> None:
        """Before an event of a session; raises `Refusal` (429) where its visitor, or all of them, hold too much already."""
        visitor = who(scope)
        theirs = [name for name, visit in self._visits.items() if visit.who == visitor]
        if _is_answer(self._blocks.fns[event]):
            self._check_questions(theirs, _size(scope))
        if self._unread(session) >= UNREAD or sum(min(self._unread(name), UNREAD) for name in theirs) >= UNREAD_EACH:
            raise _too_many("This page does not read what it is told: load it again, or come back in a few minutes.")
        if session not in self._visits:
            self._make_room(theirs, EACH)
            self._make_room(self._visits, VISITORS)
        self._visits[session] = _Visit(visitor, time.monotonic())
        self._visits.move_to_end(session)

    def is_told(self, session: str) -> bool:
        """Whether there is, or will be, anything to tell a session."""
        return session in self._queue.pending_messages_per_session

    async def tidy(self) -> None:
        """Forget for ever, until cancelled."""
        while True:
            await asyncio.sleep(TIDY_SECONDS)
            self.sweep()

    def sweep(self) -> None:
        """Forget what nobody has used for long, and messages that nobody reads."""
        for name in list(self._visits):
            if self._left(name, FORGOTTEN):
                self._forget(name)
            elif self._left(name, UNREAD_SECONDS):
                self._forget_messages(name)

    @property
    def _queue(self) -> Any:
        return self._blocks._queue

    def _check_questions(self, theirs: Iterable[str], size: int) -> None:
        asked = [_size(event.request.scope) for name in theirs for event in self._at_work(name) if _is_answer(event.fn)]
        if len(asked) >= self._asked:
            raise _too_many(f"{self._asked} questions from here are being answered, as many as may be: ask again when one has its answer.")
        if asked and sum(asked) + size > ASKED_BYTES:
            raise _too_many("The questions from here that are being answered are long enough: ask again when one has its answer.")
        if sum(len(each.queue) for each in self._queue.event_queue_per_concurrency_id.values() if each.concurrency_limit) >= WAITING:
            raise _too_many("Too many questions wait already: ask again in a moment.")

    def _make_room(self, names: Iterable[str], most: int) -> None:
        known = list(names)
        if len(known) < most:
            return
        left = next((name for name in known if self._left(name, RECENT)), None)
        if left is None:
            raise _too_many("Too many pages are open: close some, or come back in a few minutes.")
        self._forget(left)

    def _at_work(self, name: str) -> list[Any]:
        """Events that wait or run; a page that is shown always has one."""
        events = self._queue.event_ids_to_events
        return [events[id] for id in self._queue.pending_event_ids_session.get(name, ()) if id in events]

    def _unread(self, name: str) -> int:
        messages = self._queue.pending_messages_per_session.get(name)
        return 0 if messages is None else int(messages.qsize())

    def _left(self, name: str, seconds: float) -> bool:
        visit = self._visits.get(name)
        return visit is not None and time.monotonic() - visit.when >= seconds and not self._at_work(name)

    def _forget(self, name: str) -> None:
        held = self._blocks.state_holder
        held.delete_state(name)  # whose values are told of their end
        held.session_data.pop(name, None)
        held.time_last_used.pop(name, None)
        self._forget_messages(name)
        del self._visits[name]

    def _forget_messages(self, name: str) -> None:
        self._queue.pending_messages_per_session.pop(name, None)
        self._queue.pending_event_ids_session.pop(name, None)


def who(scope: Scope) -> str:
    """The visitor who asks. Here the operator is one like all others."""
    return scope["state"]["visitor"] or "the operator"


def _size(scope: Scope) -> int:
    """Bytes of the body with which an event was asked for."""
    return int(scope["state"]["size"])


def _is_answer(fn: Any) -> bool:
    """Whether a model is asked: only such events have a limit of their own."""
    return isinstance(fn.concurrency_limit, int)


def _too_many(said: str) -> Refusal:
    return Refusal(429, said, code="too_many_requests")
