"""The command: what it writes, what it prints, and how it ends."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from llava.cli import main
from llava.eval.metrics.measure import read
from llava.eval.report.__main__ import written
from tests.eval.metrics.made import HARM, failures, records, row
from tests.eval.report import made

FILES = ["metrics.json", "outcomes.jsonl", "report.html", "report.md", "samples.parquet"]


def test_one_command_makes_everything_in_the_runs_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = made.small(tmp_path / "run")
    assert main(["report", str(run), "--no-pictures"]) == 0
    assert sorted(path.name for path in run.iterdir() if path.is_file() and path.name != "manifest.json") == FILES
    said = capsys.readouterr()
    assert "vlsafe: harmless answers, %" not in said.out
    assert "vlsafe: harmless answers" in said.out
    assert "note: Scores marked" in said.err


def test_nothing_is_written_before_all_of_it_is_made(tmp_path: Path) -> None:
    found = made.material(made.small(tmp_path / "run"))
    broken = replace(found, metrics=replace(found.metrics, coverage_needed=float("nan")))  # no JSON holds it
    with pytest.raises(ValueError, match="not JSON compliant"):
        written(broken, tmp_path / "site", with_parquet=True, with_inspect=True)
    assert not (tmp_path / "site").exists()


def test_it_goes_elsewhere_when_told_and_the_run_stays_as_it_was(tmp_path: Path) -> None:
    run = made.small(tmp_path / "run")
    before = sorted(run.rglob("*"))
    assert main(["report", str(run), "--out", str(tmp_path / "site"), "--no-pictures", "--no-parquet"]) == 0
    assert sorted(run.rglob("*")) == before
    assert sorted(path.name for path in (tmp_path / "site").iterdir()) == [name for name in FILES if name != "samples.parquet"]
    assert read(tmp_path / "site").run == "run"


@pytest.mark.parametrize("name", ["missing", "empty", "file"])
def test_a_folder_that_is_no_run_is_one_sentence(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    assert main(["report", str(tmp_path / name)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty", "file"]


@pytest.mark.parametrize("share", ["0", "1.5", "-1"])
def test_a_coverage_that_is_no_share_is_one_sentence(share: str, tmp_path: Path) -> None:
    assert main(["report", str(made.small(tmp_path)), "--coverage", share]) == 2


def test_a_damaged_file_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = made.small(tmp_path / "run")
    (run / "vlsafe" / "ecso" / "judgments.jsonl").write_text('{"llava_judgments": 7}\n')
    assert main(["report", str(run)]) == 2
    assert "format" in capsys.readouterr().err
    assert not (run / "report.html").exists()


def test_a_place_that_takes_no_files_leaves_nothing_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = made.small(tmp_path / "run")
    (tmp_path / "taken").write_text("")
    assert main(["report", str(run), "--out", str(tmp_path / "taken"), "--no-pictures"]) == 2
    assert "is a file: name a folder" in capsys.readouterr().err
    assert (tmp_path / "taken").read_text() == ""


def test_a_report_made_again_is_the_same_to_the_byte(tmp_path: Path) -> None:
    run = made.small(tmp_path / "run")
    names = [name for name in FILES if name != "samples.parquet"]
    sights = []
    for _ in range(2):
        assert main(["report", str(run), "--no-pictures", "--inspect"]) == 0
        sights.append({path.name: path.read_bytes() for path in [*(run / name for name in names), *(run / "inspect").iterdir()]})
    assert sights[0] == sights[1]
    assert len(sights[0]) == len(names) + 4


def test_parquet_holds_a_row_for_every_sample_method_and_judge(tmp_path: Path) -> None:
    from pyarrow.parquet import read_table

    run = made.small(tmp_path / "run")
    assert main(["report", str(run), "--no-pictures"]) == 0
    rows = read_table(run / "samples.parquet").to_pylist()
    outcomes = [json.loads(line) for line in (run / "outcomes.jsonl").read_text("utf-8").splitlines()]
    assert [(r["task"], r["method"], r["id"], r["judge"], r["verdict"], r["value"]) for r in rows] == [
        (o["task"], o["method"], o["id"], o["judge"], o["verdict"], o["value"]) for o in outcomes
    ]
    [one] = [r for r in rows if (r["id"], r["method"], r["judge"]) == ("vlsafe-1", "ecso", "keyword")]
    assert (one["flagged"], one["released"], one["calls"], one["prompt_tokens"]) == (True, "regenerated", 4, 40)
    assert (one["first_verdict"], one["verdict"], one["stage"], one["caption"]) == ("harmful", "harmless", "mended", "A wire.")


def test_parquet_has_no_calls_and_tokens_of_a_sample_without_an_answer(tmp_path: Path) -> None:
    from pyarrow.parquet import read_table

    records(tmp_path, "vlsafe", "direct", [row("a", HARM)], samples=2)
    failures(tmp_path, "vlsafe", "direct", ["lost"])
    assert main(["report", str(tmp_path), "--no-pictures"]) == 0
    there, lost = read_table(tmp_path / "samples.parquet").to_pylist()
    assert (there["calls"], there["prompt_tokens"], there["completion_tokens"]) == (1, 10, 5)
    assert (lost["calls"], lost["prompt_tokens"], lost["completion_tokens"], lost["absent"]) == (None, None, None, "The engine failed.")
