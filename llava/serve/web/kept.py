"""What a page is told that outlived what the server kept of it (`visits` says how long that is). Knows no page."""

from __future__ import annotations

from typing import Any

import gradio as gr

from llava.errors import UserError

_LOST = "The conversation of this page is no longer kept on the server: ask again, and a new one begins."


def mark() -> Any:
    """A component that shows nothing: its value says whether the browser believes that there is a conversation (see `marked`)."""
    return gr.HTML("", html_template="", js_on_load=None, elem_id="begun", apply_default_css=False)


def marked(begun: bool) -> str:
    """The mark's value where a conversation has begun, or has not."""
    return "yes" if begun else ""


def check(mark: object, begun: bool) -> None:
    """Raise `UserError` where the browser shows a conversation and the server has none: what is asked would be about nothing."""
    if mark and not begun:
        raise UserError(_LOST)
