"""What a page says, made harmless: texts of others as HTML, and failures as one sentence with an id. Knows no gradio."""

from __future__ import annotations

import logging
import secrets
from html import escape

from llava.ecso.text import printable
from llava.errors import LlavaError, UserError
from llava.serve.refusal import place

log = logging.getLogger(__name__)


def escaped(text: str) -> str:
    """`text` as HTML in which no element is an element and no control character is sent."""
    return escape(printable(text))


def whole(text: str) -> str:
    """`text` for a text field: halves of characters, which no worker should send, could not be sent on."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def failure(error: BaseException) -> str:
    """One sentence for a person, with an id under which the log tells more. Only the log's place of an unforeseen error knows where."""
    request = f"req_{secrets.token_hex(12)}"
    if isinstance(error, LlavaError):
        log.log(logging.INFO if isinstance(error, UserError) else logging.WARNING, "%s: %s", request, type(error).__name__)
        return f"{error} ({request})"
    log.error("%s: %s at %s", request, type(error).__name__, place(error))
    return f"The page failed; its log tells more under this id. ({request})"
