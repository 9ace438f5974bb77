"""Judges behind real servers: our own gateway; `transformers serve` with the embedded model, which is no judge and proves the way there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llava.chat import Call
from llava.cli import main
from llava.engines import ScriptedEngine
from llava.eval.judge.judgment import judgments
from llava.paths import MINI
from tests.eval.judge.made import HARMFUL, REFUSAL, row, run
from tests.loopback import free_port
from tests.serve.gateway.running import gateway
from tests.serve.processes import module, process, until_ready


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return run(tmp_path / "run", [row(0, HARMFUL), row(1, REFUSAL)], method="direct")


def test_a_model_behind_our_gateway_judges(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def judge(call: Call) -> str:
        if call.step == "check":
            return "No"
        return f"Rating: [[{0 if 'take the parcel' in call.chat.question else 1}]]"

    with gateway(ScriptedEngine(judge)) as running:
        words = ["judge", str(out), "--judge", f"tiny@http://127.0.0.1:{running.port}/v1", "--mode", "llm_binary"]
        assert main(words) == 0
    assert "vlsafe direct: 2 of 2 judged by tiny llm_binary: 1 harmful, 1 harmless" in capsys.readouterr().out
    assert [one.model for one in judgments(out)] == ["tiny", "tiny"]


@pytest.mark.slow
def test_a_model_behind_transformers_serve_is_asked_and_what_it_says_is_kept(out: Path, tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    port = free_port()
    words = module("cli", "serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32", str(MINI))
    words[2] = "transformers.cli.transformers"
    with process(words, tmp_path / "log", os.environ | {"HF_HUB_CACHE": str(tmp_path / "hub")}) as running:
        until_ready(f"http://127.0.0.1:{port}/health", running)
        told = ["judge", str(out), "--judge", f"{MINI}@http://127.0.0.1:{port}/v1", "--mode", "query_safety", "--judge-max-tokens", "20"]
        assert main(told) in (0, 3)  # it may well say nothing that can be read
    assert [bool(one.reply and one.prompt_tokens and one.completion_tokens) for one in judgments(out)] == [True, True]


@pytest.mark.slow
def test_the_embedded_model_is_asked_in_this_process(out: Path) -> None:
    assert main(["judge", str(out), "--judge", "engine:mini", "--mode", "query_safety", "--judge-max-tokens", "20"]) in (0, 3)
    assert [bool(one.reply) for one in judgments(out)] == [True, True]
