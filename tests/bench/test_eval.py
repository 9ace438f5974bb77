"""`llava bench eval` on a tiny model: are the figures what was measured, and the answers the same?"""

import json
from pathlib import Path

import pytest

from llava import cli
from llava.bench import eval_data
from llava.bench.eval import WORKLOADS, Plan
from llava.errors import UserError
from llava.eval.sample import strict
from llava.eval.tasks import task

TINY = "--quick --shape tiny --samples 6 --tokens 4"


def bench(folder: Path, *words: str) -> int:
    return cli.main(["bench", "eval", "--out", str(folder), *words])


def test_a_run_prints_a_table_and_every_answer_is_that_of_the_plain_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(tmp_path, *TINY.split(), "--rounds", "2") == 0
    printed = capsys.readouterr().out
    data = json.loads((tmp_path / "eval.json").read_text())
    assert [[rate["workload"] for rate in one] for one in data["rounds"]] == [list(WORKLOADS)] * 2
    for rate in data["medians"]:
        assert rate["equal"] == rate["rows"] == 12
        assert rate["ratio"] > 0
    for rate in data["rounds"][1]:
        assert rate["ratio"] == pytest.approx(rate["runner"] / rate["plain"])
    # A miss for each picture: the check finds what the answer computed, and rotated copies what the first of them did.
    assert [(rate["misses"], rate["hits"]) for rate in data["rounds"][0]] == [(6, 6), (6, 12), (2, 10)]
    assert printed.count("12 of 12 samples") == 3
    assert "tokens of an answer" in printed


@pytest.mark.parametrize(("name", "write", "pictures"), [("vlsafe", eval_data.vlsafe, 9), ("mmbench", eval_data.mmbench, 3)])
def test_questions_lie_in_the_benchmarks_own_layout(name: str, write: type, pictures: int, tmp_path: Path) -> None:
    write(tmp_path, 9, 1)
    samples = list(task(name).samples(tmp_path, strict))
    assert len(samples) == 9
    assert len({sample.chat().images[0] for sample in samples}) == pictures
    assert len({sample.group for sample in samples}) == pictures


def test_quick_is_smaller_and_a_plan_says_what_is_wrong_with_it() -> None:
    quick, whole = Plan().quick(), Plan()
    assert quick.shape == whole.shape
    assert (quick.rounds, quick.samples < whole.samples, quick.tokens < whole.tokens) == (1, True, True)
    with pytest.raises(UserError, match="concurrency"):
        Plan(concurrency=0)
