"""One visitor's work on the ECSO page: a question, the steps that are done, what comes next. Knows no gradio and no HTML.

The method is llava.ecso's, which goes on from any steps that are done: a button runs it to the end of its step, and an edited text is a
step with another reply. Pictures are known here by their hashes, and their bytes are kept in the page's store only: it lends them to a run,
and one that is not there any more is a sentence.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import dataclass, field, replace

from llava.chat import Call, Chat, Image, Message, Reply
from llava.ecso.defences import Method
from llava.ecso.driver import Done, Event, Finished, Piece, Started, events, upcoming
from llava.ecso.inputs import check_text
from llava.ecso.record import KnownByHash
from llava.ecso.steps import Outcome
from llava.ecso.trace import Step, Trace
from llava.engines.base import Engine
from llava.errors import UserError
from llava.serve.web.moderation import Moderator
from llava.serve.web.pictures import LIMITS, Shown, Use, check_size
from llava.serve.web.running import Changed, Running
from llava.serve.web.words import failure

# The page's panels, in order, and the method's steps that each of them shows.
PANELS = {"answer": ("answer",), "check": ("check",), "caption": ("caption",), "regenerate": ("regenerate", "recheck")}
ORDER = list(PANELS)
GONE = "A picture of this conversation is no longer kept here: add it again and ask anew, or start over."


def panel_of(step: str) -> str:
    """The panel that shows a step."""
    return next(panel for panel, steps in PANELS.items() if step in steps)


@dataclass(slots=True)
class Desk:
    """What a visitor has before them.

    `history`: earlier turns; `ask`: the question, with them; `given`: an answer that the visitor wrote in place of the model's; `steps`:
    those that are done; `outcome`: what is released, once nothing is left to do; `now` and `said`: the running step and its text so far;
    `product`: show what a guarded service's user would see, and nothing else; `pictures`: image's hash -> what is known of it; `asking`:
    held while a question is made ready, so that of two the one that came first begins.
    """

    history: tuple[Message, ...] = ()
    ask: Chat | None = None
    method: Method = field(default_factory=Method)
    model: str = ""
    given: str | None = None
    steps: tuple[Step, ...] = ()
    outcome: Outcome | None = None
    now: str = ""
    said: str = ""
    problem: str = ""
    stopped: bool = False
    product: bool = False
    pictures: dict[str, Shown] = field(default_factory=dict)
    running: Running = field(default_factory=Running)
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def busy(self) -> bool:
        """Whether a step is running."""
        return self.running.busy

    @property
    def begun(self) -> bool:
        """Whether there is a conversation."""
        return self.ask is not None or bool(self.history)

    @property
    def draft(self) -> str | None:
        """The first answer, the visitor's where they changed it."""
        return self.given if self.given is not None else next((step.text for step in self.steps if step.name == "answer"), None)

    def done(self, panel: str) -> list[Step]:
        """The finished steps of a panel."""
        return [step for step in self.steps if step.name in PANELS[panel]]

    def following(self) -> str | None:
        """The panel whose step comes next; None when there is no question, or nothing left to do."""
        if self.ask is None:
            return None
        following = upcoming(self.method, self.ask, self.given, self.steps)
        return panel_of(following.step) if isinstance(following, Call) else None

    def live(self, panel: str) -> bool:
        """Whether a panel's step can be run now, or run again. The first one begins anew, and always can."""
        if self.busy:
            return False
        return panel == "answer" or bool(self.done(panel)) or self.following() == panel

    def begin(self, question: str, pictures: Sequence[Shown], method: Method, model: str) -> None:
        """A question about pictures, after the earlier turns; raises `UserError`."""
        self.running.check_free()
        images = tuple(KnownByHash(picture.sha256, picture.size) for picture in pictures)
        ask = Chat((*self.history, Message("user", check_text("question", question), images)))
        check_size(ask)
        self._clear()
        known = self.pictures | {picture.sha256: picture for picture in pictures}
        self.pictures = {image.sha256: known[image.sha256] for image in ask.images}
        self.ask, self.method, self.model = ask, method, model

    def edit(self, panel: str, text: str) -> bool:
        """Take the visitor's text for the answer or the caption, if it is another one; the steps after it are no longer done."""
        said = self.draft if panel == "answer" else self._text(panel)
        if self.busy or said is None or text == said:
            return False
        if len(text) > LIMITS.text:
            raise UserError(f"Your text is too long: at most {LIMITS.text} characters are taken.")
        if panel == "answer":
            self.given, self.steps = check_text("answer", text), ()
        else:
            at = next(at for at, step in enumerate(self.steps) if step.name == panel)
            changed = replace(self.steps[at], reply=Reply(check_text("caption", text)), edited=True)
            self.steps = (*self.steps[:at], changed)
        self.outcome, self.problem, self.stopped = None, "", False
        return True

    async def run(
        self, engine: Engine, use: Use, panel: str | None = None, moderator: Moderator | None = None
    ) -> AsyncGenerator[None, None]:
        """Do the step of one panel, again if it is done, or all that is left; yields when to draw. `use` lends pictures by their ids.
        What fails is in `problem`; nothing is undone where a picture cannot be had."""
        try:
            with self._lent(use) as ask:
                self._undo(panel)
                async with aclosing(self.running.changes(lambda changed: self._follow(ask, engine, panel, moderator, changed))) as changes:
                    async for stopped in changes:
                        self.stopped = stopped and self.ask is not None  # else it was started over meanwhile
                        yield
        except Exception as error:  # noqa: BLE001 - the page's edge: whatever failed becomes a sentence
            self.problem = failure(error)
        except (asyncio.CancelledError, GeneratorExit):  # whoever drew it has left
            self.stopped = self.ask is not None
            raise
        finally:
            self.now = self.said = ""
        yield

    def follow_up(self) -> None:
        """Keep the question and its released answer as a turn, and make room for the next question."""
        if self.ask is None or self.outcome is None:
            raise UserError("There is no answer to follow up on yet.")
        self.history = (*self.ask.messages, Message("assistant", self.outcome.answer))
        self._clear()

    def start_over(self) -> None:
        """Forget everything."""
        self.running.stop()
        self.history, self.pictures = (), {}
        self._clear()

    def trace(self) -> Trace:
        """What happened so far; raises `UserError` when nothing did."""
        if self.ask is None:
            raise UserError("There is nothing to download yet.")
        return Trace(self.ask, self.method, self.model, self.steps, self.outcome, self.given)

    @contextmanager
    def _lent(self, use: Use) -> Iterator[Chat]:
        """The question with its pictures themselves; raises `UserError` for one that is gone, and `Overloaded`."""
        if self.ask is None:
            raise UserError("There is no question yet.")
        with ExitStack() as stack:
            try:
                images = stack.enter_context(use([self.pictures[image.sha256].id for image in self.ask.images]))
            except UserError:
                raise UserError(GONE) from None
            found = {image.sha256: image for image in images}
            yield _changed(self.ask, lambda image: found[image.sha256])

    def _undo(self, panel: str | None) -> None:
        """Forget a panel's steps and those after them, and how the last run ended."""
        if panel is not None:
            first = next((at for at, step in enumerate(self.steps) if step.name in PANELS[panel]), len(self.steps))
            self.steps = self.steps[:first]
        self.outcome, self.problem, self.stopped = None, "", False

    async def _follow(self, ask: Chat, engine: Engine, panel: str | None, moderator: Moderator | None, changed: Changed) -> None:
        if moderator is not None and not self.steps:
            self.now = "moderation"
            changed()
            await moderator.check(ask.question)
        async with aclosing(events(self.method, ask, engine, self.given, self.steps)) as happening:
            async for event in happening:
                self._take(event)
                changed()
                if isinstance(event, Finished) and self._is_enough(panel):
                    return

    def _take(self, event: Event) -> None:
        if isinstance(event, Started):
            self.now, self.said = event.call.step, ""
        elif isinstance(event, Piece):
            self.said += event.text
        elif isinstance(event, Finished):
            call = event.step.call
            self.steps = (*self.steps, replace(event.step, call=replace(call, chat=_changed(call.chat, _stub))))
            self.now = self.said = ""
        elif isinstance(event, Done):
            self.outcome = event.trace.outcome

    def _is_enough(self, panel: str | None) -> bool:
        following = self.following()
        return panel is not None and following is not None and ORDER.index(following) > ORDER.index(panel)

    def _text(self, panel: str) -> str | None:
        return next((step.text for step in self.steps if step.name == panel), None)

    def _clear(self) -> None:
        self.ask = self.given = self.outcome = None
        self.steps = ()
        self.now = self.said = self.problem = ""
        self.stopped = False


def _stub(image: Image) -> Image:
    """An equal picture that holds no bytes."""
    return KnownByHash(image.sha256, image.size)


def _changed(chat: Chat, change: Callable[[Image], Image]) -> Chat:
    """The chat with each picture changed."""
    return Chat(tuple(replace(message, images=tuple(map(change, message.images))) for message in chat.messages))
