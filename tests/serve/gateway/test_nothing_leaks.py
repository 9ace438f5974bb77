"""Nothing that is not cleared ever leaves: every byte of the connection is searched, whatever goes wrong in whichever step."""

import asyncio
import json
import random
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from llava.chat import Call, Reply, Token
from llava.engines import ScriptedEngine
from llava.engines.scripted import Line
from llava.errors import ContextTooLong, EngineError, Overloaded, UserError
from llava.serve.gateway.service import Config
from tests.serve.gateway.running import BENIGN, HARMFUL, Gateway, chat, gateway, turn, until

MARK = "ZORB"
STEPS = ("answer", "check", "caption", "regenerate", "recheck")
# Every step says the mark where its text must not leave; the two checks call everything harmful.
WORST: dict[str, Line] = {**{step: f"{MARK} {step}" for step in STEPS}, "check": f"Yes {MARK}", "recheck": f"Yes {MARK}"}
WAYS: dict[str, Line] = {
    "engine": EngineError(MARK),
    "overloaded": Overloaded(MARK),
    "user": UserError(MARK),
    "context": ContextTooLong(1, 2, 3),
    "defect": RuntimeError(MARK),
    "time": TimeoutError(MARK),
    "cancelled": Reply(MARK, finish_reason="cancelled"),
    "empty": "",
    "unclear": f"No, but {MARK}",
    "cut": Reply(f"No {MARK}", finish_reason="length"),
    "long": f"{MARK} " * 900,
}
CASES = [(step, way) for step in STEPS for way in WAYS] + [("none", "none")]


def script(call: Call) -> Line:
    """The question names the step that goes wrong, and how; the sampling's seed names the one of n answers where it does."""
    named = re.search(r"step=(\w+) way=(\w+)", " ".join(message.text for message in call.chat.messages))
    if named is None:
        return EngineError("a step does not show the question")
    step, way = named.groups()
    if call.step == step and not (call.step == "answer" and call.sampling.seed == 1):
        return WAYS[way]
    return WORST[call.step]


@pytest.fixture(scope="module")
def worst() -> Iterator[Gateway]:
    with gateway(script) as running:
        yield running


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("stream", [False, True])
def test_no_byte_of_a_draft_a_caption_or_a_check_leaves_a_chat(worst: Gateway, stream: bool, n: int) -> None:
    statuses = set()
    for step, way in CASES:
        body = chat(turn(f"step={step} way={way}"), stream=stream, n=n, seed=0, guard={"report": True})
        raw = worst.raw("POST", "/v1/chat/completions", body)
        assert MARK.encode() not in raw, (step, way)
        statuses.add(raw.split()[1])
    assert statuses == {b"200", b"400", b"429", b"500", b"502", b"503", b"504"}


def tokens(text: str, *beyond: str) -> tuple[Token, ...]:
    """The words of `text` and what comes after them, each with alternatives that say the mark where the text does."""
    said = [*re.findall(r"\s*\S+", text), *beyond]
    return tuple(Token(word, -0.1, word.encode(), (Token(word, -0.1, word.encode()), Token(f"{word}!", -3.0))) for word in said)


# What the last step says is cleared; its tokens say more than its text, as after a stop string or where a server keeps thoughts to itself.
ODD_TOKENS: dict[str, tuple[Token, ...] | None] = {
    "beyond": tokens("I cannot help.", f" {MARK}", MARK),
    "in one token": tokens("I cannot", f" help. {MARK}", MARK),
    "before": tokens(f"{MARK} I cannot help."),
    "between": tokens(f"I cannot {MARK} help."),
    "another": tokens(f"{MARK} {MARK} {MARK}."),
    "lying": tuple(Token(MARK, -0.1, word) for word in (b"I", b" cannot", b" help.", MARK.encode())),
    "torn": (*tokens("I cannot help."), Token("\ufffd", -0.1, b"\xe6", tokens(MARK))),
    "none": None,
}


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("stream", [False, True])
def test_no_byte_of_what_was_not_released_leaves_through_log_probabilities(stream: bool, n: int) -> None:
    def telling(call: Call) -> Line:
        odd = re.search(r"odd=(.+);", " ".join(message.text for message in call.chat.messages))
        if odd and call.step == "recheck":
            return "No"
        if odd and call.step == "regenerate":
            return Reply("I cannot help.", tokens=ODD_TOKENS[odd[1]])
        line = script(call)
        reply = Reply(line) if isinstance(line, str) else line
        return Reply(reply.text, finish_reason=reply.finish_reason, tokens=tokens(reply.text)) if isinstance(reply, Reply) else reply

    with gateway(telling) as running:
        wish = {"stream": stream, "n": n, "seed": 0, "logprobs": True, "top_logprobs": 2, "guard": {"report": True}}
        for step, way in CASES:
            raw = running.raw("POST", "/v1/chat/completions", chat(turn(f"step={step} way={way}"), **wish))
            assert MARK.encode() not in raw, (step, way)
            assert b'"token"' not in raw or step == "recheck" or way == "empty", (step, way)
        for odd in ODD_TOKENS:
            raw = running.raw("POST", "/v1/chat/completions", chat(turn(f"odd={odd}; step=none way=none"), **wish))
            assert MARK.encode() not in raw, odd
            kept = odd in ("beyond", "in one token", "lying", "torn")
            assert (raw.split()[1], b'"token"' in raw) == ((b"200", True) if kept else (b"503" if odd == "none" else b"400", False)), odd


@pytest.mark.parametrize("path", ["/v1/guard/check", "/v1/moderations"])
def test_no_byte_of_a_candidate_a_caption_or_a_check_leaves_a_judgement(worst: Gateway, path: str) -> None:
    for step, way in CASES:
        messages = [turn(f"step={step} way={way}")]
        bodies: list[dict[str, Any]] = [{"messages": messages, "answer": MARK, "safe_answer": wanted} for wanted in (False, True)]
        if path.endswith("moderations"):
            bodies = [{"messages": messages, "input": [MARK, MARK]}]
        for body in bodies:
            raw = worst.raw("POST", path, body)
            assert MARK.encode() not in raw, (step, way)
            assert raw.split()[1] in (b"200", b"503"), (step, way)


def test_no_other_path_reaches_the_model(worst: Gateway) -> None:
    asked = len(worst.engine.seen) if isinstance(worst.engine, ScriptedEngine) else 0
    unknown = "/v1/completions /v1/responses /v1/chat/completions/ //v1/chat/completions /worker_generate_stream /v1/batches"
    for path in unknown.split():
        for method in ("GET", "POST", "PUT"):
            assert worst.ask(method, path, chat(turn("step=none way=none")))[0] in (404, 405)
    for path in ("/metrics", "/v1/models", "/version", "/ready", "/openapi.json"):
        assert MARK.encode() not in worst.raw("GET", path)
    assert isinstance(worst.engine, ScriptedEngine)
    assert len(worst.engine.seen) == asked


@pytest.mark.parametrize("stream", [False, True])
def test_not_one_byte_leaves_before_the_last_check_has_ended(stream: bool) -> None:
    hold, reached = threading.Event(), threading.Event()

    class Held(ScriptedEngine):
        async def stream(self, call: Call) -> Any:
            if call.step == "recheck":
                reached.set()
                await asyncio.to_thread(hold.wait)
            async for delta in super().stream(call):
                yield delta

    with gateway(Held(HARMFUL)) as running, socket.create_connection(("127.0.0.1", running.port)) as connection:
        connection.sendall(running.request("POST", "/v1/chat/completions", chat(stream=stream)))
        assert reached.wait(20)
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):
            connection.recv(1)
        connection.setblocking(True)
        hold.set()
        assert connection.recv(100).startswith(b"HTTP/1.1 200")


def test_streamed_and_whole_text_are_the_same_for_two_hundred_random_requests() -> None:
    chance = random.Random(7)
    alphabet = 'ab \n\t.é漢\u200b🎈"\\<{}'

    def words() -> str:
        return "".join(chance.choice(alphabet) for _ in range(chance.randrange(60)))

    plans = [
        {
            "answer": words(),
            "check": chance.choice(["Yes", "No", "No", ""]),
            "caption": words(),
            "regenerate": words(),
            "recheck": chance.choice(["Yes", "No"]),
        }
        for _ in range(200)
    ]

    def planned(call: Call) -> Line:
        number = re.search(r"plan (\d+);", call.chat.question)
        return plans[int(number[1])][call.step] if number else EngineError("no plan")

    with gateway(planned) as running:
        create = running.client().chat.completions.create
        for number, plan in enumerate(plans):
            body = chat(turn(f"plan {number};", images=0), n=chance.randrange(1, 4))
            whole = [(c.message.content, c.finish_reason) for c in create(**body).choices]
            texts, reasons = [""] * len(whole), [""] * len(whole)
            for chunk in create(**body, stream=True):
                for choice in chunk.choices:
                    texts[choice.index] += choice.delta.content or ""
                    reasons[choice.index] = choice.finish_reason or reasons[choice.index]
            assert list(zip(texts, reasons, strict=True)) == whole, plan


@pytest.mark.parametrize("step", STEPS)
def test_a_worker_that_dies_once_costs_nothing_but_time(step: str) -> None:
    died: list[str] = []

    def dies_once(call: Call) -> Line:
        if call.step == step and not died:
            died.append(step)
            return EngineError("the worker died")
        return HARMFUL[call.step]

    with gateway(dies_once) as running:
        assert running.client().chat.completions.create(**chat()).choices[0].message.content == HARMFUL["regenerate"]
    assert died


def test_the_mode_is_the_callers_only_where_the_operator_allows_it() -> None:
    wishes: list[dict[str, Any]] = [{"guard": {"mode": "off"}}, {"guard": {"mode": "shadow"}}]
    with gateway(HARMFUL) as running:
        for wish in wishes:
            status, body = running.post("/v1/chat/completions", chat(**wish))
            assert (status, body["error"]["type"], body["error"]["code"]) == (403, "permission_error", "guard_override_not_allowed")
        assert running.post("/v1/chat/completions", chat(guard={"mode": "guard"}))[0] == 200
    with gateway(HARMFUL, Config(allow_override=True, self_test=False)) as running:
        assert [row["id"] for row in json.loads(running.ask("GET", "/v1/models")[2])["data"]] == ["tiny", "tiny:direct"]
        for wish in (*wishes, {"model": "tiny:direct"}):
            _, headers, content = running.ask("POST", "/v1/chat/completions", chat() | wish)
            assert json.loads(content)["choices"][0]["message"]["content"] == HARMFUL["answer"]
            assert headers["x-llava-guard-verdict"] in ("bypassed", "harmful")
        for mode in ("guard", "shadow"):  # a program's wish is not undone by the name that its user chose
            for stream in (False, True):
                status, _, content = running.ask(
                    "POST", "/v1/chat/completions", chat(model="tiny:direct", guard={"mode": mode}, stream=stream)
                )
                assert (status, json.loads(content)["error"]["param"]) == (400, "guard.mode")
        assert running.ask("POST", "/v1/chat/completions", chat())[1]["x-llava-guard-verdict"] == "regenerated"


def test_a_client_that_leaves_ends_the_models_call() -> None:
    ended = threading.Event()

    class Slow(ScriptedEngine):
        async def stream(self, call: Call) -> Any:
            try:
                async for delta in super().stream(call):
                    yield delta
            finally:
                ended.set()

    with gateway(Slow(BENIGN, delay=60)) as running:
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            connection.sendall(running.request("POST", "/v1/chat/completions", chat()))
            assert isinstance(running.engine, ScriptedEngine)
            seen = running.engine.seen
            until(lambda: seen)
        assert ended.wait(20)
        until(lambda: running.service.admission.running == 0)
        assert 'status="499"' in running.metrics()


@pytest.mark.parametrize(
    "config", [Config(mode="off", self_test=False), Config(allow_override=True, self_test=False)], ids=["off", "override"]
)
def test_streams_that_nobody_checks_are_turned_away_unread_where_too_many_wait(config: Config) -> None:
    config = replace(config, most_running=1, most_waiting=0)
    with gateway(ScriptedEngine(BENIGN, delay=60), config) as running, socket.create_connection(("127.0.0.1", running.port)) as connection:
        connection.sendall(running.request("POST", "/v1/chat/completions", chat(stream=True)))
        until(lambda: running.service.admission.running == 1)
        status, headers, _ = running.ask("POST", "/v1/chat/completions", chat(stream=True, no_such_field=1))
        assert (status, headers["retry-after"]) == (429, "1")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/guard/check", "/v1/moderations"])
def test_to_be_told_no_nobody_waits_for_a_place(path: str) -> None:
    config = Config(most_running=1, self_test=False)
    with gateway(ScriptedEngine(BENIGN, delay=60), config) as running, socket.create_connection(("127.0.0.1", running.port)) as connection:
        connection.sendall(running.request("POST", "/v1/chat/completions", chat()))
        until(lambda: running.service.admission.running == 1)
        assert running.ask("POST", path, {"no_such_field": 1})[0] == 400


def test_who_finds_no_place_is_told_to_come_again() -> None:
    config = Config(most_running=1, most_waiting=0, self_test=False)
    with gateway(ScriptedEngine(BENIGN, delay=60), config) as running, socket.create_connection(("127.0.0.1", running.port)) as connection:
        connection.sendall(running.request("POST", "/v1/chat/completions", chat()))
        until(lambda: running.service.admission.running == 1)
        status, headers, content = running.ask("POST", "/v1/chat/completions", chat())
        assert (status, headers["retry-after"]) == (429, "1")
        assert json.loads(content)["error"]["type"] == "rate_limit_error"
        assert "vllm:num_requests_running 1" in running.metrics()
