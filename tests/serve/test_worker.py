"""The model worker: LLaVA's stream for LLaVA's clients, our own for our engine, and places that come back whatever happens."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from llava.chat import Call, Chat, Delta, Image, Message, Reply
from llava.cluster.wire import prompt_of, request_of
from llava.conversation import conv_templates
from llava.engines import ScriptedEngine
from llava.errors import ContextTooLong, EngineError
from llava.serve.model_worker import Config, create_app, leave
from llava.serve.security import OPEN, Keys, Right
from llava.serve.worker import Bounds, Worker
from tests.factories import image, png_header
from tests.serve.asgi import ask, post
from tests.serve.cluster import VICUNA, events, prompt, until, worker

GOLDEN = json.loads((Path(__file__).parent.parent / "golden/wire/llava.json").read_text(encoding="utf-8"))["streams"]
CAT = base64.b64encode(image().png()).decode()


def fresh(engine: Any = None, **bounds: Any) -> Worker:
    return Worker(engine or ScriptedEngine(lambda _: "A cat."), ("tiny",), VICUNA, Bounds(**bounds))


def said(body: dict[str, Any], engine: Any = None, **bounds: Any) -> list[dict[str, Any]]:
    """What a worker answers to one request."""
    core = fresh(engine, **bounds)
    answer = post(create_app(core, Config()), "/worker_generate_stream", body)
    assert answer.status == 200
    assert core.status().queue_length == 0
    return events(answer.content)


def golden(tag: str) -> dict[str, Any]:
    (row,) = [row for row in GOLDEN if row["tag"] == tag]
    images = [CAT] * len(row["request"].get("images", []))
    return {**row, "request": {**row["request"], "images": images}}


@pytest.mark.parametrize("tag", ["image greedy 32", "text greedy", "text images=[]", "stop ###", "unicode"])
def test_an_original_request_gets_the_original_form(tag: str) -> None:
    row = golden(tag)
    asked = row["request"]["prompt"]
    text = row["last"]["text"].removeprefix(asked)
    engine = ScriptedEngine([text])
    core = fresh(engine)
    answer = post(create_app(core, Config()), "/worker_generate_stream", row["request"])
    assert answer.status == 200
    assert not {"content-type", "content-length"} & set(answer.headers)
    got = events(answer.content)
    assert answer.content.endswith(json.dumps(row["last"]).encode() + b"\0")
    assert {tuple(event) for event in got} == {tuple(row["last"])}
    assert all(event["text"].startswith(asked) and event["error_code"] == 0 for event in got)
    (call,) = engine.seen
    assert call.chat.question == asked.split("USER: ")[1].removesuffix(" ASSISTANT:").removeprefix("<image>\n")
    assert call.chat.images == ((image(),) if row["request"]["images"] else ())
    assert prompt_of(call.chat, VICUNA) == asked
    assert (call.sampling.temperature, call.sampling.max_tokens) == (0.0, 32)


@pytest.mark.parametrize("tag", ["2 images 1 token", "bad base64", "max_new_tokens 0"])
def test_what_the_original_failed_at_is_one_object_that_says_why(tag: str) -> None:
    row = golden(tag)
    if tag == "bad base64":
        row["request"]["images"] = ["not base64!!"]
    (event,) = said(row["request"])
    assert event["error_code"] == 1
    assert set(row["last"]) <= set(event)
    assert "HIGH TRAFFIC" not in event["text"]
    assert event["error"]["code"] in ("invalid_request", "invalid_image")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"prompt": None}, "invalid_request"),
        ({"prompt": prompt(" ")}, "invalid_request"),
        ({"images": "x"}, "invalid_image"),
        ({"images": [1]}, "invalid_image"),
        ({"images": [CAT]}, "invalid_request"),
        ({"images": [CAT] * 9}, "invalid_image"),
        ({"images": ["data:text/plain;base64,AAAA"]}, "invalid_image"),
        ({"images": ["http://127.0.0.1:9/x.png"]}, "invalid_image"),
        ({"images": ["/etc/passwd"]}, "invalid_image"),
        ({"temperature": "hot"}, "invalid_request"),
        ({"llava": []}, "invalid_request"),
        ({"llava": {}}, "invalid_request"),
    ],
    ids=range(12),
)
def test_a_bad_request_is_one_object_with_a_code(change: dict[str, Any], code: str) -> None:
    (event,) = said({"prompt": prompt("What?"), **change})
    assert (event["error_code"], event["error"]["code"]) == (1, code)


def test_images_have_a_common_limit_on_pixels() -> None:
    body = {"prompt": prompt("<image>\n<image>\nWhat?"), "images": [CAT, CAT]}
    assert said(body, pixels=2400)[-1]["error_code"] == 0
    assert said(body, pixels=2399)[-1]["error"]["code"] == "invalid_image"
    headers = [base64.b64encode(png_header(40, 30)).decode()] * 2
    for limit, why in ((2399, "All images together may have"), (2400, "damaged or cut off")):  # added up before any is decoded
        assert why in said(body | {"images": headers}, pixels=limit)[-1]["text"]


def test_the_models_errors_keep_their_numbers_and_defects_say_nothing(caplog: pytest.LogCaptureFixture) -> None:
    (event,) = said({"prompt": prompt("What?")}, ScriptedEngine([ContextTooLong(900, 10, 800)]))
    assert event["error"] == {"code": "context_length_exceeded", "prompt_tokens": 900, "max_tokens": 10, "context": 800}
    (event,) = said({"prompt": prompt("secret words")}, ScriptedEngine([ValueError("secret words")]))
    assert event["error"] == {"code": "internal_error"}
    assert "secret" not in json.dumps(event) + caplog.text
    assert "ValueError at" in caplog.text


def test_fastchats_echo_and_the_stream_interval_are_honoured() -> None:
    assert [event["text"] for event in said({"prompt": prompt("What?"), "echo": False})] == ["A ca", "A cat.", "A cat."]
    core = Worker(ScriptedEngine(["A black cat sits."]), ("tiny",), VICUNA, stream_interval=2)
    answer = post(create_app(core, Config()), "/worker_generate_stream", {"prompt": "x", "echo": False})
    assert [event["text"] for event in events(answer.content)] == ["A black ", "A black cat sits", "A black cat sits."]


def test_our_own_form_carries_the_chat_and_the_whole_reply() -> None:
    engine = ScriptedEngine([Reply("Yes", 5, 1, "length", {"Yes": -0.5})])
    asked = Call("check", chat("</s> USER: <image>"), top_logprobs=3)
    got = said(request_of(asked, "tiny", VICUNA), engine)
    assert engine.seen == [asked]
    assert "".join(event["delta"] for event in got) == "Yes"
    assert got[-1]["finish_reason"] == "length"
    assert got[-1]["usage"] == {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
    assert got[-1]["first_logprobs"] == {"Yes": -0.5}


def chat(text: str) -> Chat:
    return Chat.ask(text, [image()])


def test_an_engine_that_ends_without_a_reply_is_not_taken_for_one_that_answered() -> None:
    class Mute(ScriptedEngine):
        async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
            yield Delta("half")

    got = said(request_of(Call("answer", chat("q")), "tiny", VICUNA), Mute([]))
    assert got[-1]["error"]["code"] == "engine_failed"


def test_a_worker_with_a_secret_is_closed_but_for_two_routes() -> None:
    app = create_app(fresh(), Config(Keys([("cluster-secret", Right.ADMIN)])))
    for path in {str(getattr(route, "path", "")) for route in app.routes}:
        for method in ("GET", "POST", "PUT"):
            assert (ask(app, method, path).status == 401) is (path not in OPEN)
    assert post(app, "/worker_get_status", {}, [("authorization", "Bearer cluster-secret")]).content == (
        b'{"model_names":["tiny"],"speed":1,"queue_length":0}'
    )
    assert post(create_app(fresh(), Config()), "/worker_generate_stream", {}, peer="10.0.0.7").status == 403


def test_one_call_too_many_is_told_at_once_and_in_both_languages() -> None:
    async def main() -> None:
        engine = ScriptedEngine(lambda _: "word " * 50, delay=0.02)
        async with worker(engine, Bounds(running=1, waiting=1)) as (url, core), httpx2.AsyncClient() as client:
            asking = [asyncio.create_task(client.post(f"{url}/worker_generate_stream", json={"prompt": "x"})) for _ in range(2)]
            await until(lambda: core.status().queue_length == 2)
            answer = await client.post(f"{url}/worker_generate_stream", json={"prompt": "x"})
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
            (event,) = events(answer.content)
            assert (event["error_code"], event["error"]["code"]) == (1, "overloaded")
            assert len(engine.seen) == 1
            assert [events((await task).content)[-1]["text"][-5:] for task in asking] == ["word ", "word "]

    asyncio.run(main())


def test_who_waits_too_long_is_told() -> None:
    async def main() -> None:
        engine = ScriptedEngine(lambda _: "word " * 50, delay=0.02)
        async with worker(engine, Bounds(running=1, patience=0.05)) as (url, core), httpx2.AsyncClient() as client:
            first = asyncio.create_task(client.post(f"{url}/worker_generate_stream", json={"prompt": "x"}))
            await until(lambda: engine.seen)
            (event,) = events((await client.post(f"{url}/worker_generate_stream", json={"prompt": "x"})).content)
            assert event["error"]["code"] == "overloaded"
            first.cancel()
            await until(lambda: core.status().queue_length == 0)

    asyncio.run(main())


def test_clients_that_leave_at_any_moment_leave_no_place_taken() -> None:
    async def main() -> None:
        engine = ScriptedEngine(lambda _: "word " * 200, delay=0.01)
        async with worker(engine, Bounds(running=4, waiting=100)) as (url, core), httpx2.AsyncClient() as client:

            async def leaving(seconds: float) -> None:
                async with asyncio.timeout(seconds):
                    await client.post(f"{url}/worker_generate_stream", json={"prompt": "x"})

            results = await asyncio.gather(*(leaving(0.002 * i) for i in range(60)), return_exceptions=True)
            assert all(isinstance(result, TimeoutError) for result in results)
            await until(lambda: core.status().queue_length == 0, 2)
            assert core._admission.running == 0

    asyncio.run(main())


def test_a_stream_that_waits_for_its_model_shows_that_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llava.serve.worker.SIGN_OF_LIFE", 0.02)
    got = said({"prompt": prompt("What?")}, ScriptedEngine(["A cat."], delay=0.15))
    texts = [event["text"].removeprefix(prompt("What?")) for event in got]
    assert texts.count("") > 2
    assert texts.count("A ca") > 1
    assert texts[-1] == "A cat."


def test_a_worker_that_leaves_finishes_what_runs_and_takes_nothing_new() -> None:
    async def main() -> None:
        engine = ScriptedEngine(lambda _: "word " * 10, delay=0.01)
        async with worker(engine) as (url, core), httpx2.AsyncClient() as client:
            running = asyncio.create_task(client.post(f"{url}/worker_generate_stream", json={"prompt": "x"}))
            await until(lambda: engine.seen)
            await leave(core, None)
            refused = await client.post(f"{url}/worker_generate_stream", json={"prompt": "x"})
            assert (refused.status_code, events(refused.content)[0]["error"]["code"]) == (503, "unavailable")
            assert events((await running).content)[-1]["text"] == "x" + "word " * 10

    asyncio.run(main())


def test_a_reader_that_stops_reading_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llava.serve.app.STALL_SECONDS", 0.2)

    async def main() -> None:
        async with worker(ScriptedEngine(lambda _: "word " * 2000)) as (url, core):
            host, port = url.removeprefix("http://").split(":")
            reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
            body = json.dumps({"prompt": "x" * 200_000}).encode()
            head = (
                f"POST /worker_generate_stream HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
            )
            writer.write(head.encode() + b"\r\n\r\n" + body)
            await reader.readexactly(100)
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            await until(lambda: core.status().queue_length == 0, 3)
            writer.transport.abort()

    asyncio.run(main())


def test_an_engine_error_in_the_middle_is_the_last_object() -> None:
    class Breaks(ScriptedEngine):
        async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
            yield Delta("half")
            raise EngineError("The model failed.")

    first, last = said({"prompt": "x"}, Breaks([]))
    assert (first["text"], last["text"], last["error_code"]) == ("xhalf", "The model failed.", 1)


def test_an_answer_that_was_broken_off_never_looks_complete() -> None:
    for body in ({"prompt": "x"}, request_of(Call("answer", chat("q")), "tiny", VICUNA)):
        got = said(body, ScriptedEngine([Reply("half", finish_reason="cancelled")]))
        assert (got[-1]["error_code"], got[-1]["error"]["code"]) == (1, "engine_failed")


def test_texts_have_a_common_limit() -> None:
    mark = prompt("What?")
    assert said({"prompt": mark}, text=len(mark))[-1]["error_code"] == 0
    assert said({"prompt": mark}, text=len(mark) - 1)[-1]["error"]["code"] == "invalid_request"
    ours = request_of(
        Call("answer", Chat((Message("user", "a" * 40), Message("assistant", "b" * 40), Message("user", "c" * 40)))), "m", VICUNA
    )
    ours["prompt"] = ""
    assert said(ours, text=120)[-1]["error_code"] == 0
    assert said(ours, text=119)[-1]["error"]["code"] == "invalid_request"


@pytest.mark.parametrize("name", ["llava_v1", "chatml_direct", "llava_llama_2"])
def test_a_prompt_in_another_models_template_is_understood(name: str) -> None:
    engine = ScriptedEngine(["x"])
    turns = Chat((Message("user", "One?"), Message("assistant", "Two."), Message("user", "Three?", (image(),))))
    said({"prompt": prompt_of(turns, conv_templates[name]), "images": [CAT]}, engine)
    assert engine.seen[0].chat.messages[-3:] == turns.messages
    assert isinstance(engine.seen[0].chat.images[0], Image)
