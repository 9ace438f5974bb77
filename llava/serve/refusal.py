"""How a server of ours says no: one exception, one JSON shape (OpenAI's), one map from errors to HTTP answers.

    raise Refusal(404, "There is no such model.", code="model_not_found", param="model")

`Edge` is the outermost ASGI layer of every server: it mints the request's id, sends it back as `x-request-id`, and turns whatever was
raised below into an answer. An unforeseen exception becomes a plain 500; only its type and the id go into the log, for its text may
hold what a user wrote. Knows no route and no key.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llava.cluster.wire import code_of
from llava.errors import EngineClosed, EngineError, EngineTimeout, LlavaError, Overloaded, Unavailable, UnknownModel, UserError

log = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"  # the header of every answer
RETRY_AFTER = 1  # seconds; what a client that was turned away should wait at least

# The type that OpenAI's clients expect beside a status.
TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    500: "api_error",
    502: "upstream_error",
    503: "overloaded_error",
    504: "upstream_error",
}

# An error of ours -> status; the first row that fits decides. Its code is that of `wire.CODES`.
STATUS: tuple[tuple[type[LlavaError], int], ...] = (
    (UnknownModel, 404),
    (UserError, 400),
    (Overloaded, 429),
    (EngineTimeout, 504),
    (Unavailable, 503),
    (EngineClosed, 503),
    (EngineError, 502),
)


class Refusal(Exception):
    """An HTTP answer that is no: `status`, a sentence for a person, a `code` for a program, the `param` that is at fault."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        waits = {"retry-after": str(RETRY_AFTER)} if status in (429, 503) else {}
        self.headers = {**waits, **(headers or {})}

    @property
    def kind(self) -> str:
        """OpenAI's error type."""
        return TYPES.get(self.status, "invalid_request_error")

    def body(self) -> dict[str, object]:
        """The error in OpenAI's shape."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def encoded(self) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Headers and body, as they are sent."""
        content = json.dumps(self.body()).encode()
        fields = {"content-type": "application/json", "content-length": str(len(content)), **self.headers}
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields.items()], content

    async def send(self, send: Send) -> None:
        """Answer with this refusal."""
        headers, content = self.encoded()
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": content})


def refusal_for(error: Exception) -> Refusal:
    """The answer for an exception; what is not an error of ours says nothing but that."""
    if isinstance(error, Refusal):
        return error
    for kind, status in STATUS:
        if isinstance(error, kind):
            return Refusal(status, str(error), code=code_of(error), param="model" if kind is UnknownModel else None)
    return Refusal(500, "The server failed; its log tells more under this request's id.", code="internal_error")


def new_id() -> str:
    """A request's id, minted here: a client cannot choose it."""
    return f"req_{secrets.token_hex(12)}"


class Edge:
    """Outermost ASGI layer. The request's id stands in `scope["state"]["request_id"]`; a client cannot choose it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = new_id()
        scope.setdefault("state", {})["request_id"] = request_id
        started = False

        async def tagged(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": [*message.get("headers", ()), (REQUEST_ID.encode(), request_id.encode())]}
            await send(message)

        try:
            await self._app(scope, receive, tagged)
        except asyncio.CancelledError:  # the server ends and waits no longer; passed on, uvicorn would log it as a crash
            if not started:
                await Refusal(503, "The server is shutting down.", code="shutting_down").send(tagged)
        except Exception as error:  # noqa: BLE001 - the outermost layer: whatever was raised has to become an answer
            refusal = refusal_for(error)
            if refusal.status == 500:
                log.error("%s: %s at %s", request_id, type(error).__name__, place(error))
            if not started:
                await refusal.send(tagged)
            # Else the status has gone out: the server breaks off a connection whose answer was not completed.


def place(error: BaseException) -> str:
    """File and line where it was raised: enough to find it, without any text of a user."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"
