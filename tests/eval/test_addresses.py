"""The original's Python programs under their old names."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llava.eval import addresses
from llava.eval.records import read
from llava.eval.session import evaluate
from llava.eval.tasks import task
from tests.eval.oracle import Server, said
from tests.eval.runs import ROOT, plan
from tests.eval.tasks import layouts

CHAINS = {
    "vlsafe": ("model_vlsafe", "model_vlsafe_tell_ask", "vlsafe/harmlessness_examine.jsonl", "coco/images/train2017"),
    "mm_safetybench": (
        "model_mmsafe",
        "model_mmsafe_tell_ask",
        "mm_safetybench/processed_questions/05-EconomicHarm.json",
        "mm_safetybench/imgs/05-EconomicHarm",
    ),
    "mme": ("model_vqa_loader", "model_vqa_ask_unsafe", "mme/llava_mme.jsonl", "mme/MME_Benchmark_release_version"),
    "mm_vet": ("model_vqa_loader", "model_vqa_ask_unsafe", "mm-vet/llava-mm-vet.jsonl", "mm-vet/images"),
    "mmbench": ("model_vqa_mmbench", "model_mmbench_ask_unsafe", "mmbench/mmbench_dev_20230712.tsv", ""),
}
OPTIONS: dict[str, dict[str, str]] = {"mm_safetybench": {"modes": "SD", "scenarios": "05-EconomicHarm"}}


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_text("utf-8").splitlines()]


def call(monkeypatch: pytest.MonkeyPatch, name: str, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
    return addresses.main(name)


@pytest.mark.parametrize("name", CHAINS)
def test_the_two_programs_of_a_benchmark_give_what_llava_eval_gives(
    name: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct, again, questions, images = CHAINS[name]
    data, answers = tmp_path / "data", tmp_path / "answers"
    getattr(layouts, name)(data)
    monkeypatch.setattr(addresses, "TABLE", str(data / questions))
    common = ["--model-path", server.url, "--image-folder", data / images, "--temperature", 0, "--max_new_tokens", 1024]
    common += ["--mode", "SD"] if name == "mm_safetybench" else []
    for chunk in (0, 1):
        chunks = ["--num-chunks", 2, "--chunk-idx", chunk, "--answers-file", answers / f"2_{chunk}.jsonl"]
        assert call(monkeypatch, direct, *common, *chunks, "--question-file", data / questions) == 0
    merged = answers / "merge.jsonl"
    merged.write_bytes((answers / "2_0.jsonl").read_bytes() + (answers / "2_1.jsonl").read_bytes())
    ecso = answers / "tell_ask" / "merge.jsonl"
    assert call(monkeypatch, again, *common, "--answers-file", ecso, "--question-file", merged) == 0

    tasks = (task(name, **OPTIONS.get(name, {})),)
    whole = plan(data, tmp_path / "run", server.url, tasks=tasks, originals=tmp_path / "ours", max_tokens=1024)
    assert evaluate(whole).whole
    ours = {path.parent.name: rows(path) for path in (tmp_path / "ours").rglob("merge.jsonl")}
    ours_ecso = ours.get("tell_ask") or ours["tell_ask_safe"]

    def plain(row: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in row.items() if key not in ("answer_id", "model_id", "image")}

    assert [plain(row) for row in rows(merged)] == [plain(row) for row in ours["q"]]
    assert {key for row in rows(ecso) for key in row} >= {"text", "caption", "unsafe_answer"}
    if name != "mmbench":  # there, a second program sees the stored prompt, without the line that asks for a letter
        assert [plain(row) for row in rows(ecso)] == [plain(row) for row in ours_ecso]


def test_a_program_has_the_originals_defaults_and_goes_on_where_it_was(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layouts.vlsafe(tmp_path)
    words = ["--model-path", server.url, "--question-file", tmp_path / "vlsafe/harmlessness_examine.jsonl"]
    words += ["--image-folder", tmp_path / "coco/images/train2017", "--answers-file", tmp_path / "a.jsonl"]
    assert call(monkeypatch, "model_vlsafe", *words) == 0
    header, found = read(tmp_path / "a.jsonl.run/vlsafe/direct/records.jsonl")
    sampling = found[0]["steps"][0]["sampling"]
    assert (sampling["temperature"], sampling["max_tokens"], header["method"]["preset"]) == (0.2, 2048, "paper")
    assert [row["text"] for row in rows(tmp_path / "a.jsonl")] == [said(row["query"], 1) for row in rows(tmp_path / "a.jsonl")]
    asked = len(server.asked)
    assert call(monkeypatch, "model_vlsafe", *words) == 0
    assert len(server.asked) == asked
    capsys.readouterr()
    for wrong, sentence in (
        (["--num_beams", 2], "Beam search"),
        (["--model-base", "x"], "merge the model"),
        (["--chunk-idx", 1], "give 0 to"),
    ):
        assert call(monkeypatch, "model_vlsafe", *words, *wrong) == 2
        assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("name", ["vlsafe", "mmbench"])
def test_chunks_beyond_the_rows_are_empty_files_for_cat(name: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, _, questions, images = CHAINS[name]
    getattr(layouts, name)(tmp_path)
    words = ["--model-path", server.url, "--question-file", tmp_path / questions, "--image-folder", tmp_path / images, "--temperature", 0]
    files = [tmp_path / f"9_{chunk}.jsonl" for chunk in range(9)]
    for chunk, file in enumerate(files):
        assert call(monkeypatch, program, *words, "--num-chunks", 9, "--chunk-idx", chunk, "--answers-file", file) == 0
    counts = [len(rows(file)) for file in files]
    assert (sum(counts), counts[-1]) == ({"vlsafe": 4, "mmbench": 6}[name], 0)
    (tmp_path / questions).write_text("" if name == "vlsafe" else "\t".join(layouts.MMBENCH_HEADER) + "\n")
    assert call(monkeypatch, program, *words, "--answers-file", tmp_path / "none.jsonl") == 2


def test_each_chunk_defends_the_answers_of_its_own_rows(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layouts.file(tmp_path / "x.png")
    same = {"image_id": "x.png", "query": "What?", "model_id": "m"}
    layouts.json_lines(tmp_path / "q.jsonl", [same | {"text": text} for text in ("one", "two", "", "four")])
    words = ["--model-path", server.url, "--question-file", tmp_path / "q.jsonl", "--image-folder", tmp_path, "--temperature", 0]
    for chunk in (0, 1):
        file = tmp_path / f"2_{chunk}.jsonl"
        assert call(monkeypatch, "model_vlsafe_tell_ask", *words, "--num-chunks", 2, "--chunk-idx", chunk, "--answers-file", file) == 0
    found = [row.get("unsafe_answer", row["text"]) for chunk in (0, 1) for row in rows(tmp_path / f"2_{chunk}.jsonl")]
    assert found == ["one", "two", "", "four"]


def test_rows_without_what_their_answers_need_are_set_aside_and_not_asked(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layouts.file(tmp_path / "x.png")
    good: dict[str, Any] = {"image": "x.png", "text": "What?", "prompt": "What?", "question_id": 7}
    words = ["--model-path", server.url, "--image-folder", tmp_path, "--question-file", tmp_path / "q.jsonl", "--temperature", 0]
    for name, without in (("model_vqa_loader", "question_id"), ("model_vqa_ask_unsafe", "text")):
        layouts.json_lines(tmp_path / "q.jsonl", [good, {key: value for key, value in good.items() if key != without}])
        assert call(monkeypatch, name, *words, "--answers-file", tmp_path / f"{name}.jsonl") == 3
        assert f"q.jsonl, line 2: '{without}'" in capsys.readouterr().err
        assert [row["question_id"] for row in rows(tmp_path / f"{name}.jsonl")] == [7]


@pytest.mark.parametrize("name", addresses.SCRIPTS)
def test_every_address_is_a_short_module(name: str) -> None:
    text = (ROOT / "llava/eval" / f"{name}.py").read_text()
    assert len(text.splitlines()) <= 12
    assert f'main("{name}")' in text


def test_a_server_whose_address_cannot_be_read_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "model_vlsafe", "--model-path", "http://[::1/v1") == 2
    assert "address cannot be read" in capsys.readouterr().err


def test_an_address_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "llava.eval.model_vqa_loader", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "--answers-file" in done.stdout
