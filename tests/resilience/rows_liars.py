"""Row 9: what stands behind the gateway answers nonsense, and never passes for an answer or for a verdict."""

from __future__ import annotations

import itertools
import secrets

from tests.loopback import free_port
from tests.openai_server import Behaviour, error, openai_server
from tests.resilience.matrix import row
from tests.resilience.play import MARK, SAFE, STEPS, WIRE
from tests.resilience.stack import KEY, Stack, until
from tests.resilience.talk import CHAT, ask, bearer, check_answer, check_said, get, question
from tests.resilience.tally import Tally, expect

MODEL = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "tiny"}
BEHAVIOURS: dict[str, Behaviour] = {
    "html": Behaviour(raw=f"<html>{MARK}</html>".encode()),
    "no json": Behaviour(raw=f"data: {MARK}\n\n".encode()),
    "a list": Behaviour(raw=b'data: ["x"]\n\n'),
    "nothing": Behaviour(raw=b""),
    "only the end": Behaviour(raw=b"data: [DONE]\n\n"),
    "an error event": Behaviour(raw=f'data: {{"error": {{"message": "{MARK}"}}}}\n\n'.encode()),
    "cut at once": Behaviour(break_after=0),
    "cut in the middle": Behaviour(pieces=[MARK, "x", "y"], break_after=2),
    "no reason": Behaviour(pieces=[MARK], finish_reason=None),
    "filtered": Behaviour(pieces=[f"No {MARK}"], finish_reason="content_filter"),
    "aborted": Behaviour(pieces=[MARK], finish_reason="abort"),
    "500": Behaviour(fail={-1: (500, error(MARK))}),
    "503": Behaviour(fail={-1: (503, error(MARK))}),
    "429": Behaviour(fail={-1: (429, error(MARK))}),
    "400": Behaviour(fail={-1: (400, error(MARK))}),
    "401": Behaviour(fail={-1: (401, error(MARK))}),
    "404": Behaviour(fail={-1: (404, error(MARK))}),
    "no object": Behaviour(fail={-1: (500, {MARK: MARK})}),
    "a redirect": Behaviour(redirect="http://127.0.0.1:1/"),
    "empty, empty check": Behaviour(pieces=[]),
}


@row(
    9,
    "workers and servers that answer nonsense: HTML, torn JSON, no end, wrong forms, redirects",
    "502/503/…, or another worker; empty is not safe",
)
async def liars(stack: Stack, tally: Tally) -> None:
    for _ in range(stack.many(2, 1)):
        for way, step, stream in stack.share(itertools.product(WIRE, STEPS, (False, True))):
            with tally.trial(f"{way} in {step}"):
                answer = await ask(
                    stack.gateway.port, "POST", CHAT, question(f"mood(harmful) fault({step}={way})", stream=stream), bearer(KEY)
                )
                check_answer(answer, {502, 503})
            with tally.trial(f"{way} once in {step}"):
                text = f"mood(harmful) fault({step}={way}#{secrets.token_hex(6)})"
                answer = await ask(stack.gateway.port, "POST", CHAT, question(text, stream=stream), bearer(KEY))
                check_answer(answer, {200, 502, 503})
                check_said(answer, SAFE)
    with openai_server() as behind:
        port = free_port()
        words = ["llava.serve.api_server", "--engine", behind.url, "--model", "tiny", "--port", str(port), "--engine-option", "retries=0"]
        gateway = await stack.start("gateway", words, port, {"LLAVA_API_KEY": KEY})

        async def ready() -> bool:
            return (await get(port, "/health")).status == 200

        await until(ready, gateway)
        for name, stream in stack.share(itertools.product(BEHAVIOURS, (False, True) * 2)):
            behind.behaviour = BEHAVIOURS[name]
            with tally.trial(f"a server behind: {name}"):
                answer = await ask(port, "POST", CHAT, question("?", stream=stream), bearer(KEY))
                empty = name.startswith("empty")
                check_answer(answer, {200, 502, 503} if empty else {400, 429, 502, 503})
                expect(not empty or answer.status != 200 or answer.headers["x-llava-guard-verdict"] == "blocked", "empty counts as safe")
        gateway.kill()
