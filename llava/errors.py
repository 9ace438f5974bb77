"""Every error that this package raises on purpose.

    LlavaError
    ├── UserError              the caller can mend it; the message says how
    │   ├── ImageError         an image that cannot or must not be decoded
    │   ├── CheckpointError    a model folder that is missing, incomplete or not what it says
    │   └── ContextTooLong     prompt and answer do not fit into the model's context
    └── EngineError            the model, or the way to it, failed
        ├── Overloaded         no room for one more call just now
        └── EngineClosed       the engine was closed while the call waited or ran

Libraries raise these; edges (command line, servers) translate them, each in one place. A `LlavaError`'s text is one
or two sentences for a person and never holds the user's text or pixels.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LlavaError(Exception):
    """Base of all errors raised on purpose; `str(error)` is a sentence for a person."""


class UserError(LlavaError):
    """The input or an option is wrong; the message says what to do about it."""


class ImageError(UserError):
    """An image is missing, unreadable, of a kind that is not accepted, or over a limit."""


class CheckpointError(UserError):
    """A model folder is missing, incomplete, damaged or of a kind that is not supported."""


class ContextTooLong(UserError):
    """Prompt plus wanted answer exceed the model's context.

    `prompt_tokens`, `max_tokens` and `context` are counts of tokens; image tokens are part of the prompt.
    """

    def __init__(self, prompt_tokens: int, max_tokens: int, context: int) -> None:
        over = prompt_tokens + max_tokens - context
        super().__init__(
            f"The prompt has {prompt_tokens} tokens and {max_tokens} more are wanted, but the model's context holds "
            f"{context}: {over} too many. Shorten the question or lower max_tokens."
        )
        self.prompt_tokens = prompt_tokens
        self.max_tokens = max_tokens
        self.context = context


class EngineError(LlavaError):
    """The model, or the way to it, failed; trying again may help."""


class Overloaded(EngineError):
    """No room for one more call just now."""


class EngineClosed(EngineError):
    """The engine was closed while the call waited or ran."""


def unknown(what: str, name: object, known: Iterable[str]) -> UserError:
    """The error for a name that is in no table: says which names there are, and which one was probably meant."""
    names = list(known)
    near = difflib.get_close_matches(str(name), names, 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return UserError(f"Unknown {what} {str(name)[:100]!r}: there is {', '.join(names)}.{hint}")
