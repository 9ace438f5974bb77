"""`llava judge` as people run it, before a judge whose verdicts are known."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from llava.cli import main
from llava.eval.judge.hostile import CASES
from llava.eval.judge.judgment import judgments
from tests.eval.judge.known import counted, prompt_of, right
from tests.eval.judge.made import REFUSAL, row, run
from tests.eval.judge.server import Answer, judge_server, said
from tests.eval.judge.test_modes import FILE, judge_file

SENTINEL = "sk-sentinel-4711"


def test_without_a_judge_the_rule_judges_and_says_so(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judge", str(out)]) == 0
    assert counted(capsys.readouterr().out) == [
        "vlsafe direct: 6 of 6 judged by keyword (a rule about words, no judge): 4 harmful, 2 harmless",
        "vlsafe ecso: 6 of 6 judged by keyword (a rule about words, no judge): 2 harmful, 4 harmless",
        "vlsafe ecso (drafts): 6 of 6 judged by keyword (a rule about words, no judge): 4 harmful, 2 harmless",
    ]
    assert main(["judge", str(out)]) == 0
    assert len(judgments(out)) == 18
    assert len((out / "vlsafe" / "direct" / "judgments.jsonl").read_bytes().splitlines()) == 7  # nothing twice


def test_a_judge_at_an_address_is_asked_once_for_each_text(
    out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAVA_JUDGE_KEY", SENTINEL)
    with judge_server(right) as server:
        words = ["judge", str(out), "--judge", "known", "--judge-base-url", server.url, "--price", "2,8"]
        assert main(words) == 0
        told = capsys.readouterr()
        assert counted(told.out) == [
            "vlsafe direct: 6 of 6 judged by known llm_binary_strict: 4 harmful, 2 harmless",
            "vlsafe ecso: 6 of 6 judged by known llm_binary_strict: 2 harmful, 4 harmless",
            "vlsafe ecso (drafts): 6 of 6 judged by known llm_binary_strict: 4 harmful, 2 harmless",
        ]
        assert len(server.calls) == 9  # six answers and three that ECSO gave anew; its first answers were judged already
        assert set(server.keys) == {f"Bearer {SENTINEL}"}
        assert "known: 9 calls, about" in told.err
        assert f"known: 9 calls, 9 texts known already, ${9 * (100 * 2 + 10 * 8) / 1e6:.4f}" in told.err
        assert main(words) == 0
        assert main([*words, "--again", "all"]) == 0
        assert len(server.calls) == 18
    found = judgments(out)
    assert {(one.judge, one.mode, one.model, one.calls) for one in found} == {
        ("known", "llm_binary_strict", "judge-2026", 1),
        ("known", "llm_binary_strict", "judge-2026", 0),
    }
    assert all(re.fullmatch("[0-9a-f]{64}", one.prompt_sha256) and one.reply for one in found)
    kept = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file()) + b"".join(
        path.read_bytes() for path in (out.parent / "cache").rglob("*") if path.is_file()
    )
    assert SENTINEL.encode() not in kept


def test_a_panel_shows_its_agreement(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def guard(number: int, body: dict[str, Any]) -> Answer:
        assert [message["role"] for message in body["messages"]] == ["user", "assistant"]
        return said("unsafe\nS2" if "take the parcel" in prompt_of(body) else "safe")

    with judge_server(right) as known, judge_server(guard) as server:
        words = ["judge", str(out), "--judge", f"known@{known.url}", "--judge", f"guard:lg@{server.url}", "--judge", "keyword"]
        assert main(words) == 0
    told = capsys.readouterr().out
    assert "vlsafe ecso: 6 of 6 judged by lg guard: 2 harmful, 4 harmless" in told
    assert "agreement of keyword + known/llm_binary_strict + lg: Krippendorff's alpha 1.000 over 9 texts" in told
    assert {one.categories for one in judgments(out) if one.judge == "lg" and one.verdict == "harmful"} == {("S2",)}
    assert main([*words, "--judge", "keyword"]) == 2
    assert "Name each judge only once" in capsys.readouterr().err


def test_an_engine_may_judge(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["judge", str(out), "--judge", "engine:scripted:safe|unsafe|hm|safe|safe|safe", "--mode", "query_safety", "--methods", "direct"]
    assert main([*words, "--concurrency", "1"]) == 3
    assert (
        "vlsafe direct: 5 of 6 judged by scripted:safe|unsafe|hm|safe|safe|safe query: 1 harmful, 4 harmless, 1 unparsed"
        in capsys.readouterr().out
    )
    words = ["judge", str(out), "--judge", "engine:scripted:[[1]]", "--methods", "direct", "--limit", "1", "--max-cost", "0"]
    assert main(words) == 0  # an engine here is free


def test_prompts_may_come_from_the_original_s_file(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with judge_server(said("safe")) as server:
        path = judge_file(tmp_path, *FILE)
        words = ["judge", str(out), "--judge", f"known@{server.url}", "--mode", "query_safety", "--methods", "direct"]
        assert main([*words, "--judge-file", str(path)]) == 0
        assert all(prompt_of(call).startswith("Example 1:\nAnswer: x\n Your output: safe\nAnswer: ") for call in server.calls)
        assert re.search(r"judged by known query@vlsafe_judge-[0-9a-f]{8}: 6 harmless", capsys.readouterr().out)
        assert main(words) == 0  # in our words: other calls, another column
        assert "judged by known query: 6 harmless" in capsys.readouterr().out
        assert (len(server.calls), len(judgments(out))) == (12, 12)
    assert main(["judge", str(out), "--judge-file", str(tmp_path / "none")]) == 2
    capsys.readouterr()


def test_the_original_s_files_are_written_beside_the_answers(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with judge_server(right) as server:
        words = ["judge", str(out), "--judge", f"gpt-4-test@{server.url}", "--original", str(tmp_path / "data")]
        assert main(words) == 0
    folder = tmp_path / "data/vlsafe/VLSafe_harmlessness_examine/output/tiny/image/tell_ask/llava_judge/gpt4_evaluation"
    assert f"written: {folder / 'llm_binary_strict.jsonl'}" in capsys.readouterr().out
    assert json.loads((folder / "llm_binary_strict_overall.jsonl").read_text()) == {"average_score": 4 / 6, "judged": 6, "of": 6}
    rows = json.loads((folder / "llm_binary_strict.jsonl").read_text())
    assert [list(one) for one in rows] == [
        ["image_id", "instruction", "model", "judge", "user_prompt", "judgment", "score", "tstamp"] for _ in range(6)
    ]
    assert [one["score"] for one in rows] == [1, 1, 0, 0, 1, 1]
    assert (rows[0]["image_id"], rows[0]["instruction"], rows[0]["model"]) == ("red.png", "Question 0?", "tiny")
    assert rows[0]["judge"] == ["gpt-4-test", "llm_binary_strict"]
    assert REFUSAL in rows[0]["user_prompt"]
    assert (tmp_path / "data/vlsafe/VLSafe_harmlessness_examine/output/tiny/image/q/llava_judge/gpt4_evaluation").is_dir()


def test_the_self_test_finds_a_judge_out(capsys: pytest.CaptureFixture[str]) -> None:
    answers = {case.answer: case.right for case in CASES}

    def able(number: int, body: dict[str, Any]) -> Answer:
        return said(f"Rating: [[{1 if answers[prompt_of(body)] == 'harmless' else 0}]]")

    def gullible(number: int, body: dict[str, Any]) -> Answer:
        return said("unsafe" if "warning" in prompt_of(body) else "safe")

    with judge_server(gullible) as server:
        assert main(["judge", "--selftest", "--judge", f"guard:g@{server.url}"]) == 0
        told = capsys.readouterr().out
        mild = sum(case.right == "harmful" for case in CASES)
        assert re.search(rf"^  all +{len(CASES) - mild} of {len(CASES)}   {mild} too mild$", told, re.M)
        assert len(server.calls) == len(CASES) - 2  # nobody is asked about nothing
    assert main(["judge", "--selftest"]) == 0
    assert capsys.readouterr().out.startswith("keyword (a rule about words, no judge):\n  plain  ")
    assert main(["judge", "--selftest", "--judge", "engine:scripted:x", "--mode", "llm_score"]) == 2
    for words in (["--estimate"], ["--max-cost", "1"]):
        assert main(["judge", "--selftest", "--judge", "known@http://localhost:9/v1", *words]) == 2  # and nobody was asked
    assert "does not tell harmless from harmful" in capsys.readouterr().err


MISTAKES = {
    "no run": ([], "Say which run to judge"),
    "a run that there is not": (["nowhere"], "There is no run nowhere: make it first"),
    "an unknown mode": (["RUN", "--judge", "engine:scripted:x", "--mode", "llm_skore"], "Did you mean llm_score"),
    "an unknown task": (["RUN", "--tasks", "mme"], "no task 'mme'"),
    "an unknown part": (["RUN", "--parts", "answers"], "Did you mean answer"),
    "no number of calls": (["RUN", "--concurrency", "0"], "--concurrency is 0"),
    "a limit of nothing": (["RUN", "--limit", "0"], "--limit is 0"),
    "a price that is none": (["RUN", "--price", "cheap"], "--price is 'cheap'"),
    "a negative limit": (["RUN", "--max-cost", "-1"], "--max-cost is -1"),
    "a temperature": (["RUN", "--judge-temperature", "3"], "--judge-temperature is 3"),
    "a key file that there is not": (["RUN", "--judge", "x", "--judge-key-file", "nowhere"], "The key file nowhere cannot be read"),
    "more key files than judges": (["RUN", "--judge-key-file", "a", "--judge-key-file", "b"], "There are 2 key files and 0 judges"),
    "an address that is none": (["RUN", "--judge", "x", "--judge-base-url", "host:80"], "The server's address is not a URL"),
    "a guard that is an engine": (["RUN", "--judge", "engine:scripted:x", "--mode", "guard"], "it needs a server"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence(mistake: str, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, sentence = MISTAKES[mistake]
    assert main(["judge", *(str(out) if word == "RUN" else word for word in words)]) == 2
    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1


def test_a_run_of_which_nothing_needs_a_judge_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run(tmp_path / "run", [row(0, "Yes", meta={"answer": "Yes"})], "mme")
    assert main(["judge", str(folder)]) == 2
    assert "There is nothing to judge" in capsys.readouterr().err
