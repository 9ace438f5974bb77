"""What a client is told when a model or the guard failed: constant sentences. No text of a user, a model or a server is ever in one, and
no address behind the gateway; those who run it find more in its log.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

from llava.ecso.text import printable
from llava.errors import (
    ContextTooLong,
    EngineClosed,
    EngineError,
    EngineTimeout,
    ImageError,
    LlavaError,
    Misconfigured,
    NoLogprobs,
    Overloaded,
    Unavailable,
    UnknownModel,
    UserError,
)
from llava.serve.refusal import RETRY_AFTER, Refusal

log = logging.getLogger(__name__)

LONGEST_PAUSE = 3600  # seconds that a client is asked to wait
ASK_ONCE = {"x-should-retry": "false"}  # the openai client repeats a 5xx by itself unless it is told that this is pointless


class GuardUnavailable(Refusal):
    """The guard could not finish. The same words whichever step failed and however: they tell nothing of the answer that was held back."""

    def __init__(self, retry: bool, headers: Mapping[str, str] | None = None) -> None:
        said = "The guard could not finish its work, so no answer is released."
        super().__init__(503, said, code="guard_unavailable", headers={**({} if retry else ASK_ONCE), **(headers or {})})

    @property
    def kind(self) -> str:
        """Its own type, for it is no overload."""
        return "guard_unavailable"


def waiting(error: Exception) -> dict[str, str]:
    """The header that hands on how long a server behind wants to be left alone, where it says so."""
    if not isinstance(error, Overloaded) or error.pause is None:
        return {}
    return {"retry-after": str(min(max(math.ceil(error.pause), RETRY_AFTER), LONGEST_PAUSE))}


def no_such_model() -> Refusal:
    """For a name that is not served."""
    return Refusal(404, "There is no such model here: GET /v1/models lists those there are.", code="model_not_found", param="model")


def answer_failed(error: Exception) -> Refusal:
    """What to answer when step 1, the model's own answer, failed with `error`: nothing was held back yet."""
    if isinstance(error, ContextTooLong):
        return Refusal(400, str(error), code="context_length_exceeded", param="messages")
    if isinstance(error, ImageError):
        return Refusal(400, "The model does not take one of the images: it may be too large.", code="invalid_image", param="messages")
    if isinstance(error, NoLogprobs):
        said = "The model does not tell the log-probabilities of its tokens: ask without logprobs."
        return Refusal(400, said, code="logprobs_unavailable", param="logprobs")
    if isinstance(error, Misconfigured):
        said = "The gateway cannot use its model: the gateway's log says why."
        return Refusal(502, said, code="upstream_misconfigured", headers=ASK_ONCE)
    if isinstance(error, Unavailable | UnknownModel):  # unknown to a controller: its workers have gone
        return Refusal(503, "Nobody is there to answer just now: try again in a moment.", code="unavailable")
    if isinstance(error, UserError):
        said = "The model does not take this request: it may take no images or not so many, or not these sampling settings."
        return Refusal(400, said, code="model_refused")
    if isinstance(error, Overloaded):
        said = "The model has no room for this request just now: try again in a moment."
        return Refusal(429, said, code="overloaded", headers=waiting(error))
    if isinstance(error, EngineTimeout):
        return Refusal(504, "The model did not answer in time.", code="timeout", headers=ASK_ONCE)
    if isinstance(error, EngineClosed):
        return Refusal(503, "The gateway is shutting down.", code="shutting_down")
    if isinstance(error, EngineError):
        return Refusal(502, "The model failed: trying again may help.", code="upstream_error")
    return Refusal(500, "The gateway failed: this is a defect of it, not of the request.", code="internal_error")


def report(step: str, error: Exception, request_id: str) -> None:
    """One line for those who run the gateway. An error of ours is a sentence without texts of users; of another only its kind is told.

    A worker may have written the sentence: what it says must not move anybody's cursor.
    """
    said = str(error) if isinstance(error, LlavaError) else type(error).__name__
    log.warning("%s: step %s failed: %s", request_id, step, printable(" ".join(said.split())))
