"""What arrives at a server of ours and is no HTTP: refused in the shape of all refusals, and never a traceback in the log."""

from __future__ import annotations

import sys
from http import HTTPStatus

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from llava.serve.refusal import REQUEST_ID, Refusal, new_id

HEAD_BYTES = 64 * 1024  # of a head that comes in pieces: more than `Caps.header_bytes`, whose answer is the better one


class Refusing(H11Protocol):
    """uvicorn's HTTP, which answers what it cannot read as text, also where an answer stands there already, and fails at that."""

    def send_400_response(self, msg: str) -> None:
        """Refuse, and close. An answer that has begun is broken off; whoever is at work on one hears that its client has left."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            error = sys.exception()
            refusal = _refusal(error.error_status_hint if isinstance(error, h11.ProtocolError) else 400)
            headers, content = refusal.encoded()
            start = h11.Response(status_code=refusal.status, headers=headers, reason=HTTPStatus(refusal.status).phrase)
            events = (start, h11.Data(data=content), h11.EndOfMessage())
            self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        self.transport.close()

    def _should_upgrade(self) -> bool:
        return False  # HTTP goes on; uvicorn would tell the log each time which package to install for WebSockets


def _refusal(status: int) -> Refusal:
    said, code = "This is no HTTP request that is understood here.", "invalid_http"
    if status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
        said, code = "The request has too many or too long headers.", "headers_too_large"
    return Refusal(status, said, code=code, headers={"connection": "close", REQUEST_ID: new_id()})
