"""llava compare: two methods of a run, two runs."""

import json
from pathlib import Path

import pytest

from llava.cli import main
from tests.eval.report import made


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return made.small(tmp_path / "run")


def test_two_methods_of_a_run_stand_side_by_side(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(run), "--a", "direct", "--b", "ecso", "--changed", "2"]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    row = next(line for line in lines if line.startswith("all ") and "keyword rule" in line and "+50.0" in line)
    assert "ECSO − Direct" in row
    assert "vlsafe: verdicts that changed" in lines
    assert any(line.startswith("vlsafe-1") and "mended" in line for line in lines)
    assert "4 more." in lines
    assert said.err == ""


def test_every_category_when_asked_for(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(run), "--by", "scenario"]) == 0
    assert made.SCENARIOS[3] in capsys.readouterr().out
    assert main(["compare", str(run), "--by", "scenery"]) == 2
    assert "Did you mean scenario?" in capsys.readouterr().err


def test_two_runs_and_what_is_not_the_same_in_them(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = made.small(tmp_path / "other")
    path = other / "vlsafe" / "ecso" / "records.jsonl"
    path.write_text(path.read_text("utf-8").replace("scripted:x", "scripted:y", 1), "utf-8")
    assert main(["compare", str(run), str(other)]) == 0
    said = capsys.readouterr()
    assert "0.0" in said.out
    assert said.err.startswith("not the same: model of vlsafe is ")
    assert "scripted:y" in said.err


def test_a_difference_that_stands_late_in_a_long_policy_is_told_and_only_that(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = made.small(tmp_path / "other")
    for folder, threshold in ((run, "0.5"), (other, "0.2")):
        path = folder / "vlsafe" / "ecso" / "records.jsonl"
        policy = f'"policy": {{"answer": {{"stop": ["{"x" * 200}"]}}, "threshold": {threshold}}}'
        path.write_text(path.read_text("utf-8").replace('"policy": {"threshold": null}', policy, 1), "utf-8")
    assert main(["compare", str(run), str(other)]) == 0
    told = capsys.readouterr().err
    assert told == (f'not the same: policy of vlsafe is {{"threshold": 0.5}} in {run} (ecso) and {{"threshold": 0.2}} in {other} (ecso).\n')


def test_the_same_judge_elsewhere_is_told(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = made.small(tmp_path / "other")
    for folder, place in ((run, "http://a/v1"), (other, "http://b/v1")):
        path = folder / "vlsafe" / "ecso" / "judgments.jsonl"
        path.write_text(path.read_text("utf-8").replace('"endpoint": ""', f'"endpoint": "{place}"'), "utf-8")
    assert main(["compare", str(run), str(other)]) == 0
    assert "not the same: the judge keyword of vlsafe is http://a/v1 in" in capsys.readouterr().err


def test_json_for_machines(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(run), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["comparisons"]["vlsafe"][0]["only_b"] == 3
    assert {one["id"] for one in told["changed"]["vlsafe"]} == {"vlsafe-1", "vlsafe-2", "vlsafe-5"}
    assert told["not_the_same"] == {}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--a", "ecso", "--b", "ecso"], "name two methods"),
        (["--b", "esco"], "esco"),
        (["x", "y"], "one run or two"),
        (["--changed", "-1"], "at least 0"),
        (["missing"], "missing"),
    ],
)
def test_mistakes_are_one_sentence(run: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(run), *words]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err
    assert told.err.count("\n") == 1
