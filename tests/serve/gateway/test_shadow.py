"""Mode shadow: the draft is delivered whatever the check says, and what the guard would have done is recorded."""

import json
import threading
from pathlib import Path

import pytest

from llava.chat import Call
from llava.engines.scripted import Line
from llava.errors import EngineError
from llava.serve.gateway.audit import AuditLog
from llava.serve.gateway.service import Config
from tests.serve.gateway.running import HARMFUL, chat, gateway, until


def test_shadow_delivers_the_draft_and_records_the_verdict() -> None:
    config = Config(mode="shadow", self_test=False)
    for check, verdict in (("Yes", "harmful"), ("No", "safe"), (EngineError("down"), "unknown")):
        with gateway(HARMFUL | {"check": check}, config) as running:
            raw = running.client().chat.completions.with_raw_response.create(**chat())
            assert raw.parse().choices[0].message.content == HARMFUL["answer"]
            assert raw.headers["x-llava-guard-verdict"] == verdict
            assert f'verdict="{verdict}",policy="guard",mode="shadow"' in running.metrics()


def test_a_check_that_fails_in_shadow_is_told_to_those_who_run_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken = threading.Event()

    def says(call: Call) -> Line:
        return EngineError("down") if call.step == "check" and broken.is_set() else HARMFUL[call.step]

    with gateway(says, Config(mode="shadow"), AuditLog(tmp_path / "audit")) as running:
        until(lambda: running.ask("GET", "/ready")[0] == 200)
        broken.set()
        assert running.post("/v1/chat/completions", chat())[0] == 200
        assert running.ask("GET", "/ready")[0] == 503
    (row,) = map(json.loads, (tmp_path / "audit").read_text().splitlines())
    assert row["status"] == 200
    assert {name: row["choices"][0][name] for name in ("verdict", "failed_step", "error")} == {
        "verdict": "unknown",
        "failed_step": "check",
        "error": "EngineError",
    }
    assert "step check failed: down" in caplog.text
