"""`llava bench engine` on a tiny model: are the figures what was measured?"""

import json
import re
from pathlib import Path

import pytest

from llava import cli
from llava.bench import engine
from llava.bench.engine import Plan, _beside
from llava.bench.random_model import Say
from llava.bench.setup import Setup
from llava.errors import UserError

TINY = "--quick --shape tiny --samples 4 --tokens 4 --in-flight 1,4 --batches 1,3 --mini-rows 2 --soak 6 --pictures examples"


def bench(folder: Path, *words: str) -> int:
    return cli.main(["bench", "engine", "--out", str(folder), *words])


def test_a_run_prints_tables_and_writes_every_round(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(tmp_path, *TINY.split()) == 0
    printed = capsys.readouterr().out
    data = json.loads((tmp_path / "engine.json").read_text())
    assert len(data["rounds"]) == 1
    assert data["plan"]["samples"] == 4
    flows = data["medians"]["flows"]
    ways = [(f["way"], f["path"], f["questions"], f["in_flight"]) for f in flows]
    assert ways == [
        (way, path, questions, level)
        for questions, levels in ((1, (1, 4)), (4, (4,)))
        for path in ("safe", "harmful")
        for way, level in (("plain", 1), *(("engine", level) for level in levels))
    ]
    for flow in flows:
        assert flow["rows"] == flow["equal"] == 4
        assert flow["floor"] > flow["rows_per_second"] > 0
        assert 0 < flow["reached"] < 1
    assert printed.count("4 of 4 rows") == sum(flow["way"] == "engine" for flow in flows)
    assert [d["batch"] for d in data["medians"]["decode"]] == [1, 3]
    assert data["medians"]["mini"][0]["equal"] == data["medians"]["mini"][0]["rows"] == 2
    assert data["soak"][0]["golden_equal"]
    assert (data["soak"][0]["calls"], data["soak"][0]["held"]) == (6, 0)
    for decode in data["medians"]["decode"]:
        assert decode["ratio"] == pytest.approx(decode["engine"] / decode["plain"])
    assert 'replaced by "No" (safe path) and "Yes" (harmful path); on the engine a No is computed up to' in printed
    assert data["others"] is None or 0 <= data["others"] <= 1
    assert ("Other processes took" in printed) == (data["others"] is not None)
    assert (tmp_path / "engine.svg").read_text().startswith("<svg")


def test_ratios_follow_from_the_seconds_of_one_round(tmp_path: Path) -> None:
    words = "--quick --shape tiny --rounds 2 --samples 2 --tokens 3 --in-flight 2 --parts flows --verdicts no"
    assert bench(tmp_path, *words.split()) == 0
    data = json.loads((tmp_path / "engine.json").read_text())
    assert len(data["rounds"]) == 2
    assert data["medians"]["flows"][0]["rows"] == 4
    rates = [done["rates"]["operations"] for done in data["rounds"]]
    assert rates[0] != rates[1]
    assert data["medians"]["rates"]["operations"] == pytest.approx(sum(rates) / 2)
    plain, engine, *_ = data["rounds"][1]["flows"]
    assert engine["ratio"] == pytest.approx(engine["rows_per_second"] / plain["rows_per_second"])
    assert plain["answers"] / engine["answers"] == pytest.approx(engine["ratio"])
    assert engine["tokens_per_second"] == pytest.approx(
        4 * engine["rows_per_second"]
    )  # three for the answer; the check's "No" is settled by one
    assert engine["reached"] == pytest.approx(engine["rows_per_second"] / engine["floor"])


def test_who_stops_a_run_has_the_rounds_that_were_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = engine._round

    def stopped(setup: Setup, plan: Plan, number: int, say: Say) -> engine.Round:
        if number:
            raise KeyboardInterrupt
        return whole(setup, plan, number, say)

    monkeypatch.setattr(engine, "_round", stopped)
    assert bench(tmp_path, *["--quick", "--shape", "tiny", "--rounds", "3", "--parts", "check"]) == 130
    data = json.loads((tmp_path / "engine.json").read_text())
    assert len(data["rounds"]) == 1
    assert data["medians"]["check"] == data["rounds"][0]["check"]


def test_parts_that_are_left_out_leave_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(tmp_path, *["--quick", "--shape", "tiny", "--parts", "check"]) == 0
    printed = capsys.readouterr().out
    assert re.findall(r"^\| ([a-z]+ [a-z]+)", printed, re.MULTILINE) == ["plain check"]
    assert "Forced" not in printed
    assert not (tmp_path / "engine.svg").exists()


def test_quick_is_smaller_in_every_way() -> None:
    quick, whole = Plan().quick(), Plan()
    assert (quick.rounds, quick.shape) == (1, "33m")
    assert quick.tokens < whole.tokens
    assert quick.samples < whole.samples


def test_an_unknown_bench_and_a_file_for_a_folder_are_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "enigne"]) == 2
    assert "there is engine, serve" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert bench(tmp_path / "file") == 2
    assert "name a folder" in capsys.readouterr().err


def test_what_other_processes_took_stands_with_the_figures_and_says_when_it_was_too_much() -> None:
    assert _beside(None) == ""
    assert _beside(0.02) == " Other processes took 2% of the processors meanwhile."
    assert _beside(0.4) == " Other processes took 40% of the processors meanwhile: the timings are worth little."


def test_a_plan_says_what_is_wrong_with_it() -> None:
    with pytest.raises(UserError, match="batches"):
        Plan(batches=())
