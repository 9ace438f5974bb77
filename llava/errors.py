"""Every error that this package raises on purpose.

    LlavaError
    ├── UserError              the caller can mend it; the message says how
    │   ├── ImageError         an image that cannot or must not be decoded
    │   ├── CheckpointError    a model folder that is missing, incomplete or not what it says
    │   ├── ContextTooLong     the prompt leaves no room for an answer in the model's context
    │   ├── NoLogprobs         the model, or the server before it, does not tell log-probabilities
    │   ├── UnknownModel       nobody there serves a model of that name
    │   └── Misconfigured      the way to a model is set up wrongly: its address, key or name
    │       └── ImagesUnseen   the server takes images and does not show them to its model
    └── EngineError            the model, or the way to it, failed
        ├── Overloaded         no room for one more call just now
        ├── Unavailable        nobody is there to take the call just now
        ├── EngineTimeout      the answer, or a part of it, took too long
        ├── EngineClosed       the engine was closed while the call waited or ran
        └── ModelLost          the model of this process has failed for good: only a new process helps

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
    """The prompt leaves no room in the model's context for an answer.

    The local engine shortens the answer to what fits and raises this only when not one token does; servers refuse what does not fit
    in full. `prompt_tokens` (image tokens included), `max_tokens` (kept for the answer) and `context` are counts of tokens, or None
    where a server does not tell them.
    """

    def __init__(self, prompt_tokens: int | None = None, max_tokens: int | None = None, context: int | None = None) -> None:
        if prompt_tokens is None or max_tokens is None or context is None:
            said = "The prompt is too long: with the answer it does not fit into the model's context."
        else:
            over = prompt_tokens + max_tokens - context
            kept = f", of which the answer gets {max_tokens}" if max_tokens else ""
            said = f"The prompt has {prompt_tokens} tokens, images included: {over} too many. The model's context holds {context}{kept}."
        super().__init__(f"{said} Shorten the question" + (" or lower max_tokens." if max_tokens is None or max_tokens > 1 else "."))
        self.prompt_tokens = prompt_tokens
        self.max_tokens = max_tokens
        self.context = context

    def __reduce__(self) -> tuple[type[ContextTooLong], tuple[int | None, int | None, int | None]]:  # its text is no argument of its own
        return type(self), (self.prompt_tokens, self.max_tokens, self.context)


class NoLogprobs(UserError):
    """Every token's log-probability was asked for, and this model, or the server before it, does not tell them."""

    def __init__(self, said: str = "This model does not tell the log-probabilities of its tokens: ask without logprobs.") -> None:
        super().__init__(said)


class UnknownModel(UserError):
    """Nobody there serves a model of that name."""


class Misconfigured(UserError):
    """The way to a model is set up wrongly: its address, key or name. Whoever set it up can mend it; the one who asks through it cannot."""


class ImagesUnseen(Misconfigured):
    """The server takes images and does not show them to its model: what is asked about a picture would be answered without it."""


class EngineError(LlavaError):
    """The model, or the way to it, failed; trying again may help. `tried_again`: whether the engine has done so already, in vain."""

    tried_again = False


class Overloaded(EngineError):
    """No room for one more call just now. `pause`: the seconds after which there may be, where somebody has said so."""

    pause: float | None = None


class Unavailable(EngineError):
    """Nobody is there to take the call just now."""


class EngineTimeout(EngineError):
    """The answer, or a part of it, took too long."""


class EngineClosed(EngineError):
    """The engine was closed while the call waited or ran."""


class ModelLost(EngineError):
    """The model of this process has failed for good, and fails at everything: only a new process helps. Of a model in another process
    nobody says so: to those who ask there it is an `EngineError`, and that process ends by itself."""


def unknown(what: str, name: object, known: Iterable[str]) -> UserError:
    """The error for a name that is in no table: says which names there are, and which one was probably meant."""
    names = list(known)
    near = difflib.get_close_matches(str(name), names, 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return UserError(f"Unknown {what} {str(name)[:100]!r}: there is {', '.join(names)}.{hint}")
