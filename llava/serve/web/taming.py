"""What gradio does by itself, and our pages do not want. Each line says what it would do. Knows no page."""

from __future__ import annotations

import logging
import sys
from typing import Any

import gradio as gr
from gradio import queueing, route_utils, routes, state_holder, utils

from llava.serve.refusal import place

log = logging.getLogger(__name__)

EVENTS = 4000  # at a time; how many answers is `concurrency_limit`'s to say


class _Quiet:
    """In place of the module `traceback`, with which gradio prints an error together with the visitors' values that caused it."""

    @staticmethod
    def print_exc(*_: Any, **__: Any) -> None:
        """Say what kind of error it was, and where."""
        error = sys.exception()
        if error is not None:
            log.error("%s at %s", type(error).__name__, place(error))


def _edits(old: Any, new: Any) -> list[tuple[str, list[str], Any]]:
    """In place of `utils.diff`, for pieces of one answer: what changed, in whole values. A longer text is told by what it has more."""
    if old == new:
        return []
    if isinstance(old, str) and isinstance(new, str) and new.startswith(old):
        return [("append", [], new[len(old) :])]
    return [("replace", [], new)]


def tame(blocks: gr.Blocks) -> None:
    """After mounting."""
    blocks.has_launched = True  # else gradio does not look whether a path that it is given may be read
    blocks._queue.max_thread_count = EVENTS  # else 40 visitors, with an event each that stays, leave no place for another one
    blocks._queue.ANAYLTICS_CACHE_FREQUENCY = sys.maxsize  # else a table of all events' times is computed anew after each one
    # else it looks for the model in a list that it lost with the session, and refuses in words of its own; `Models.chosen` looks itself
    gr.Dropdown.preprocess = lambda self, payload: payload
    # else an edit reaches into a value, and the script in the browser makes it in the same object that it was told before and may not have
    # shown yet: a text or a button that one message changes and the next one leaves alone would stay as it was
    utils.diff = _edits
    # else each page's last values, up to 10 MiB of anything for each component, are kept for links of which none leads here (`door`)
    state_holder.SessionState._update_value_in_config = lambda self, key, value: None
    for module in (queueing, routes, route_utils):
        module.traceback = _Quiet
