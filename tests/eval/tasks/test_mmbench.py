import base64
from pathlib import Path

import pytest

from llava.errors import UserError
from llava.eval.sample import Answers
from llava.eval.tasks.mmbench import MMBench
from tests.eval.tasks import layouts

LETTER = "\nAnswer with the option's letter from the given choices directly."


def test_questions_read_as_llava_writes_them(tmp_path: Path) -> None:
    layouts.mmbench(tmp_path)
    samples, bad = layouts.read(MMBench(), tmp_path)
    assert bad == []
    assert samples[0].prompt == 'Two lines,\none of "quotes".\nWhich one, 7?\nA. w\nB. x\nC. y\nD. z'
    assert samples[0].question == samples[0].prompt + LETTER
    assert samples[2].prompt == "Which one, 8?\nA. 1\nB. 2\nC. 3"


def test_missing_options_and_hints_are_known_in_every_spelling(tmp_path: Path) -> None:
    layouts.mmbench(tmp_path)
    samples, _ = layouts.read(MMBench(), tmp_path)
    assert [len(sample.meta["options"]) for sample in samples] == [4, 4, 3, 3, 2, 2]
    assert samples[3].meta["hint"] == ""  # it said "nan"
    assert samples[4].meta["options"] == {"A": "yes", "B": "no"}  # C said "None"


def test_an_option_is_missing_in_pandas_spelling_only(tmp_path: Path) -> None:
    layouts.mmbench(tmp_path, extra=[layouts.mmbench_row(11, "8", ["K", "Na", "NA", "x"], "B")])
    samples, bad = layouts.read(MMBench(), tmp_path)
    assert (samples[-1].meta["options"], bad) == ({"A": "K", "B": "Na"}, [])  # sodium


def test_rotated_copies_belong_to_their_base_question(tmp_path: Path) -> None:
    layouts.mmbench(tmp_path)
    samples, _ = layouts.read(MMBench(), tmp_path)
    assert [(sample.id, sample.group, sample.meta["rotation"]) for sample in samples[:4]] == [
        ("7", "7", 0),
        ("1000007", "7", 1),
        ("8", "8", 0),
        ("1000008", "8", 1),
    ]
    assert [sample.meta["answer"] for sample in samples] == list("BACBAB")


def test_pictures_stay_in_the_table_until_they_are_opened(tmp_path: Path) -> None:
    path = layouts.mmbench(tmp_path)
    samples, _ = layouts.read(MMBench(), tmp_path)
    assert all(sample.picture and sample.picture.path == path and sample.picture.data is None for sample in samples)
    colours = [sample.chat().images[0].pil().getpixel((0, 0)) for sample in samples]
    assert colours == [(254, 0, 0)] * 2 + [(0, 128, 0)] * 2 + [(0, 0, 255)] * 2


def test_a_picture_may_be_that_of_an_earlier_row(tmp_path: Path) -> None:
    path = layouts.mmbench(tmp_path, extra=[layouts.mmbench_row(11, "8", ["a", "b"], "A"), layouts.mmbench_row(12, "99", ["a", "b"], "A")])
    samples, bad = layouts.read(MMBench(), tmp_path)
    assert samples[-1].id == "11"
    assert samples[-1].chat().images == samples[2].chat().images
    assert [(row.file, row.line) for row in bad] == [(path, 11)]  # hints take two lines
    assert "nor the index of an earlier row" in bad[0].reason


PICTURE = base64.b64encode(layouts.png()).decode()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (layouts.mmbench_row(7, PICTURE, ["a", "b"], "A"), "the id '7' is there already"),
        (layouts.mmbench_row(20, PICTURE, ["a"], "A"), "fewer than two options"),
        (layouts.mmbench_row(20, PICTURE, ["a", "nan", "c"], "A"), "fewer than two options"),
        (layouts.mmbench_row(20, PICTURE, ["a", "b"], "D"), "the 'answer' is none of the options"),
        (layouts.mmbench_row(20, PICTURE, ["a", "b"], "A", index="one"), "'index' is no whole number"),
        (layouts.mmbench_row(20, PICTURE, ["a", "b"], "A", question=""), "'question' is empty"),
        (layouts.mmbench_row(20, "*" + PICTURE, ["a", "b"], "A"), "'image' is not base64"),
        (layouts.mmbench_row(20, "", ["a", "b"], "A"), "'image' is neither a picture nor"),
    ],
)
def test_a_broken_row_is_reported_with_its_line(tmp_path: Path, row: list[str], reason: str) -> None:
    path = layouts.mmbench(tmp_path, extra=[row])
    samples, bad = layouts.read(MMBench(), tmp_path)
    assert len(samples) == 6
    assert [(one.file, one.line) for one in bad] == [(path, 10)]
    assert bad[0].reason.startswith(reason)


def test_a_table_that_is_cut_off_keeps_its_whole_rows(tmp_path: Path) -> None:
    path = layouts.mmbench(tmp_path)
    path.write_bytes(path.read_bytes()[:-60])
    samples, bad = layouts.read(MMBench(), tmp_path)
    assert len(samples) == 5
    assert bad[0].reason.startswith("torn: the file ends in the middle of this line")


def test_another_table_can_be_named_and_one_that_is_none_is_refused(tmp_path: Path) -> None:
    layouts.mmbench(tmp_path, "mmbench/mmbench_dev_cn_20231003.tsv")
    assert len(layouts.read(MMBench(file="mmbench/mmbench_dev_cn_20231003.tsv"), tmp_path)[0]) == 6
    layouts.table(tmp_path / "x.tsv", ["index", "question"], [["1", "q"]], "\t")
    with pytest.raises(UserError, match="has no column 'A'"):
        layouts.read(MMBench(file="x.tsv"), tmp_path)


def test_answer_files_look_like_llavas(tmp_path: Path) -> None:
    layouts.mmbench(tmp_path)
    task = MMBench()
    sample = layouts.read(task, tmp_path)[0][4]
    row = task.original_row(sample, Answers("A", "m", answer_id="a"))
    assert list(row) == ["question_id", "round_id", "prompt", "text", "options", "option_char", "answer_id", "model_id", "metadata"]
    assert (row["question_id"], row["round_id"], row["options"], row["option_char"]) == (9, 0, ["yes", "no"], ["A", "B"])
    assert row["prompt"] == "Which one, 9?\nA. yes\nB. no"  # without the line that asks for a letter
    assert list(task.original_row(sample, Answers("A", "m", True, "B", "c")))[-3:] == ["safe", "caption", "unsafe_answer"]
