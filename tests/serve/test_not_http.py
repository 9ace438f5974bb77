"""What is no HTTP is refused in our shape and leaves no traceback in the log."""

import json
import re
import socket
from collections.abc import Iterator

import pytest

from llava.serve.app import new_app, server
from llava.serve.not_http import HEAD_BYTES
from llava.serve.security import Keys, Right, Rules
from tests.loopback import on_loopback


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with on_loopback(server(new_app(Rules(Keys([("sk-somebody", Right.INFERENCE)]))), grace=1, lifespan="off")) as found:
        yield found


def answered(port: int, *pieces: bytes) -> list[bytes]:
    """What comes back for each piece of a connection, and then its end."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        said = []
        for piece in pieces:
            connection.sendall(piece)
            said.append(connection.recv(65536))
        said.append(connection.recv(65536))
        return said


NO_HTTP = {
    "no line": b"hello\r\n\r\n",
    "no version": b"GET /health\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    "no chunk": b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzzz\r\n",
    "another coding": b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n",
}


@pytest.mark.parametrize("sent", NO_HTTP.values(), ids=NO_HTTP)
def test_what_is_no_http_is_refused_in_the_shape_of_all_refusals(port: int, sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    said, end = answered(port, sent)
    head, _, content = said.partition(b"\r\n\r\n")
    assert head.split()[1] == (b"501" if b"gzip" in sent else b"400")
    assert b"connection: close" in head.lower()
    assert len(re.findall(rb"\r\nx-request-id: req_[0-9a-f]{24}(?=\r\n|$)", head)) == 1
    assert json.loads(content)["error"]["code"] == "invalid_http"
    assert end == b""
    assert [row.getMessage() for row in caplog.records if row.levelname != "WARNING"] == []


def test_a_body_that_breaks_off_after_its_refusal_is_no_traceback_in_the_log(port: int, caplog: pytest.LogCaptureFixture) -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    said, end = answered(port, head)[0], answered(port, head, b"zzz\r\n")[-1]
    assert said.startswith(b"HTTP/1.1 401")
    assert not end.startswith(b"HTTP")  # no second answer
    assert [row.getMessage() for row in caplog.records if row.levelname != "WARNING"] == []


def test_a_long_head_is_read_also_when_it_comes_in_pieces_and_one_without_an_end_is_not(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nx-a: " + 30_000 * b"a")
        answered(port, b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")  # the server has read the piece by then
        connection.sendall(b"\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 401")
    said, end = answered(port, b"GET / HTTP/1.1\r\nhost: x\r\nx-a: ".ljust(HEAD_BYTES + 1, b"a"))  # not a byte is left unread
    assert said.startswith(b"HTTP/1.1 431")
    assert b"\r\nx-request-id: req_" in said
    assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]["code"] == "headers_too_large"
    assert end == b""


@pytest.mark.parametrize("wish", ["websocket", "h2c"])
def test_a_wish_to_speak_something_else_is_passed_over(port: int, wish: str, caplog: pytest.LogCaptureFixture) -> None:
    (said, *_) = answered(port, f"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade, close\r\nupgrade: {wish}\r\n\r\n".encode())
    assert said.startswith(b"HTTP/1.1 401")
    assert not caplog.records
