"""The ECSO page's components, and what happens when one is touched. What a visitor has stands in desk.py, how it looks in view.py."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr

from llava.ecso.defences import Method
from llava.ecso.policy import Policy, policy_named
from llava.errors import UserError
from llava.serve.web import kept
from llava.serve.web.ecso import view
from llava.serve.web.ecso.desk import ORDER, Desk, panel_of
from llava.serve.web.ecso.examples import EXAMPLES
from llava.serve.web.ecso.layout import PRODUCT, THEN_LOOK, Form, Work
from llava.serve.web.focus import focus
from llava.serve.web.models import Models
from llava.serve.web.moderation import Moderator
from llava.serve.web.options import Settings
from llava.serve.web.picker import picker_ids, picker_value
from llava.serve.web.pictures import Pictures
from llava.serve.web.shell import EVENT, header
from llava.serve.web.words import failure

Values = dict[Any, Any]  # component -> its value; the other way round component -> what becomes of it

TITLE = "ECSO: eyes closed, safety on"
LINE = (
    "A model that declines a dangerous question in words may answer it when the danger is in a picture. With ECSO it judges its own "
    "answer; a harmful one is replaced by an answer given with eyes closed, from a description of the picture alone."
)
EDITABLE = ("answer", "caption")


class EcsoPage:
    """One page for all visitors; what is a visitor's own stands in a `Desk`."""

    def __init__(self, settings: Settings, models: Models, pictures: Pictures, moderator: Moderator | None = None) -> None:
        self._settings = settings
        self._models = models
        self._pictures = pictures
        self._moderator = moderator

    def blocks(self) -> gr.Blocks:
        """The page."""
        with gr.Blocks(title="ECSO", analytics_enabled=False, fill_width=True) as blocks:
            self.desk = gr.State(Desk(), delete_callback=Desk.start_over)
            if not self._settings.embed:
                header(TITLE, LINE)
            with gr.Row(elem_classes="ecso-columns"):
                with gr.Column(scale=2, min_width=320, elem_classes="ecso-form"):
                    self.form = Form(self._models, blocks)
                with gr.Column(scale=5, min_width=320, elem_classes="ecso-work"):
                    self.work = Work()
            self.begun = kept.mark()
            focus()
            self._wire()
        return blocks

    def _wire(self) -> None:
        form, work = self.form, self.work
        texts = {work.panels[name].said for name in EDITABLE}
        drawn = [self.desk, self.begun, form.picker, form.question, form.all, form.stop, *work.outputs]
        slow = EVENT | {"inputs": {self.desk, self.begun, *form.inputs, *texts}, "outputs": drawn, "trigger_mode": "once"}
        slow |= {"concurrency_id": "answers", "concurrency_limit": self._settings.concurrency}
        quick = EVENT | {"inputs": {self.desk, form.view}, "outputs": drawn, "concurrency_limit": None}
        gr.on([form.all.click, form.question.submit], partial(self._running, None), js=THEN_LOOK, **slow)
        form.examples.click(self._run_example, **slow)
        for name in ORDER:
            work.panels[name].button.click(partial(self._running if name == "answer" else self._step, name), **slow)
        for name in EDITABLE:
            edited = quick | {"inputs": {self.desk, *texts}, "trigger_mode": "always_last"}
            said = work.panels[name].said  # a mouse can paste without a key: then only the leaving tells
            gr.on([said.input, said.blur], partial(self._edit, name), **edited)
        form.stop.click(self._stop, **quick)
        form.view.change(self._look, **quick)
        work.follow_up.click(self._follow_up, **quick)
        work.over.click(self._start_over, **quick)
        work.download.click(self._download, inputs=self.desk, outputs=[work.saved, work.notice], concurrency_limit=None, **EVENT)

    async def _run_example(self, values: Values, event: gr.EventData) -> AsyncGenerator[Values, None]:
        """Fill in an example, as a new conversation, and run all steps."""
        desk: Desk = values[self.desk]
        try:
            example = EXAMPLES[int(event.example)]
            async with desk.asking:
                desk.running.check_free()
                picture = self._pictures.add(example.path.read_bytes())
                desk.start_over()
        except Exception as error:  # noqa: BLE001 - the page's edge: whatever failed becomes a sentence
            desk.problem = failure(error)
            yield self._drawn(desk)
            return
        form = {self.form.picker: picker_value([picture]), self.form.question: example.question, self.begun: kept.marked(False)}
        yield form
        async with aclosing(self._running(None, values | form)) as drawings:
            async for drawing in drawings:
                yield drawing

    async def _running(self, panel: str | None, values: Values) -> AsyncGenerator[Values, None]:
        """Begin with what the form says, and run one panel's step or all."""
        desk: Desk = values[self.desk]
        desk.product = values[self.form.view] == PRODUCT
        try:
            async with desk.asking:
                kept.check(values[self.begun], desk.begun)
                model, engine = await self._models.chosen(values[self.form.models.dropdown])
                pictures = self._pictures.look(picker_ids(values[self.form.picker]))
                desk.begin(values[self.form.question] or "", pictures, self._method(values), model)  # no await from here on until it runs
        except Exception as error:  # noqa: BLE001 - the same
            desk.problem = failure(error)
            yield self._drawn(desk)
            return
        async with aclosing(self._drawing(desk, desk.run(engine, self._pictures.use, panel, self._moderator))) as drawings:
            async for drawing in drawings:
                yield drawing

    async def _step(self, panel: str, values: Values) -> AsyncGenerator[Values, None]:
        """Run one panel's step on what is there."""
        desk: Desk = values[self.desk]
        try:
            kept.check(values[self.begun], desk.begun)
            for name in EDITABLE:
                desk.edit(name, values[self.work.panels[name].said] or "")
            if not desk.live(panel):
                raise UserError("This step cannot be run now: run the steps before it first.")
            engine = self._models.engine(desk.model)
        except Exception as error:  # noqa: BLE001 - the same
            desk.problem = failure(error)
            yield self._drawn(desk)
            return
        async with aclosing(self._drawing(desk, desk.run(engine, self._pictures.use, panel))) as drawings:
            async for drawing in drawings:
                yield drawing

    async def _drawing(self, desk: Desk, changes: AsyncGenerator[None, None]) -> AsyncGenerator[Values, None]:
        """The whole page at each step's beginning and end; between them only the text that grows."""
        shown: object = None
        async with aclosing(changes):
            async for _ in changes:
                now = (desk.busy, desk.now, len(desk.steps), desk.product)
                yield self._drawn(desk) if now != shown else self._text_drawn(desk)
                shown = now

    async def _edit(self, name: str, values: Values) -> Values:
        desk: Desk = values[self.desk]
        try:
            changed = desk.edit(name, values[self.work.panels[name].said] or "")
        except UserError as error:
            desk.problem, changed = failure(error), True
        if not changed:
            return {self.desk: desk}
        drawn = self._drawn(desk)
        drawn.pop(self.work.panels[name].said)  # the visitor is still writing there
        return drawn

    async def _stop(self, values: Values) -> Values:
        desk: Desk = values[self.desk]
        desk.running.stop()
        return {self.desk: desk} if desk.busy else self._drawn(desk)  # what runs draws its own end, where its page did not lose it

    async def _look(self, values: Values) -> Values:
        desk: Desk = values[self.desk]
        desk.product = values[self.form.view] == PRODUCT
        return self._drawn(desk)

    async def _follow_up(self, values: Values) -> Values:
        desk: Desk = values[self.desk]
        try:
            desk.follow_up()
        except UserError as error:
            desk.problem = failure(error)
            return self._drawn(desk)
        return self._drawn(desk) | {self.form.question: "", self.form.picker: picker_value([])}

    async def _start_over(self, values: Values) -> Values:
        desk: Desk = values[self.desk]
        desk.start_over()
        return self._drawn(desk) | {self.form.question: "", self.form.picker: picker_value([])}

    async def _download(self, desk: Desk) -> tuple[str, str]:
        try:
            if desk.product:
                raise UserError("The product view tells nothing of the steps: choose the other view first.")
            trace = json.dumps(desk.trace().to_dict(), ensure_ascii=False, indent=1)
        except UserError as error:
            return "", f'<p class="problem">{failure(error)}</p>'
        return json.dumps({"trace": trace, "click": secrets.token_hex(8)}), ""  # the browser acts on a value that is another one

    # -- reading the form, drawing

    def _method(self, values: Values) -> Method:
        policy: Policy = policy_named(values[self.form.policy])
        if policy.threshold is not None:
            policy = replace(policy, threshold=float(values[self.form.threshold]))
        heat, top, most = (values[each] for each in self.form.sampling)
        return Method("ecso", policy.answering(temperature=float(heat), top_p=float(top), max_tokens=int(most)))

    def _drawn(self, desk: Desk) -> Values:
        """All that shows a desk. In the product view the panels are emptied: nothing that is not released goes to the browser."""
        shown = Desk(history=desk.history) if desk.product else desk
        drawn: Values = {
            self.desk: desk,
            self.begun: kept.marked(desk.begun),
            self.work.history: view.history(desk),
            self.work.notice: view.notice(desk),
        }
        for name, panel in self.work.panels.items():
            drawn[panel.head] = view.head(shown, name)
            drawn[panel.said] = self._said(shown, name)
            drawn[panel.remark] = view.remark(shown, name)
            drawn[panel.button] = gr.update(interactive=shown.live(name) and not desk.busy)
        ended = desk.outcome is not None and not desk.busy
        return drawn | {
            self.work.steps: gr.update(visible=not desk.product),
            self.work.comparison: view.comparison(shown),
            self.work.product: gr.update(value=view.product(desk) if desk.product else "", visible=desk.product),
            self.form.all: gr.update(interactive=not desk.busy),
            self.form.stop: gr.update(interactive=desk.busy),
            self.work.follow_up: gr.update(interactive=ended),
            self.work.over: gr.update(interactive=desk.begun),
            self.work.download: gr.update(interactive=bool(desk.steps) and not desk.product and not desk.busy),
        }

    def _text_drawn(self, desk: Desk) -> Values:
        """The panel whose text grows; as a text alone, of which only what is new travels."""
        name = panel_of(desk.now) if desk.now in view.SAYING and not desk.product else None
        return {self.desk: desk} if name is None else {self.work.panels[name].said: _text(desk, name)}

    def _said(self, desk: Desk, name: str) -> Any:
        if name == "check":
            return _text(desk, name)
        can_edit = name in EDITABLE and not desk.busy and bool(view.text(desk, name))
        return gr.update(value=view.text(desk, name), interactive=can_edit)


def _text(desk: Desk, name: str) -> str:
    return view.verdict(desk) if name == "check" else view.text(desk, name)
