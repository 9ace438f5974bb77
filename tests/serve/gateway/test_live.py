"""Mode `off`: nothing is checked, so a streamed answer goes out as the model says it."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from llava.chat import Call, Delta, Reply
from llava.engines import ScriptedEngine
from llava.errors import ContextTooLong, EngineError, Overloaded
from llava.serve.gateway.audit import AuditLog, verify
from llava.serve.gateway.service import Config
from tests.serve.gateway.running import HARMFUL, Gateway, chat, gateway, turn, until

SAID = Reply("A cat on a mat.", 10, 5)
OFF = Config(mode="off", self_test=False)
STREAM: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}


class Waits(ScriptedEngine):
    """Says two words, waits to be told, and then says the rest or fails."""

    def __init__(self, failure: Exception | None = None) -> None:
        super().__init__([])
        self.go_on = threading.Event()
        self.failure = failure
        self.ended = 0

    async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
        try:
            yield Delta("A ")
            yield Delta("cat")
            while not self.go_on.is_set():  # noqa: ASYNC110 - another thread sets it
                await asyncio.sleep(0.005)
            if self.failure:
                raise self.failure
            yield Delta(" on a mat.")
            yield Delta(reply=SAID)
        finally:
            self.ended += 1


@contextmanager
def audited(engine: Waits, folder: Path) -> Iterator[tuple[Gateway, Path]]:
    path = folder / "audit.jsonl"
    with gateway(engine, OFF, AuditLog(path, content=True)) as running:
        yield running, path


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_the_model_has_said_is_there_before_it_has_said_all(tmp_path: Path) -> None:
    engine = Waits()
    with audited(engine, tmp_path) as (running, path), running.client() as client:
        with client.chat.completions.with_streaming_response.create(**chat(), **STREAM, extra_body={"guard": {"report": True}}) as response:
            assert response.headers["x-llava-guard-verdict"] == "bypassed"
            assert "mode=off" in response.headers["x-llava-guard"]
            chunks = (json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: {"))
            begun = [next(chunks)["choices"][0]["delta"] for _ in range(3)]
            assert begun == [{"role": "assistant", "content": "", "refusal": None}, {"content": "A "}, {"content": "cat"}]
            assert rows(path) == []
            engine.go_on.set()
            rest, last, usage = chunks
        assert rest["choices"][0]["delta"] == {"content": " on a mat."}
        assert (last["choices"][0]["finish_reason"], last["guard"]["choices"][0]["verdict"]) == ("stop", "bypassed")
        assert usage["usage"] == {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        assert 'llava_guard_verdicts_total{verdict="bypassed",policy="guard",mode="off"} 1' in running.metrics()
    (row,) = rows(path)
    assert (row["status"], row["mode"], row["choices"][0]["released"]["text"]) == (200, "off", SAID.text)
    assert verify(path) == 1


@pytest.mark.parametrize("text", ["", "A cat.", " \n\nA  cat\n"])
def test_streamed_and_whole_answers_are_the_same(text: str) -> None:
    with gateway({"answer": Reply(text, 3, 2)}, OFF) as running, running.client() as client:
        whole = client.chat.completions.create(**chat())
        with client.chat.completions.stream(**chat(), stream_options={"include_usage": True}) as stream:
            streamed = stream.get_final_completion()
    assert (streamed.choices[0].message.content or "") == whole.choices[0].message.content == text
    assert streamed.choices[0].finish_reason == whole.choices[0].finish_reason
    assert streamed.usage == whole.usage


def test_only_who_streams_what_nobody_checks_needs_the_models_pieces() -> None:
    engine, config = ScriptedEngine(lambda _: "No"), Config(allow_override=True, self_test=False)
    with gateway(engine, config) as running, running.client() as client:
        for stream, mode in ((True, "off"), (False, "off"), (True, "guard")):
            answer = client.chat.completions.create(**chat(), stream=stream, extra_body={"guard": {"mode": mode}})
            if stream:
                assert list(answer)
    assert [call.whole for call in engine.seen] == [False, True, True, True]


@pytest.mark.parametrize("asked", [{"model": "tiny:direct"}, {"guard": {"mode": "off"}}])
def test_a_request_that_may_choose_is_streamed_live_and_others_stay_held(asked: dict[str, Any]) -> None:
    engine, config = Waits(), Config(allow_override=True, self_test=False)
    with gateway(engine, config) as running, running.client() as client:
        stream = client.chat.completions.create(**chat(), stream=True, extra_body=asked)
        assert [next(stream).choices[0].delta.content for _ in range(3)] == ["", "A ", "cat"]
        engine.go_on.set()
        assert list(stream)
    with gateway(HARMFUL, config) as running:
        assert str(HARMFUL["answer"]).encode() not in running.raw("POST", "/v1/chat/completions", chat(stream=True))


@pytest.mark.parametrize("more", [{"n": 2}, {"logprobs": True}])
def test_several_answers_and_tokens_come_when_they_are_whole(more: dict[str, Any]) -> None:
    with gateway(lambda _: SAID, OFF) as running:
        status, _, content = running.ask("POST", "/v1/chat/completions", chat(stream=True, **more))
    assert (status, content.endswith(b"data: [DONE]\n\n")) == ((200, True) if "n" in more else (400, False))


def test_a_model_that_fails_in_the_middle_ends_the_stream_with_its_error(tmp_path: Path) -> None:
    engine = Waits(EngineError("http://10.1.2.3 broke"))
    with audited(engine, tmp_path) as (running, path), running.client() as client:
        with client.chat.completions.create(**chat(), stream=True) as stream:
            assert [next(stream).choices[0].delta.content for _ in range(3)] == ["", "A ", "cat"]
            engine.go_on.set()
            with pytest.raises(openai.APIError) as caught:
                list(stream)
        assert caught.value.code == "upstream_error"
        assert "10.1.2.3" not in str(caught.value)
        raw = running.raw("POST", "/v1/chat/completions", chat(stream=True))
        assert b"[DONE]" not in raw
        assert not raw.endswith(b"0\r\n\r\n")  # broken off: nobody takes it for whole
    for row in rows(path):
        assert (row["status"], row["error"], row["released"]["text"]) == (502, "EngineError", "A cat")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(EngineError("x"), 502, "upstream_error"), (Overloaded("x"), 429, "overloaded"), (ContextTooLong(), 400, "context_length_exceeded")],
)
def test_what_fails_before_the_first_word_is_an_ordinary_error(error: Exception, status: int, code: str) -> None:
    with gateway({"answer": error}, OFF) as running:
        got, answer = running.post("/v1/chat/completions", chat(stream=True))
        assert (got, answer["error"]["code"]) == (status, code)
        got, answer = running.post("/v1/chat/completions", chat(turn(""), stream=True))
        assert (got, answer["error"]["code"]) == (400, "invalid_value")


def test_a_client_that_leaves_ends_the_call_and_what_it_got_is_on_record(tmp_path: Path) -> None:
    engine = Waits()
    with audited(engine, tmp_path) as (running, path), running.client() as client:
        with client.chat.completions.create(**chat(), stream=True) as stream:
            assert [next(stream).choices[0].delta.content for _ in range(3)] == ["", "A ", "cat"]
        until(lambda: engine.ended)
        until(lambda: running.service.admission.inside == 0)
        until(lambda: rows(path))
    (row,) = rows(path)
    assert (row["status"], row["released"]["text"]) == (499, "A cat")


def test_a_request_that_never_ends_is_ended() -> None:
    engine = Waits()
    with gateway(engine, Config(mode="off", seconds=0.3, self_test=False)) as running:
        assert b'"code":"timeout"' in running.raw("POST", "/v1/chat/completions", chat(stream=True))
        until(lambda: engine.ended)
