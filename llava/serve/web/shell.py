"""What both pages have around them: a heading, the choice of a model, the parameters. Knows no method and no conversation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, NamedTuple

import gradio as gr

from llava.serve.web.models import Models
from llava.serve.web.words import escaped

STAY_AFTER, STAY_AGAIN, SIGN_OF_LIFE = 0.3, 5.0, 30.0  # seconds
PAUSE = 1.5  # seconds between two looks for a model, while there is none
EVENT: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}  # of every event of ours


def header(title: str, line: str) -> None:
    """The page's heading."""
    gr.HTML(f'<header class="page-head"><h1>{escaped(title)}</h1><p>{escaped(line)}</p></header>', js_on_load=None, apply_default_css=False)


@dataclass(frozen=True, slots=True)
class ModelRow:
    """The choice of a model. While there is none, `notice` says how to start one, and `timer` looks for it."""

    models: Models
    dropdown: gr.Dropdown
    notice: gr.HTML
    timer: gr.Timer

    def connect(self, blocks: gr.Blocks) -> None:
        """Fill the choice when the page is loaded (from ?model= too), and while there is none."""
        shown = [self.dropdown, self.notice, self.timer]
        blocks.load(self._load, outputs=shown, **EVENT)
        self.timer.tick(self._load, outputs=shown, **EVENT)
        stay = gr.Timer(STAY_AFTER)
        stay.tick(_Staying(blocks).stay, outputs=stay, concurrency_limit=None, trigger_mode="once", **EVENT)

    async def _load(self, request: gr.Request) -> tuple[Any, Any, Any]:
        names, why = await self.models.names_or_why()
        wanted = request.query_params.get("model", "")
        if wanted and names and wanted not in names:
            why = f"The model {wanted[:100]!r} of this page's address is not served; another one was chosen."
        chosen = wanted if wanted in names else next(iter(names), None)
        said = f'<p class="notice" role="status">{escaped(why)}</p>' if why else ""
        choice = gr.Dropdown(choices=names, value=chosen, interactive=bool(names))
        return choice, said, gr.Timer(active=not names)


class _Staying:
    """An event of each page that does not end while the page is shown.

    gradio closes its stream of messages with the last event and opens another one for the next. Between the two, messages get lost, and
    with them the end of a step and every button that waits for it.
    """

    def __init__(self, blocks: gr.Blocks) -> None:
        self._blocks = blocks
        self._here: set[str] = set()

    async def stay(self, request: gr.Request) -> AsyncGenerator[gr.Timer, None]:
        """One for each session, which ends when nobody reads what it says; gives the pause before the next one."""
        session = str(request.session_hash)
        if session in self._here:
            return
        self._here.add(session)
        try:
            left = False
            while not left:
                oldest = self._oldest(session)
                yield gr.Timer(STAY_AGAIN)
                await asyncio.sleep(SIGN_OF_LIFE)  # gradio looks only then whether the page is still there
                left = self._messages(session) is None or (oldest is not None and self._oldest(session) is oldest)
        finally:
            self._here.discard(session)

    def _messages(self, session: str) -> Any:
        return self._blocks._queue.pending_messages_per_session.get(session)

    def _oldest(self, session: str) -> Any:
        """The message that has waited longest. How many wait says nothing: a page that is new or slow has many to read, too."""
        messages = self._messages(session)
        return messages._queue[0] if messages is not None and messages.qsize() else None


def model_row(models: Models) -> ModelRow:
    """The components."""
    dropdown = gr.Dropdown(choices=[], value=None, label="Model", interactive=False, elem_id="model")
    notice = gr.HTML("", js_on_load=None, elem_id="model-notice")
    return ModelRow(models, dropdown, notice, gr.Timer(PAUSE, active=False))


class Parameters(NamedTuple):
    """How answers are sampled."""

    temperature: gr.Slider
    top_p: gr.Slider
    max_tokens: gr.Slider


def parameters(temperature: float = 0.2) -> Parameters:
    """The components."""
    heat = gr.Slider(0.0, 1.0, temperature, step=0.1, label="Temperature", info="0: always the likeliest word", elem_id="temperature")
    top = gr.Slider(0.1, 1.0, 0.7, step=0.1, label="Top p", info="how many of the likely words are considered", elem_id="top-p")
    most = gr.Slider(16, 1024, 512, step=16, label="Longest answer", info="in tokens", elem_id="max-tokens")
    return Parameters(heat, top, most)
