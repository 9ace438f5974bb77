"""One person's chat on the LLaVA page: its turns, the answer that is being given, and what can be done with them.

    session.ask("What is this?", pictures, asking)
    async for _ in session.answer():                     # something changed: draw the session anew
        ...

With the guard no step's text is kept, so that whoever draws a session cannot show what was not released. Knows no gradio and no HTML.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Literal

from llava.chat import Chat, Message
from llava.ecso.defences import Method
from llava.ecso.driver import Done, Event, Piece, Started, events
from llava.ecso.inputs import check_text
from llava.ecso.policy import Policy
from llava.engines.base import Engine
from llava.errors import EngineError, UserError
from llava.serve.web.moderation import Moderator
from llava.serve.web.pictures import LIMITS, Shown, Use, check_size
from llava.serve.web.running import Changed, Running
from llava.serve.web.votes import KINDS
from llava.serve.web.words import failure

MOST_TURNS, MOST_SHOWN = LIMITS.messages // 2, 4 * LIMITS.images  # that a session keeps: turns, small copies of pictures
UNBEGUN = "The question was not put to the model: press Regenerate to ask it again."
LOST = "A picture of an earlier question is no longer kept here: press Clear, and begin anew."


@dataclass(frozen=True, slots=True)
class Asking:
    """How an answer is to be had. `use` lends pictures by their ids; raises `UserError` for one that is gone."""

    engine: Engine
    model: str
    policy: Policy
    use: Use
    guarded: bool = True
    moderator: Moderator | None = None


@dataclass(slots=True)
class Turn:
    """A question and its answer.

    `answer` is what may be shown: pieces as they come without the guard, the released text with it. `step` is what happens just now,
    `released` what the guard released (None: there was no guard), `problem` the sentence that tells why there is no whole answer.
    """

    question: str
    pictures: tuple[Shown, ...] = ()
    model: str = ""
    guarded: bool = False
    answer: str = ""
    state: Literal["answering", "answered", "stopped", "failed"] = "answering"
    step: str = ""
    released: str | None = None
    longest: int | None = None  # tokens, where the answer was cut there
    problem: str = ""
    vote: str | None = None

    @property
    def said(self) -> bool:
        """Whether the conversation goes on from this turn: it has an answer that did not fail."""
        return self.state in ("answered", "stopped") and bool(self.answer.strip())


@dataclass(frozen=True, slots=True)
class _Asked:
    """What waits for an answer: the last of these turns, after those before it. It holds no picture."""

    turns: tuple[Turn, ...]
    asking: Asking

    @property
    def turn(self) -> Turn:
        """The one that is asked."""
        return self.turns[-1]

    @contextmanager
    def chat(self) -> Iterator[Chat]:
        """What the model reads, with its pictures for as long as it does; raises `UserError` for one that is gone, and `Overloaded`."""
        with ExitStack() as stack:
            try:
                images = stack.enter_context(self.asking.use([picture.id for turn in self.turns for picture in turn.pictures]))
            except UserError:
                raise UserError(LOST) from None
            left, messages = iter(images), list[Message]()
            for turn in self.turns:
                messages.append(Message("user", check_text("question", turn.question), tuple(islice(left, len(turn.pictures)))))
                messages.append(Message("assistant", turn.answer))
            yield Chat(tuple(messages[:-1]))


@dataclass(slots=True)
class Session:
    """The turns of one chat; one answer is given at a time."""

    turns: list[Turn] = field(default_factory=list)
    _asked: _Asked | None = None  # what is to be answered next
    _running: Running = field(default_factory=Running)

    @property
    def busy(self) -> bool:
        """Whether an answer is being given, or waits for its turn."""
        return self._asked is not None or self._running.busy

    @property
    def last(self) -> Turn | None:
        """The last turn, answered or not."""
        return self.turns[-1] if self.turns else None

    def ask(self, question: str, pictures: Sequence[Shown], asking: Asking) -> None:
        """Add a turn, which `answer` answers. Raises `UserError`, and changes nothing, for what cannot be asked."""
        self._put(self.turns, Turn(question, tuple(pictures), asking.model, asking.guarded), asking)

    def again(self, asking: Asking) -> None:
        """Put the last question anew, without its answer; see `ask`."""
        if not self.turns:
            raise UserError("There is no question yet.")
        *before, old = self.turns
        self._put(before, Turn(old.question, old.pictures, asking.model, asking.guarded), asking)

    async def answer(self) -> AsyncGenerator[None, None]:
        """Answer what was asked, if anything was; yields when it is time to draw. What fails is in the turn. Closing it stops it."""
        asked, self._asked = self._asked, None
        if asked is None:
            return
        turn = asked.turn
        try:
            async with aclosing(self._running.changes(partial(_answer, asked))) as changes:
                async for stopped in changes:
                    turn.state = "stopped" if stopped else turn.state
                    yield
        finally:
            if turn.state == "answering":  # whoever drew it has left
                turn.state = "stopped"

    def stop(self) -> None:
        """End the running answer, if there is one; what was shown of it stays."""
        if self._asked is not None:
            self._asked.turn.state = "stopped"
            self._asked = None
        self._running.stop()

    def give_up(self) -> None:
        """Let go of a question that still waits, and will not be answered: it failed before its answer began."""
        if self._asked is not None:
            self._asked.turn.state, self._asked.turn.problem = "failed", UNBEGUN
            self._asked = None

    def clear(self) -> None:
        """Forget all turns; the running answer ends."""
        self.stop()
        self.turns = []

    @property
    def can_vote(self) -> bool:
        """Whether the last turn has an answer that was not voted on yet."""
        return self.last is not None and not self.busy and self.last.said and self.last.vote is None

    def vote(self, kind: str) -> Turn:
        """Note what a person thinks of the last answer, once; raises `UserError` where there is nothing to vote on."""
        turn = self.last
        if kind not in KINDS or turn is None or not self.can_vote:
            raise UserError("There is no answer to vote on, or you have voted on it already.")
        turn.vote = kind
        return turn

    def record(self, texts: bool) -> dict[str, object]:
        """What a vote on the last answer tells: never a picture, and `texts`, which were all shown to their writer, only where wanted."""
        turn = self.last
        known: dict[str, object] = {"turns": len(self.turns)}
        if turn is not None:
            known |= {"model": turn.model, "guarded": turn.guarded, "released": turn.released, "state": turn.state}
        if texts:
            said = [{"question": each.question, "pictures": len(each.pictures), "answer": each.answer} for each in self.turns]
            known["conversation"] = said
        return known

    def _put(self, before: Sequence[Turn], turn: Turn, asking: Asking) -> None:
        if self.busy:
            raise UserError("An answer is being given: stop it first.")
        asked = _Asked((*(each for each in before if each.said), turn), asking)
        with asked.chat() as chat:
            check_size(chat)
        _check_kept(turns := [*before, turn])
        self.turns, self._asked = turns, asked


def _check_kept(turns: Sequence[Turn]) -> None:
    """Stopped and failed turns, which no model reads, are shown and kept, too; raises `UserError`."""
    pictures, text = sum(len(turn.pictures) for turn in turns), sum(len(turn.question) + len(turn.answer) for turn in turns)
    if len(turns) > MOST_TURNS or pictures > MOST_SHOWN or text > LIMITS.text:
        raise UserError("This conversation, with all that was stopped or failed, is as long as one may be: clear it to begin anew.")


async def _answer(asked: _Asked, changed: Changed) -> None:
    """Run the method into the turn; whatever fails becomes the turn's problem."""
    turn, asking = asked.turn, asked.asking
    try:
        if asking.moderator is not None:
            turn.step = "moderation"
            changed()
            await asking.moderator.check(turn.question)
        method = Method("ecso" if asking.guarded else "direct", asking.policy)
        with asked.chat() as chat:
            async with aclosing(events(method, chat, asking.engine)) as happening:
                async for event in happening:
                    _take(turn, event)
                    changed()
    except Exception as error:  # noqa: BLE001 - the page's edge: whatever failed becomes a sentence, and is logged there
        turn.state, turn.problem = "failed", failure(error)


def _take(turn: Turn, event: Event) -> None:
    """Keep of an event what may be shown."""
    if isinstance(event, Started):
        turn.step = event.call.step
    elif isinstance(event, Piece) and not turn.guarded:
        turn.answer += event.text
    elif isinstance(event, Done):
        answer = event.trace.answer or ""
        if not answer.strip():
            raise EngineError("The model said nothing: ask again, or in other words.")
        turn.answer, turn.state = answer, "answered"
        turn.released = event.trace.released if turn.guarded else None
        turn.longest = event.trace.method.policy.answer.max_tokens if event.trace.finish_reason == "length" else None
