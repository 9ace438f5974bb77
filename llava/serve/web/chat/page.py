"""The LLaVA chat page: components, and what happens when one is touched. What a chat is stands in session.py, how it looks in view.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any

import gradio as gr

from llava.ecso.policy import policy_named
from llava.serve.web import kept
from llava.serve.web.chat import view
from llava.serve.web.chat.session import Asking, Session
from llava.serve.web.focus import focus
from llava.serve.web.models import Models
from llava.serve.web.moderation import Moderator
from llava.serve.web.options import Settings
from llava.serve.web.picker import Picker, picker_ids, picker_value
from llava.serve.web.pictures import Pictures
from llava.serve.web.shell import EVENT, header, model_row, parameters
from llava.serve.web.votes import VoteLog
from llava.serve.web.words import escaped, failure

Values = dict[Any, Any]  # component -> its value; the other way round component -> what becomes of it

LOG = '<div class="chat-past" role="log" aria-label="Conversation" tabindex="0">${value}</div>'
TO_ITS_END = "watch('value', () => { const log = element.querySelector('.chat-past'); log.scrollTop = log.scrollHeight; });"
RUNNING = '<div class="chat-running" role="status" aria-label="The answer that is being given">${value}</div>'
NOTICE = '<div class="chat-notice" role="alert">${value}</div>'
GUARD = "Answers are shown only after the model itself has judged them. Off: they are shown as they come, unchecked."
CONSENT = (
    "Off: a vote keeps the model's name, what the guard did, and when. On: the texts of this chat too, in {}/ on the server. "
    "Pictures are never kept."
)


class ChatPage:
    """One page for all visitors; what is a visitor's own stands in a `Session`."""

    def __init__(self, settings: Settings, models: Models, pictures: Pictures, votes: VoteLog, moderator: Moderator | None) -> None:
        self._settings = settings
        self._models = models
        self._pictures = pictures
        self._votes = votes
        self._moderator = moderator

    def blocks(self) -> gr.Blocks:
        """The page."""
        with gr.Blocks(title="LLaVA chat", analytics_enabled=False, fill_width=True) as blocks:
            self.session = gr.State(Session(), delete_callback=Session.clear)
            if not self._settings.embed:
                header("LLaVA chat", "Ask a vision-language model about pictures, with a guard before its answers.")
            with gr.Row(elem_classes="chat-columns"):
                with gr.Column(scale=3, min_width=320):
                    self._conversation()
                with gr.Column(scale=1, min_width=280):
                    self._side(blocks)
            self.begun = kept.mark()
            focus()
            self._wire()
        return blocks

    def _conversation(self) -> None:
        with gr.Column(elem_classes="chat-log"):
            self.past = gr.HTML(view.EMPTY, html_template=LOG, js_on_load=TO_ITS_END, elem_id="past")
            self.running = gr.HTML("", html_template=RUNNING, js_on_load=None, elem_id="running")
        self.notice = gr.HTML("", html_template=NOTICE, js_on_load=None, elem_id="notice")
        self.picker = Picker()
        with gr.Row(elem_classes="chat-asking"):
            asked = {"label": "Question", "placeholder": "What is in this picture?", "elem_id": "question"}
            self.question = gr.Textbox(lines=1, max_lines=8, scale=8, **asked)
            self.send = gr.Button("Send", variant="primary", scale=1, min_width=90, elem_id="send")
            self.stop = gr.Button("Stop", variant="stop", interactive=False, scale=1, min_width=90, elem_id="stop")
        with gr.Row(elem_classes="chat-buttons"):
            self.good = _button("Good answer", "good")
            self.bad = _button("Bad answer", "bad")
            self.flag = _button("Flag", "flag")
            self.again = _button("Regenerate", "again")
            self.clear = _button("Clear", "clear")

    def _side(self, blocks: gr.Blocks) -> None:
        self.models = model_row(self._models)
        self.models.connect(blocks)
        self.guard = gr.Checkbox(True, label="Guard", info=GUARD, elem_id="guard")
        self.parameters = parameters()
        self.consent = gr.Checkbox(False, label="Keep my texts with my votes", info=CONSENT.format(self._votes.folder), elem_id="consent")

    def _wire(self) -> None:
        wanted = {self.session, self.begun, self.question, self.picker, self.models.dropdown, self.guard}
        wanted |= {self.parameters.temperature, self.parameters.top_p, self.parameters.max_tokens}
        drawn = [self.session, self.begun, self.past, self.running, self.notice, self.question, self.picker, self.send, self.stop]
        drawn += [self.good, self.bad, self.flag, self.again, self.clear]
        quick = EVENT | {"outputs": drawn, "concurrency_limit": None}
        for asked in (
            gr.on([self.question.submit, self.send.click], self._ask, inputs=wanted, **quick),
            self.again.click(self._again, inputs=wanted, **quick),
        ):
            # Each output of an event costs at every piece of the answer, so that the pieces have an event of their own.
            many = {"concurrency_id": "answers", "concurrency_limit": self._settings.concurrency}
            answered = asked.then(self._answer, inputs=[self.session], outputs=[self.running], **EVENT, **many)
            answered.then(self._draw, inputs=[self.session], **quick)
            answered.failure(self._unanswered, inputs=[self.session], **quick)  # after a failure gradio's script does nothing of `then`
        self.stop.click(self._stop, inputs=[self.session], **quick)
        self.clear.click(self._clear, inputs=[self.session], **quick)
        for button, kind in ((self.good, "upvote"), (self.bad, "downvote"), (self.flag, "flag")):
            button.click(partial(self._vote, kind), inputs={self.session, self.begun, self.consent}, **quick)

    async def _ask(self, values: Values) -> Values:
        session: Session = values[self.session]
        try:
            kept.check(values[self.begun], bool(session.turns))
            asking = await self._asking(values)
            session.ask(values[self.question] or "", self._pictures.look(picker_ids(values[self.picker])), asking)
        except Exception as error:  # noqa: BLE001 - the page's edge: whatever failed becomes a sentence
            return self._drawn(session, failure(error))
        return self._drawn(session) | {self.question: "", self.picker: picker_value([])}

    async def _again(self, values: Values) -> Values:
        session: Session = values[self.session]
        try:
            kept.check(values[self.begun], bool(session.turns))
            session.again(await self._asking(values))
        except Exception as error:  # noqa: BLE001 - the same
            return self._drawn(session, failure(error))
        return self._drawn(session)

    async def _answer(self, session: Session) -> AsyncGenerator[str, None]:
        async with aclosing(session.answer()) as changes:
            async for _ in changes:
                yield view.running(session)

    async def _draw(self, session: Session) -> Values:
        return self._state(session)

    async def _unanswered(self, session: Session) -> Values:
        """The answer's event failed: it found no place, for example, which the browser has told by itself."""
        session.give_up()
        return self._state(session)

    async def _stop(self, session: Session) -> Values:
        session.stop()
        return self._state(session)

    async def _clear(self, session: Session) -> Values:
        session.clear()
        return self._drawn(session)

    async def _vote(self, kind: str, values: Values) -> Values:
        session: Session = values[self.session]
        try:
            kept.check(values[self.begun], bool(session.turns))
            turn = session.vote(kind)
            try:
                said = session.record(texts=bool(values[self.consent]))
                await asyncio.to_thread(partial(self._votes.write, kind, **said))
            except Exception:
                turn.vote = None
                raise
        except Exception as error:  # noqa: BLE001 - the page's edge
            return self._drawn(session, failure(error))
        return self._drawn(session)

    async def _asking(self, values: Values) -> Asking:
        chosen = self.parameters
        sampling = {"temperature": values[chosen.temperature], "top_p": values[chosen.top_p], "max_tokens": values[chosen.max_tokens]}
        policy = policy_named("guard").answering(**sampling)
        model, engine = await self._models.chosen(values[self.models.dropdown])
        return Asking(engine, model, policy, self._pictures.use, bool(values[self.guard]), self._moderator)

    def _drawn(self, session: Session, problem: str = "") -> Values:
        """The session's state, and what went wrong, or that nothing did."""
        said = f'<p class="notice">{escaped(problem)}</p>' if problem else ""
        return self._state(session) | {self.notice: said}

    def _state(self, session: Session) -> Values:
        """All that shows a session's state, and what its buttons can do now."""
        last, free = session.last, not session.busy
        return {
            self.session: session,
            self.begun: kept.marked(bool(session.turns)),
            self.past: view.past(session),
            self.running: view.running(session),
            self.send: gr.update(interactive=free),
            self.stop: gr.update(interactive=not free),
            **dict.fromkeys((self.good, self.bad, self.flag), gr.update(interactive=session.can_vote)),
            self.again: gr.update(interactive=free and last is not None),
            self.clear: gr.update(interactive=last is not None),
        }


def _button(said: str, name: str) -> gr.Button:
    return gr.Button(said, size="sm", min_width=90, interactive=False, elem_id=name)
