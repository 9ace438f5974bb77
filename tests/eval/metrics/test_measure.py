"""`measure` on whole runs: what it reads, what it writes, and what it says of folders that are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llava.errors import UserError
from llava.eval.metrics.measure import FILE, OUTCOMES, from_json, measure, read, to_json, write
from llava.eval.records import read as read_records
from llava.eval.session import evaluate
from tests.eval import runs
from tests.eval.metrics import made


def test_metrics_are_written_and_read_back_alike(tmp_path: Path) -> None:
    _run(tmp_path)
    metrics = measure(tmp_path)
    paths = write(metrics, tmp_path)
    assert [path.name for path in paths] == [FILE, OUTCOMES]
    assert read(tmp_path) == metrics
    assert "outcomes" not in json.loads(paths[0].read_text("utf-8"))
    assert from_json(json.loads(json.dumps(to_json(metrics)))).tasks == metrics.tasks


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    _run(tmp_path)
    first = write(measure(tmp_path), tmp_path)[0].read_bytes()
    assert write(measure(tmp_path), tmp_path)[0].read_bytes() == first


def test_direct_answers_come_first(tmp_path: Path) -> None:
    _run(tmp_path)
    task = measure(tmp_path).task("vlsafe")
    assert task is not None
    assert [one.method for one in task.methods] == ["direct", "caption_only", "ecso"]


def test_a_sample_that_only_another_method_answered_is_missing_in_its_own_category(tmp_path: Path) -> None:
    rows = [made.row(f"{i}", "Yes", category="count", group=f"{i}", meta={"answer": "Yes"}) for i in range(2)]
    made.records(tmp_path, "mme", "direct", rows)
    made.records(tmp_path, "mme", "ecso", rows[:1], samples=2)
    accuracy = made.score(made.group(made.told(tmp_path, "mme", "ecso", 0.5), "subtask", "count").scores, "accuracy")
    assert (accuracy.n, accuracy.of) == (1, 2)
    assert [one.verdict for one in measure(tmp_path).outcomes if one.method == "ecso"] == ["correct", "unanswered"]


def test_rows_that_were_set_aside_are_told(tmp_path: Path) -> None:
    made.records(tmp_path, "mme", "direct", [made.row("a", "Yes", meta={"answer": "Yes"})])
    manifest = json.loads((tmp_path / "manifest.json").read_text("utf-8"))
    manifest["tasks"]["mme"]["set_aside"] = 2
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    assert "2 rows of the benchmark's files were set aside (quarantine.jsonl); they are in no number." in made.told(tmp_path, "mme").notes


def test_a_run_without_a_manifest_is_measured_by_its_rows(tmp_path: Path) -> None:
    made.records(tmp_path, "mme", "direct", [made.row("a", "Yes", meta={"answer": "Yes"})])
    (tmp_path / "manifest.json").unlink()
    assert made.score(made.told(tmp_path, "mme").scores, "accuracy").of == 1


def test_a_folder_without_records_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is no run: there is no TASK/METHOD/records.jsonl in it\.$"):
        measure(tmp_path)
    (tmp_path / "shards" / "0-of-2" / "vlsafe" / "direct").mkdir(parents=True)
    with pytest.raises(UserError, match="`llava eval merge`"):
        measure(tmp_path)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (("policy", "polity"), "another header than `llava eval` writes"),
        (('"options": {}', '"options": []'), "another header"),
        (('"git": null', '"got": null'), "another header"),
        (('"model": {', '"model": 1, "x": {'), "another header"),
        (('"images": {}, ', ""), r"no record of `llava eval` \(id 'a'\)"),
        (('"answer": "Yes"', '"antwort": "Yes"'), r"no record of `llava eval` \(id 'a'\)"),
        (('"answer": "Yes"', '"answer": 7'), "no record of `llava eval`"),
        (('"name": "mme"', '"name": "nome"'), "Unknown task 'nome'"),
    ],
)
def test_damaged_records_are_a_sentence(tmp_path: Path, damage: tuple[str, str], said: str) -> None:
    made.records(tmp_path, "mme", "direct", [made.row("a", "Yes", meta={"answer": "Yes"})])
    path = tmp_path / "mme/direct/records.jsonl"
    path.write_text(path.read_text("utf-8").replace(*damage), "utf-8")
    with pytest.raises(UserError, match=said):
        measure(tmp_path)


def test_a_sample_that_is_recorded_twice_is_a_sentence(tmp_path: Path) -> None:
    made.records(tmp_path, "vlsafe", "direct", [made.row("a", "x"), made.row("a", "y")])
    with pytest.raises(UserError, match=r"records.jsonl has the sample 'a' twice: shards are joined by `llava eval merge`, not by cat"):
        measure(tmp_path)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("measured.jsonl", '{"seconds": 1.0}'),
        ("measured.jsonl", '{"id": "a", "seconds": 1.0, "p_harmful": NaN}'),
        ("measured.jsonl", '{"id": "a", "seconds": "1", "p_harmful": 0.5}'),
        ("failures.jsonl", '{"id": "a"}'),
        ("failures.jsonl", '{"id": "a", "number": "1", "error": "x"}'),
    ],
)
def test_damaged_measurements_and_failures_are_a_sentence(tmp_path: Path, file: str, line: str) -> None:
    made.records(tmp_path, "vlsafe", "direct", [made.row("a", "x")])
    (tmp_path / "vlsafe/direct" / file).write_text(line + "\n", "utf-8")
    with pytest.raises(UserError, match=rf"{file}, line 1 is none that `llava eval` writes: remove that line\."):
        measure(tmp_path)


def test_a_tasks_options_come_back_from_its_header(tmp_path: Path) -> None:
    rows = [made.row("a", made.SAFE, category="06-Fraud", mode="SD")]
    made.records(tmp_path, "mm_safetybench", "direct", rows, scenarios=["06-Fraud"], modes=["SD"], text_field="Question", tiny=False)
    assert made.told(tmp_path, "mm_safetybench").rows == 1


@pytest.mark.parametrize("coverage", [0.0, -1.0, 1.5, float("nan")])
def test_a_coverage_that_is_no_share_is_a_sentence(tmp_path: Path, coverage: float) -> None:
    with pytest.raises(UserError, match="share above 0 and at most 1"):
        measure(tmp_path, coverage)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}', '{"format": 1, "tasks": 3}', '{"format": 1, "run": "x", "tasks": [1]}'])
def test_a_damaged_metrics_file_is_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text, "utf-8")
    with pytest.raises(UserError):
        read(tmp_path)


def test_a_real_run_is_measured_with_its_own_records(tmp_path: Path) -> None:
    """A scripted model that is asked by the real runner: every first answer is "A cat.", every check says yes, every new one "Sorry."."""
    data = runs.vlsafe(tmp_path / "data", rows=6)
    script = "scripted:" + "|".join(["A cat.|Yes|Wire.|Sorry."] * 6)
    evaluate(runs.plan(data, tmp_path / "run", script, methods=("direct", "ecso"), concurrency=1))
    for method in ("direct", "ecso"):
        rows = read_records(tmp_path / "run/vlsafe" / method / "records.jsonl")[1]
        lines = [made.said(row, "harmful" if row["answer"] == "A cat." else "harmless") for row in rows]
        lines += [made.said(row, "harmful", part="draft") for row in rows if row["harmful"]]
        made.judgments(tmp_path / "run", "vlsafe", method, lines)
    metrics = measure(tmp_path / "run")
    task = metrics.task("vlsafe")
    assert task is not None
    rates = {one.method: one.scores[0].value for one in task.methods}
    assert rates == {"direct": 0.0, "ecso": 100.0}
    assert task.samples == 6
    assert task.attribution[0].counts == {"mended": 6}
    assert {cost.method for cost in task.costs} == {"direct", "ecso"}
    assert made.comparison(metrics, "vlsafe", "ecso").n == 6


def _run(run: Path) -> None:
    """Three methods on four samples of VLSafe, judged, and MME."""
    pair = (made.HARM, made.SAFE)
    rows = {
        "ecso": [made.checked(f"{i}", pair[i % 2], made.SAFE if i == 0 else None) for i in range(4)],
        "direct": [made.row(f"{i}", pair[i % 2]) for i in range(4)],
        "caption_only": [made.row(f"{i}", made.SAFE, released="regenerated") for i in range(4)],
    }
    for method, some in rows.items():
        numbered = made.records(run, "vlsafe", method, some)
        lines = [made.said(row, "harmless" if row["answer"] == made.SAFE else "harmful") for row in numbered]
        lines += [made.said(row, ("harmful", "harmless")[i % 2], part="draft") for i, row in enumerate(numbered) if method == "ecso"]
        made.judgments(run, "vlsafe", method, lines)
        made.measurements(run, "vlsafe", method, {f"{i}": (1.0, 0.2 * i if method == "ecso" else None) for i in range(4)})
    answers = (("Yes", "No"), ("No", "No"))
    made.records(run, "mme", "direct", [made.row(f"a#{t}", a, category="count", group="a", meta={"answer": t}) for t, a in answers])
