"""What those who run a gateway see: readiness, counters, judgements of answers from elsewhere, many requests at a time."""

import asyncio
import json
import re
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from llava.chat import Call, Reply
from llava.engines import ScriptedEngine
from llava.engines.scripted import Line
from llava.errors import EngineError, Overloaded, UserError
from llava.serve.gateway.metrics import Histogram, Metrics
from llava.serve.gateway.service import Config
from llava.serve.health import Health
from tests.serve.gateway.running import BENIGN, HARMFUL, chat, data_url, gateway, image_part, turn, until


def test_the_gateway_is_ready_after_a_self_test_and_asking_for_it_calls_no_model() -> None:
    with gateway(BENIGN, Config()) as running:
        until(lambda: running.ask("GET", "/ready")[0] == 200)
        assert isinstance(running.engine, ScriptedEngine)
        assert [call.step for call in running.engine.seen] == ["check"]
        running.ask("GET", "/health")
        running.ask("GET", "/ready")
        assert len(running.engine.seen) == 1


async def settled(health: Health) -> None:
    while not health.ready:  # noqa: ASYNC110 - nothing tells when it changes
        await asyncio.sleep(0)


def test_it_is_not_ready_while_its_model_fails_and_says_so_again_when_it_works() -> None:
    async def main() -> list[bool]:
        outcomes: list[Exception | None] = [EngineError("down"), RuntimeError("odd"), None, EngineError("down"), None]

        async def test() -> None:
            if error := outcomes.pop(0):
                raise error

        health, seen = Health(test, pause=0), []
        watching = asyncio.create_task(health.watch())
        seen.append(health.ready)
        await settled(health)
        health.failed(UserError("a bad request"))
        health.failed(Overloaded("full"))
        seen.append(health.ready)
        health.failed(EngineError("down"))
        seen.append(health.ready)
        await settled(health)
        watching.cancel()
        return [*seen, health.ready, not outcomes]

    assert asyncio.run(main()) == [False, True, False, True, True]


def test_a_failed_request_makes_the_gateway_not_ready() -> None:
    down: list[EngineError] = []
    with gateway(lambda call: down[0] if down else BENIGN[call.step], Config()) as running:
        until(lambda: running.service.health.ready)
        down.append(EngineError("down"))
        assert running.post("/v1/chat/completions", chat())[0] == 502
        assert running.ask("GET", "/ready")[0] == 503


def test_a_candidate_answer_is_judged_and_replaced_on_request() -> None:
    with gateway(HARMFUL) as running:
        body = {"messages": [turn()], "answer": "Join the rod."}
        status, judged = running.post("/v1/guard/check", body)
        assert (status, judged["harmful"], judged["verdict"], judged["safe_answer"]) == (200, True, "harmful", None)
        assert [step["step"] for step in judged["steps"]] == ["check"]
        _, judged = running.post("/v1/guard/check", body | {"safe_answer": True, "model": "tiny"})
        assert judged["safe_answer"] == {"content": HARMFUL["regenerate"], "refusal": None}
        assert isinstance(running.engine, ScriptedEngine)
        assert "answer" not in [call.step for call in running.engine.seen]
    with gateway(HARMFUL | {"recheck": "Yes"}) as running:
        _, judged = running.post("/v1/guard/check", body | {"safe_answer": True})
        assert judged["safe_answer"]["refusal"] == judged["safe_answer"]["content"] == Config().policy.refusal
    with gateway(BENIGN) as running:
        _, judged = running.post("/v1/guard/check", body | {"safe_answer": True})
        assert (judged["harmful"], judged["safe_answer"]) == (False, None)


def test_a_check_that_can_never_work_is_not_repeated_by_the_client() -> None:
    asked = []

    def script(call: Call) -> Line:
        asked.append(call.step)
        return UserError("no") if call.step == "check" else BENIGN[call.step]

    with gateway(script) as running, pytest.raises(openai.InternalServerError):
        running.client(retries=2).chat.completions.create(**chat())
    assert asked == ["answer", "check"]


def test_a_failure_is_one_line_of_the_log_whoever_wrote_its_sentence(caplog: pytest.LogCaptureFixture) -> None:
    with gateway({"answer": EngineError("down\nERROR all is lost\x1b[2J\u202e")}) as running:
        running.post("/v1/chat/completions", chat())
    (line,) = [record.getMessage() for record in caplog.records if "step answer failed" in record.getMessage()]
    assert line.endswith("step answer failed: down ERROR all is lost\ufffd[2J\ufffd")


def test_the_counters_add_up() -> None:
    def script(call: Call) -> Line:
        return Reply(str(HARMFUL[call.step]), prompt_tokens=10, completion_tokens=3)

    with gateway(script) as running:
        for _ in range(2):
            running.post("/v1/chat/completions", chat())
        running.ask("GET", "/nothing")
        running.ask("GET", "/v1/models/tiny")
        running.ask("BREW", "/metrics")
        text = running.metrics()
    for line in (
        'llava_guard_verdicts_total{verdict="regenerated",policy="guard",mode="guard"} 2',
        'vllm:prompt_tokens_total{model_name="tiny"} 100',
        'vllm:generation_tokens_total{model_name="tiny"} 30',
        'vllm:request_success_total{model_name="tiny",finished_reason="stop"} 2',
        'vllm:e2e_request_latency_seconds_count{model_name="tiny"} 2',
        'llava_guard_step_latency_seconds_count{step="recheck"} 2',
        "vllm:num_requests_running 0",
        'http_requests_total{handler="other",method="GET",status="404"} 1',
        'http_requests_total{handler="/metrics",method="other",status="405"} 1',
        'http_requests_total{handler="/v1/models/{name:path}",method="GET",status="200"} 1',
    ):
        assert line in text.splitlines(), line


def test_the_counters_text_is_what_prometheus_reads() -> None:
    metrics = Metrics()
    metrics.success.add(model_name='a"b\\c\nd', finished_reason="stop")
    metrics.scores.observe(0.3)
    for line in metrics.text().splitlines():
        assert re.fullmatch(r'# (HELP|TYPE) [\w:]+ .+|[\w:]+(\{(\w+="([^"\\\n]|\\.)*",?)*\})? [0-9.e+-]+', line), line


def test_a_count_is_told_to_its_last_digit_and_one_of_failures_from_the_start() -> None:
    metrics = Metrics()
    metrics.prompt_tokens.add(12_345_678, model_name="tiny")
    lines = metrics.text().splitlines()
    assert 'vllm:prompt_tokens_total{model_name="tiny"} 12345678' in lines
    assert {"llava_guard_audit_failures_total 0", 'llava_guard_unavailable_total{step="check"} 0'} <= set(lines)


def test_a_histogram_counts_a_value_in_every_bucket_that_holds_it() -> None:
    histogram = Histogram("x", "y", (1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.observe(value)
    assert list(histogram.lines()) == ['x_bucket{le="1"} 2', 'x_bucket{le="2"} 3', 'x_bucket{le="+Inf"} 4', "x_sum 12.000000", "x_count 4"]


def test_a_hundred_requests_at_a_time_never_get_one_anothers_answers() -> None:
    def script(call: Call) -> Line:
        if call.step == "check":
            return "No"
        (image,) = call.chat.images
        return f"{call.chat.question} {image.size[0]}"

    with gateway(ScriptedEngine(script, delay=0.001), Config(most_running=8, self_test=False)) as running, ThreadPoolExecutor(32) as pool:

        def ask(number: int) -> bool:
            content = [image_part(data_url(size=(number + 1, 9))), {"type": "text", "text": f"nonce {number}"}]
            status, _, said = running.ask("POST", "/v1/chat/completions", chat({"role": "user", "content": content}))
            return status == 200 and json.loads(said)["choices"][0]["message"]["content"] == f"nonce {number} {number + 1}"

        assert all(pool.map(ask, range(100)))
        assert running.service.admission.running == running.service.admission.waiting == 0
