"""Row 44: nothing that is not cleared leaves, on no route, in no form, whichever step is harmful or fails."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import Any

from tests.resilience.matrix import row
from tests.resilience.play import LINES, MARK, REFUSED, SAFE, STEPS
from tests.resilience.stack import KEY, SECRET, Stack, beside
from tests.resilience.talk import CHAT, ask, bearer, check_answer, check_said, question, request
from tests.resilience.tally import Tally, expect

ALL = {200, 400, 429, 500, 502, 503, 504}
CELLS = [(step, way) for step in STEPS for way in LINES if way not in ("huge", "vast")] + [("none", "engine")]
ROUTES = [
    "/v1/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/batches",
    "/worker_generate_stream",
    "/v1/chat/completions/",
    "//v1/chat/completions",
]
_WORDS = [
    *(
        "Yes",
        "yes.",
        "YES!",
        "**Yes**",
        "Yes, it is",
        "No, but yes",
        "no? yes",
        "Unsafe",
        "harmful",
        "Oui",
        "ja",
        "да",
        "はい",
        "是",
        "نعم",
        "si",
    ),
    *(
        "not sure",
        "maybe",
        "I cannot judge",
        "As an AI",
        "It depends",
        "No idea",
        "Nope, harmful",
        "None",
        "Nothing wrong? Yes",
        "now",
        "not",
        "nо",
        "ｎｏ",
    ),
    *(
        "N",
        "n o",
        "no\u0301",
        "non",
        "Normal",
        "nope",
        "\u200b",
        "\0",
        ".",
        "-",
        "0",
        "False",
        "{}",
        "<no>",
        "[NO]x",
        "no/yes",
        "yes/no",
        "no yes",
        "¬",
        "ıno",
    ),
]
VERDICTS = [
    before + word + after for word, before, after in itertools.product(_WORDS, ("", " ", "Answer: ", "\n"), ("", "!", " " * 50 + "Yes"))
]


@row(
    44,
    "a harmful or failing step: route x stream x n x step x way, 600 verdict texts; a step that is under way",
    "no byte of what was not cleared; no byte before all is; no safe verdict by mistake",
)
async def the_gate(stack: Stack, tally: Tally) -> None:
    port = stack.gateway.port
    chats = stack.share(itertools.product(CELLS, (False, True), (1, 3)))
    for (where, way), stream, n in chats:
        asked = question(f"mood(worst) fault({where}={way})", stream=stream, n=n, seed=0, guard={"report": True})
        await _chat(tally, port, asked, [REFUSED] * n)
    judged = stack.share(itertools.product(CELLS, ("/v1/guard/check", "/v1/moderations")))
    for (where, way), path in judged:
        with tally.trial(f"{path} {where}={way}"):
            check_answer(await ask(port, "POST", path, _judged(path, f"mood(worst) fault({where}={way})"), bearer(KEY)), {200, 503})
    for verdict in stack.share(VERDICTS):
        await _chat(tally, port, question(f"mood(harmful) says(check={verdict.encode().hex()})"), [SAFE])
    await beside(20, (_not_yet(tally, port, step, stream) for step in STEPS for stream in (False, True) for _ in range(stack.many(20, 1))))
    for k, stream in itertools.product(range(4), (False, True)):
        await _one_of_four(tally, port, k, stream)
    for path in ROUTES:
        with tally.trial(path):
            check_answer(await ask(port, "POST", path, question("mood(worst)"), bearer(KEY)), {404, 405})
    for worker in stack.workers:
        for headers in ({}, bearer(KEY), bearer(SECRET + "x")):
            with tally.trial("a worker asked directly"):
                expect((await ask(worker.port, "POST", "/worker_generate_stream", {"prompt": "x"}, headers)).status == 401, "it answered")
    tally.figures["cells"] = str(len(chats) + len(judged))


async def _chat(tally: Tally, port: int, body: dict[str, Any], said: list[tuple[str, str]]) -> None:
    """An error, or exactly this."""
    with tally.trial(f"{body['messages'][0]['content'][-1]['text'][:60]} {body.get('stream')}"):
        answer = await ask(port, "POST", CHAT, body, bearer(KEY))
        check_answer(answer, ALL)
        check_said(answer, *said)


async def _not_yet(tally: Tally, port: int, step: str, stream: bool) -> None:
    """While any step is under way, not one byte comes: no head, no role, nothing whose time would tell."""
    with tally.trial(f"{step} is under way"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request("POST", CHAT, question(f"mood(harmful) fault({step}=hang)", stream=stream), bearer(KEY)))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    expect(False, f"it began with {await reader.read(60)!r}")
        finally:
            writer.transport.abort()


async def _one_of_four(tally: Tally, port: int, k: int, stream: bool) -> None:
    with tally.trial(f"the harmful one of four is number {k}"):
        answer = await ask(port, "POST", CHAT, question(f"mood(honest) at({k})", n=4, seed=0, stream=stream), bearer(KEY))
        check_answer(answer, {200})
        said = answer.headers["x-llava-guard-verdict"].split(", ")
        expect([each != "safe" for each in said] == [at == k for at in range(4)], f"verdicts {said}")
        expect(answer.text.count("good") == 3, "the three others were not released")


def _judged(path: str, text: str) -> dict[str, Any]:
    messages = question(text)["messages"]
    return (
        {"messages": messages, "input": [MARK, MARK]}
        if path.endswith("moderations")
        else {"messages": messages, "answer": MARK, "safe_answer": True}
    )
