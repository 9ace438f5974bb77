"""The gateway through the official openai client, over a real connection."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from llava.chat import Call, Reply
from llava.engines import ScriptedEngine
from llava.engines.scripted import Line
from llava.errors import ContextTooLong, EngineClosed, EngineError, EngineTimeout, Misconfigured, Overloaded, UnknownModel, UserError
from llava.serve.gateway.service import Config
from tests.serve.gateway.running import BENIGN, HARMFUL, Gateway, chat, gateway, image_part, inference_key, turn

REFUSAL = Config().policy.refusal


@pytest.fixture(scope="module")
def benign() -> Iterator[Gateway]:
    with gateway({step: Reply(str(line), 10, 2) for step, line in BENIGN.items()}) as running:
        yield running


def text_of(stream: Any) -> tuple[str, list[str], Any]:
    """What a client sees of a stream: text, finish reasons, usage."""
    text, reasons, usage = "", [], None
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reasons += [choice.finish_reason] if choice.finish_reason else []
    return text, reasons, usage


def test_a_harmless_draft_is_released(benign: Gateway) -> None:
    raw = benign.client().chat.completions.with_raw_response.create(**chat())
    answer = raw.parse()
    assert (answer.object, answer.model) == ("chat.completion", "tiny")
    assert answer.id.startswith("chatcmpl-")
    (choice,) = answer.choices
    assert (choice.message.content, choice.message.refusal, choice.finish_reason) == (BENIGN["answer"], None, "stop")
    assert raw.headers["x-llava-guard-verdict"] == "safe"
    assert "mode=guard; policy=guard" in raw.headers["x-llava-guard"]
    assert raw.headers["server-timing"].startswith("answer;dur=")
    assert "check;dur=" in raw.headers["server-timing"]
    assert answer._request_id


def test_a_stream_says_the_same(benign: Gateway) -> None:
    client = benign.client()
    with client.chat.completions.create(**chat(), stream=True, stream_options={"include_usage": True}) as stream:
        text, reasons, usage = text_of(stream)
    assert (text, reasons) == (BENIGN["answer"], ["stop"])
    assert usage is not None


def test_a_harmful_draft_is_answered_again_and_the_client_sees_an_ordinary_answer() -> None:
    with gateway(HARMFUL) as running:
        raw = running.client().chat.completions.with_raw_response.create(**chat())
    (choice,) = raw.parse().choices
    assert (choice.message.content, choice.finish_reason, choice.message.refusal) == ("I cannot help.", "stop", None)
    assert raw.headers["x-llava-guard-verdict"] == "regenerated"


@pytest.mark.parametrize("stream", [False, True])
def test_when_both_answers_are_harmful_the_fixed_refusal_is_given(stream: bool) -> None:
    with gateway(HARMFUL | {"recheck": "Yes"}) as running:
        client = running.client()
        if stream:
            with client.chat.completions.create(**chat(), stream=True) as chunks:
                refusals = []
                text = reason = ""
                for chunk in chunks:
                    text += chunk.choices[0].delta.content or ""
                    refusals += [chunk.choices[0].delta.refusal] if chunk.choices[0].delta.refusal else []
                    reason = chunk.choices[0].finish_reason or reason
            assert (text, refusals, reason) == (REFUSAL, [REFUSAL], "content_filter")
        else:
            raw = client.chat.completions.with_raw_response.create(**chat())
            (choice,) = raw.parse().choices
            assert (choice.message.content, choice.message.refusal, choice.finish_reason) == (REFUSAL, REFUSAL, "content_filter")
            assert raw.headers["x-llava-guard-verdict"] == "blocked"


def test_sampling_reaches_the_answers_and_never_the_check() -> None:
    with gateway(HARMFUL) as running:
        settings: dict[str, Any] = {"stop": ["END", "###"], "seed": 7, "max_tokens": 33, "temperature": 0.5, "top_p": 0.9}
        running.client().chat.completions.create(**chat(), **settings)
        engine = running.engine
    assert isinstance(engine, ScriptedEngine)
    for call in engine.seen:
        if call.step in ("answer", "regenerate"):
            assert (call.sampling.stop, call.sampling.seed, call.sampling.max_tokens) == (("END", "###"), 7, 33)
            assert (call.sampling.temperature, call.sampling.top_p) == (0.5, 0.9)
        else:
            assert (call.sampling.stop, call.sampling.temperature) == ((), 0.0)


def test_max_completion_tokens_is_the_newer_name_and_decides() -> None:
    with gateway(BENIGN) as running:
        running.client().chat.completions.create(**chat(), max_tokens=5, max_completion_tokens=9)
        engine = running.engine
    assert isinstance(engine, ScriptedEngine)
    assert engine.seen[0].sampling.max_tokens == 9


@pytest.mark.parametrize("stream", [False, True])
def test_each_of_n_answers_is_guarded_on_its_own(stream: bool) -> None:
    def script(call: Call) -> Line:
        if call.step == "answer":
            return f"draft {call.sampling.seed}"
        if call.step == "check":
            return "Yes" if "draft 6" in call.chat.question else "No"
        return HARMFUL[call.step]

    with gateway(script) as running:
        create = running.client().chat.completions.create
        texts: dict[int, str | None] = {}
        if stream:
            for chunk in create(**chat(), n=3, seed=5, stream=True):
                for choice in chunk.choices:
                    texts[choice.index] = (texts.get(choice.index) or "") + (choice.delta.content or "")
        else:
            texts = {choice.index: choice.message.content for choice in create(**chat(), n=3, seed=5).choices}
    assert texts == {0: "draft 5", 1: "I cannot help.", 2: "draft 7"}


@pytest.mark.parametrize("first", [2**63 - 2, -(2**63)])
def test_the_seeds_of_n_answers_stay_within_what_servers_take(first: int) -> None:
    with gateway(lambda call: f"{call.sampling.seed}" if call.step == "answer" else "No") as running:
        create = running.client().chat.completions.create
        told = [[choice.message.content for choice in create(**chat(), n=3, seed=first).choices] for _ in range(2)]
    seeds = [2**63 - 2, 2**63 - 1, -(2**63)] if first > 0 else [-(2**63), -(2**63) + 1, -(2**63) + 2]
    assert told == [[str(seed) for seed in seeds]] * 2


def test_several_turns_and_images_reach_the_model_in_order(benign: Gateway) -> None:
    history: list[dict[str, Any]] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": None, "refusal": "No.", "tool_calls": []},
        {"role": "user", "content": [image_part(), {"type": "text", "text": "one"}, image_part(), {"type": "text", "text": "two"}]},
    ]
    benign.client().chat.completions.create(**chat(*history))
    assert isinstance(benign.engine, ScriptedEngine)
    asked = [call for call in benign.engine.seen if call.step == "answer"][-1].chat
    assert [(m.role, m.text, len(m.images)) for m in asked.messages] == [
        ("system", "Be brief.", 0),
        ("user", "Hello", 0),
        ("assistant", "No.", 0),
        ("user", "one\ntwo", 2),
    ]


def test_an_answer_can_be_sent_back_as_history_just_as_the_client_dumps_it(benign: Gateway) -> None:
    client = benign.client()
    message = client.chat.completions.create(**chat()).choices[0].message
    again = client.chat.completions.create(**chat(turn(), message.model_dump(), turn("And now?", images=0)))
    assert again.choices[0].finish_reason == "stop"


def test_usage_is_the_sum_over_all_steps_and_the_guard_object_breaks_it_down() -> None:
    def script(call: Call) -> Line:
        return Reply(str(HARMFUL[call.step]), prompt_tokens=10, completion_tokens=3)

    with gateway(script) as running:
        answer = running.client().chat.completions.create(**chat(), extra_body={"guard": {"report": True}})
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (50, 15, 65)
    (choice,) = answer.model_extra["guard"]["choices"]
    assert [step["step"] for step in choice["steps"]] == ["answer", "check", "caption", "regenerate", "recheck"]
    assert {step["usage"]["total_tokens"] for step in choice["steps"]} == {13}
    assert choice["verdict"] == "regenerated"


def test_the_score_is_p_harmful_of_the_draft() -> None:
    no = Reply("No", first_logprobs={"No": -0.105, "Yes": -2.303})
    with gateway(BENIGN | {"check": no}) as running:
        raw = running.client().chat.completions.with_raw_response.create(**chat())
    assert float(raw.headers["x-llava-guard-score"]) == pytest.approx(0.1, abs=1e-3)


def test_an_answer_cut_off_by_its_token_limit_says_so() -> None:
    with gateway(BENIGN | {"answer": Reply("A cat on", finish_reason="length")}) as running:
        assert running.client().chat.completions.create(**chat()).choices[0].finish_reason == "length"


FAILURES: list[tuple[Exception, type[openai.APIStatusError], int, str]] = [
    (ContextTooLong(5000, 100, 4096), openai.BadRequestError, 400, "context_length_exceeded"),
    (UserError("The model at http://10.1.2.3 does not take images."), openai.BadRequestError, 400, "model_refused"),
    (Overloaded("no room"), openai.RateLimitError, 429, "overloaded"),
    (UnknownModel("No worker at controller 10.1.2.3 serves 'tiny'."), openai.InternalServerError, 503, "unavailable"),
    (Misconfigured("The server at http://10.1.2.3 does not accept the key."), openai.InternalServerError, 502, "upstream_misconfigured"),
    (EngineError("http://10.1.2.3 broke"), openai.InternalServerError, 502, "upstream_error"),
    (EngineTimeout("http://10.1.2.3 slept"), openai.InternalServerError, 504, "timeout"),
    (EngineClosed("closed"), openai.InternalServerError, 503, "shutting_down"),
    (ZeroDivisionError("http://10.1.2.3"), openai.InternalServerError, 500, "internal_error"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("error", "kind", "status", "code"), FAILURES, ids=lambda value: getattr(value, "__name__", None))
def test_a_failing_answer_raises_the_clients_proper_exception(
    error: Exception, kind: type[openai.APIStatusError], status: int, code: str, stream: bool
) -> None:
    with gateway({"answer": error}) as running, pytest.raises(kind) as caught:
        running.client().chat.completions.create(**chat(), stream=stream)
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert caught.value.request_id
    assert "10.1.2.3" not in str(caught.value)
    if status == 429:
        assert caught.value.response.headers["retry-after"] == "1"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("step", ["check", "caption", "regenerate", "recheck"])
@pytest.mark.parametrize("error", [row[0] for row in FAILURES], ids=lambda error: type(error).__name__)
def test_whatever_fails_after_the_draft_the_guard_is_unavailable(error: Exception, step: str, stream: bool) -> None:
    with gateway(HARMFUL | {step: error}) as running:
        with pytest.raises(openai.InternalServerError) as caught:
            running.client().chat.completions.create(**chat(), stream=stream)
        assert f'llava_guard_unavailable_total{{step="{step}"}} 1' in running.metrics()
    assert (caught.value.status_code, caught.value.code, caught.value.type) == (503, "guard_unavailable", "guard_unavailable")
    assert "x-llava-guard-verdict" not in caught.value.response.headers


def test_a_request_that_never_ends_is_ended_and_tells_which_deadline() -> None:
    for script, code in ((BENIGN, "timeout"),):
        with gateway(ScriptedEngine(script, delay=30), Config(seconds=0.1)) as running:
            with pytest.raises(openai.InternalServerError) as caught:
                running.client().chat.completions.create(**chat())
            assert (caught.value.status_code, caught.value.code) == (504, code)


def test_keys_are_asked_for_and_the_client_raises_its_authentication_error() -> None:
    with gateway(BENIGN, keys=inference_key("sk-right-key")) as running:
        with pytest.raises(openai.AuthenticationError):
            running.client("sk-wrong-key").chat.completions.create(**chat())
        assert running.client("sk-right-key").chat.completions.create(**chat()).choices
        with pytest.raises(openai.PermissionDeniedError):
            running.client("sk-right-key").get("/../metrics", cast_to=object)
        assert running.ask("GET", "/health")[0] == 200
        assert running.ask("GET", "/openapi.json")[0] == 401


def test_models_are_listed_and_another_name_is_not_found(benign: Gateway) -> None:
    client = benign.client()
    assert [model.id for model in client.models.list()] == ["tiny"]
    for name in ("other", "tiny:direct", "TINY"):
        with pytest.raises(openai.NotFoundError) as caught:
            client.chat.completions.create(**chat() | {"model": name})
        assert caught.value.code == "model_not_found"


def test_moderations_judge_a_text_as_an_answer() -> None:
    with gateway(lambda call: "Yes" if "bomb" in call.chat.question else "No") as running:
        client = running.client()
        result = client.moderations.create(input=["A cat.", "A bomb."], model="tiny", extra_body={"messages": [turn()]})
        assert [row.flagged for row in result.results] == [False, True]
        assert client.moderations.create(input="A cat.").results[0].flagged is False
        engine = running.engine
    assert isinstance(engine, ScriptedEngine)
    assert {call.step for call in engine.seen} == {"check"}
    assert engine.seen[0].chat.images


def test_version_schema_and_unknown_paths(benign: Gateway) -> None:
    assert json.loads(benign.ask("GET", "/version")[2])["version"]
    schema = json.loads(benign.ask("GET", "/openapi.json")[2])
    assert "ChatRequest" in schema["components"]["schemas"]
    assert "/v1/chat/completions" in schema["paths"]
    status, _, body = benign.ask("GET", "/v1/completions")
    assert (status, json.loads(body)["error"]["code"]) == (404, "not_found")
    assert benign.ask("GET", "/v1/chat/completions")[0] == 405
