"""Opening a run's folder: what is refused before anybody is asked."""

import re
from pathlib import Path

import pytest

from llava.errors import UserError
from llava.eval.__main__ import conclusion
from llava.eval.session import evaluate
from llava.eval.tasks import task
from tests.eval.runs import plan, vlsafe
from tests.eval.tasks import layouts


def test_what_there_is_to_know_of_a_benchmarks_files_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layouts.mm_safetybench(tmp_path)
    summary = evaluate(plan(tmp_path, tmp_path / "out", tasks=(task("mm_safetybench", modes="SD"),), methods=("direct",), limit=1))
    assert summary.whole
    assert conclusion(summary) == 0
    told = capsys.readouterr().err
    assert re.fullmatch(r"noted: .*processed_questions: 11 scenarios are not there: 02-HateSpeech.*\n", told)


def test_an_empty_file_of_questions_is_a_mistake_and_no_success(tmp_path: Path) -> None:
    data = vlsafe(tmp_path / "data", 0)
    with pytest.raises(UserError, match=r"vlsafe has no sample that can be asked: .*examine\.jsonl has no row\. `llava data check vlsafe`"):
        evaluate(plan(data, tmp_path / "out"))
    assert not (tmp_path / "out/vlsafe").exists()


def test_a_half_finished_download_without_one_picture_is_a_mistake(tmp_path: Path) -> None:
    data = vlsafe(tmp_path / "data")
    for path in (data / "vlsafe/images").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"vlsafe has no sample .* line 1: there is no file .*red\.png \(and 5 more\)\."):
        evaluate(plan(data, tmp_path / "out"))


def test_the_folder_of_a_release_without_files_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "mme/MME_Benchmark_release_version/MME_Benchmark").mkdir(parents=True)
    with pytest.raises(UserError, match=r"mme has no sample that can be asked: .* has no row"):
        evaluate(plan(tmp_path, tmp_path / "out", tasks=(task("mme"),)))
