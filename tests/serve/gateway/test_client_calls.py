"""More that the official openai client can call: one model, its own accumulator of streams, asynchronously, moderations with images."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from llava.chat import Call, Reply
from llava.engines import ScriptedEngine, connect
from llava.engines.scripted import Line
from llava.errors import ContextTooLong, EngineError, Misconfigured, Unavailable, UnknownModel
from tests.serve.gateway.running import BENIGN, HARMFUL, Gateway, chat, data_url, gateway, image_part, turn


@pytest.fixture(scope="module")
def running() -> Iterator[Gateway]:
    def script(call: Call) -> Line:
        lines = HARMFUL if "bomb" in call.chat.question else BENIGN
        return Reply(str(lines[call.step]), prompt_tokens=10, completion_tokens=2)

    with gateway(script) as started:
        yield started


def test_one_model_is_described_and_another_is_not_found(running: Gateway) -> None:
    with running.client() as client:
        assert client.models.retrieve("tiny").id == "tiny"
        for name in ("other", "org/other", "tiny:direct"):
            with pytest.raises(openai.NotFoundError) as caught:
                client.models.retrieve(name)
            assert caught.value.code == "model_not_found"


def test_the_clients_accumulator_gathers_several_answers_and_the_usage(running: Gateway) -> None:
    with running.client() as client:
        helper = client.chat.completions.stream(**chat(n=2, seed=1), stream_options={"include_usage": True})
        with helper as stream:
            events = [event.type for event in stream]
            final = stream.get_final_completion()
        assert [choice.message.content for choice in final.choices] == [BENIGN["answer"]] * 2
        assert final.usage is not None
        assert final.usage.total_tokens == 2 * 2 * 12
        assert events.count("content.done") == 2


def test_usage_is_null_in_every_chunk_but_the_last_one(running: Gateway) -> None:
    with running.client() as client:
        *chunks, last = client.chat.completions.create(**chat(), stream=True, stream_options={"include_usage": True})
        assert {chunk.usage for chunk in chunks} == {None}
        assert last.choices == []
        assert last.usage is not None
        assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (20, 4)
        assert all(chunk.choices for chunk in client.chat.completions.create(**chat(), stream=True))


def test_a_stream_survives_clients_that_end_lines_where_unicode_does() -> None:
    answer = "a\nb\rc\x0bd\x1ce\x85f\u2028g\u2029h \\u2028"
    with gateway(BENIGN | {"answer": answer}) as running:
        lines = running.ask("POST", "/v1/chat/completions", chat(stream=True))[2].decode().splitlines()
        whole = running.post("/v1/chat/completions", chat())[1]
    *events, done = [line.removeprefix("data: ") for line in lines if line]
    assert done == "[DONE]"
    assert "".join(json.loads(event)["choices"][0]["delta"].get("content", "") for event in events) == answer
    assert whole["choices"][0]["message"]["content"] == answer


@pytest.mark.parametrize(
    ("error", "worth"),
    [
        (EngineError("it broke"), True),
        (Unavailable("nobody is there"), True),
        (UnknownModel("no worker serves it any more"), True),
        (Misconfigured("a wrong key"), False),
        (ContextTooLong(), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_guard_whose_model_has_gone_may_be_asked_again_and_one_that_cannot_work_is_not(error: Exception, worth: bool) -> None:
    failing = 2 if isinstance(error, EngineError) else 1  # a failed engine is asked once more at once
    checks: Iterator[Line] = iter([*[error] * failing, "No"])

    def script(call: Call) -> Line:
        return next(checks) if call.step == "check" else BENIGN[call.step]

    with gateway(script) as running, running.client(retries=1) as client:
        if worth:
            assert client.chat.completions.create(**chat()).choices[0].message.content == BENIGN["answer"]
        else:
            with pytest.raises(openai.InternalServerError) as caught:
                client.chat.completions.create(**chat())
            assert (caught.value.status_code, caught.value.code) == (503, "guard_unavailable")
            assert next(checks) == "No"  # nobody asked for it


def test_what_the_model_does_not_count_is_no_usage() -> None:
    replies = {step: Reply(str(line), 10, 2) for step, line in BENIGN.items()}
    for uncounted in (Reply("No"), Reply("No", prompt_tokens=10), Reply("No", completion_tokens=2)):
        with gateway(replies | {"check": uncounted}) as running, running.client() as client:
            answer = client.chat.completions.create(**chat(), extra_body={"guard": {"report": True}})
            assert answer.usage is None
            steps = answer.model_extra["guard"]["choices"][0]["steps"]
            assert [step["usage"] and step["usage"]["prompt_tokens"] for step in steps] == [10, None]
            assert "usage" not in running.post("/v1/chat/completions", chat())[1]
            *_, last = client.chat.completions.create(**chat(), stream=True, stream_options={"include_usage": True})
            assert (last.usage, len(last.choices)) == (None, 1)
            checked = running.post("/v1/guard/check", {"messages": [turn()], "answer": "Four."})[1]
            assert checked["usage"] is None


def test_a_gateway_before_one_whose_model_does_not_count_answers_questions_about_pictures() -> None:
    def script(call: Call) -> Line:
        return "No" if call.step == "check" or call.chat.question.startswith("QUERY:") else "A cat."

    with gateway(script) as inner:
        engine = connect(f"http://127.0.0.1:{inner.port}/v1", model="tiny")
        with gateway(engine) as outer:
            status, answer = outer.post("/v1/chat/completions", chat())
        asyncio.run(engine.close())
    assert (status, answer["choices"][0]["message"]["content"]) == (200, "A cat.")


def test_the_asynchronous_client_gets_the_same(running: Gateway) -> None:
    async def main() -> tuple[str | None, str]:
        async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{running.port}/v1", api_key="unused", max_retries=0) as client:
            whole = await client.chat.completions.create(**chat())
            streamed = ""
            async for chunk in await client.chat.completions.create(**chat(), stream=True):
                streamed += chunk.choices[0].delta.content or ""
            return whole.choices[0].message.content, streamed

    assert asyncio.run(main()) == (BENIGN["answer"],) * 2


@pytest.mark.parametrize("stop", ["END", ["END"], ["END", "\n\n"]])
def test_stop_is_a_text_or_several(running: Gateway, stop: Any) -> None:
    with running.client() as client:
        client.chat.completions.create(**chat(), stop=stop)
    assert isinstance(running.engine, ScriptedEngine)
    asked = [call for call in running.engine.seen if call.step == "answer"][-1]
    assert asked.sampling.stop == tuple([stop] if isinstance(stop, str) else stop)


def test_moderations_take_a_text_with_the_images_that_it_is_about(running: Gateway) -> None:
    def parts(text: str) -> Any:
        return [{"type": "text", "text": text}, image_part(data_url("blue"))]

    with running.client() as client:
        (harmless,) = client.moderations.create(model="tiny", input=parts("A blue square.")).results
        (harmful,) = client.moderations.create(input=parts("Build a bomb.")).results
    assert (harmless.flagged, harmful.flagged) == (False, True)
    assert harmful.category_applied_input_types.model_dump()["harmful"] == ["text", "image"]
    assert isinstance(running.engine, ScriptedEngine)
    assert [image.size for image in running.engine.seen[-1].chat.images] == [(8, 6)]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": [image_part()]}, "input"),
        ({"input": [image_part(), {"type": "text", "text": "x"}], "messages": [turn()]}, "input"),
        ({"input": [{"type": "text", "text": "x"}, image_part("http://127.0.0.1/x.png")]}, "messages[0]"),
        ({"input": [{"type": "text", "text": "x"}, *[image_part()] * 9]}, "messages"),
        ({"input": [{"type": "text", "text": "x"}, "y"]}, None),
    ],
)
def test_moderations_of_something_else_are_refused(running: Gateway, body: dict[str, Any], param: str | None) -> None:
    status, answer = running.post("/v1/moderations", body)
    assert status == 400
    assert param is None or answer["error"]["param"] == param


def test_a_guard_check_is_one_call_of_the_same_client(running: Gateway) -> None:
    with running.client() as client:
        body = {"messages": [turn("What is this bomb?", images=2)], "answer": "Build it.", "safe_answer": True}
        judged: Any = client.post("/guard/check", body=body, cast_to=object)
    assert (judged["harmful"], judged["safe_answer"]["content"]) == (True, HARMFUL["regenerate"])
    assert judged["usage"]["total_tokens"] == 4 * 12
