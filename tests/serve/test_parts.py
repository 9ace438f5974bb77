"""What one visitor may hold of the room for bodies, so that others find some: who is a visitor, and how much that is."""

from __future__ import annotations

import asyncio

import httpx2
import pytest
from starlette.types import Message, Receive, Scope, Send

from llava.serve.app import new_app
from llava.serve.limits import Caps
from llava.serve.security import Gate, Keys, Right, Rules
from tests.serve.cluster import listening, until

ONE, TWO, ROOT = "the-key-of-one", "the-key-of-two", "the-key-of-root"
KEYS = Keys([(ONE, Right.INFERENCE), (TWO, Right.INFERENCE), (ROOT, Right.ADMIN)])


def test_a_visitor_may_hold_as_much_as_is_left_for_others_and_the_operator_all() -> None:
    async def main() -> None:
        hold, entered = asyncio.Event(), list[str]()
        app = new_app(Rules(KEYS), Caps(body=100, together=300))

        @app.post("/work")
        async def work() -> None:
            entered.append("x")
            await hold.wait()

        async with listening(app) as url, httpx2.AsyncClient(trust_env=False) as client:

            async def ask(key: str) -> httpx2.Response:
                headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
                return await client.post(f"{url}/work", content=b'"' + b"x" * 98 + b'"', headers=headers)

            async def begun(count: int) -> None:
                await until(lambda: len(entered) == count)

            for _ in range(2):  # all is given back
                hold.clear()
                entered.clear()
                working = list[asyncio.Task[httpx2.Response]]()
                for count, key in enumerate((ONE, TWO, ROOT), start=1):
                    working.append(asyncio.create_task(ask(key)))
                    await begun(count)
                    if key == ONE:  # 200 of 300 would leave others less than it holds
                        refused = await ask(ONE)
                        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
                        assert "from here" in refused.json()["error"]["message"]
                        assert refused.headers["retry-after"] == "1"
                assert "All bodies together" in (await ask(ROOT)).json()["error"]["message"]
                hold.set()
                assert [answer.status_code for answer in await asyncio.gather(*working)] == [200, 200, 200]

    asyncio.run(main())


def visitor(rules: Rules, peer: str, key: str = "", path: str = "/v1/models") -> object:
    """Whom the gate tells the layers behind it that this is."""
    seen: list[object] = []

    async def behind(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["state"]["visitor"])

    async def receive() -> Message:
        raise AssertionError("no body is read here")

    async def send(message: Message) -> None:
        raise AssertionError(f"nobody is refused here: {message}")

    headers = [(b"authorization", f"Bearer {key}".encode())] if key else []
    scope: Scope = {"type": "http", "method": "GET", "path": path, "headers": headers, "client": (peer, 1)}
    asyncio.run(Gate(behind, rules)(scope, receive, send))
    return seen[0]


ANYBODY = Rules(Keys(), anonymous=True)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ((Rules(KEYS), "192.0.2.1", ONE), (Rules(KEYS), "192.0.2.1", TWO), False),
        ((Rules(KEYS), "192.0.2.1", ONE), (Rules(KEYS), "192.0.2.2", ONE), False),
        ((Rules(KEYS), "2001:db8::1", ONE), (Rules(KEYS), "2001:db8::2", ONE), True),
        ((ANYBODY, "192.0.2.1", ONE), (ANYBODY, "192.0.2.1", TWO), True),  # nobody looks at its keys: they say nothing
        ((ANYBODY, "192.0.2.1"), (ANYBODY, "192.0.2.2"), False),
        ((ANYBODY, "2001:db8::1"), (ANYBODY, "2001:db8:0:1::1"), False),
        ((ANYBODY, "::ffff:192.0.2.1"), (ANYBODY, "::ffff:192.0.2.2"), False),
    ],
)
def test_a_visitor_is_an_address_and_a_key_that_was_looked_at(one: tuple[Rules, str], other: tuple[Rules, str], same: bool) -> None:
    assert (visitor(*one) == visitor(*other)) is same
    assert visitor(*one) is not None


def test_the_operator_is_no_visitor() -> None:
    assert visitor(Rules(KEYS), "192.0.2.1", ROOT) is None
    assert visitor(Rules(Keys()), "127.0.0.1") is None
    assert visitor(ANYBODY, "::1") is None
    assert visitor(Rules(KEYS), "127.0.0.1", path="/health") is None
    assert visitor(Rules(KEYS), "192.0.2.1", path="/health") is not None  # open to all, and read like any other
