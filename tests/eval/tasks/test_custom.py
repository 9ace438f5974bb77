import base64
import json
from pathlib import Path
from typing import Any

import pytest

from llava.errors import UserError
from llava.eval.tasks.custom import Custom
from tests.eval.tasks import layouts

ENCODED = base64.b64encode(layouts.png()).decode()


def test_llavas_question_file_is_read_as_it_is(tmp_path: Path) -> None:
    rows = [{"question_id": 3, "image": "a/x.png", "text": "<image>\nWhat?", "category": "conv"}, {"question_id": 4, "text": "Who?"}]
    layouts.json_lines(tmp_path / "q.jsonl", rows)
    layouts.file(tmp_path / "a/x.png")
    samples, bad = layouts.read(Custom(file="q.jsonl"), tmp_path)
    assert bad == []
    assert [(sample.id, sample.question, sample.category) for sample in samples] == [("3", "What?", "conv"), ("4", "Who?", "")]
    assert [len(sample.chat().images) for sample in samples] == [1, 0]


def test_columns_and_the_folder_of_pictures_can_be_named(tmp_path: Path) -> None:
    layouts.table(tmp_path / "mine.csv", ["frage", "bild", "nr", "text"], [["Was?", "x.png", "a1", "no"], ["Wer?", "", "a2", "no"]])
    layouts.file(tmp_path / "pictures/x.png")
    task = Custom(file="mine.csv", images="pictures", question="frage", image="bild", id="nr", scored_as="refusals")
    samples, bad = layouts.read(task, tmp_path)
    assert (task.scored_by, bad) == ("refusals", [])
    assert [(sample.id, sample.question, sample.picture is None) for sample in samples] == [("a1", "Was?", False), ("a2", "Wer?", True)]


def test_rows_without_ids_are_numbered_by_line(tmp_path: Path) -> None:
    layouts.table(tmp_path / "q.tsv", ["question"], [["One?"], ["Two?"]], "\t")
    assert [sample.id for sample in layouts.read(Custom(file="q.tsv"), tmp_path)[0]] == ["2", "3"]
    layouts.file(tmp_path / "q.json", json.dumps({"x": {"question": "One?"}}))
    assert [sample.id for sample in layouts.read(Custom(file="q.json"), tmp_path)[0]] == ["x"]


def test_every_entry_of_a_document_without_ids_has_its_own_also_in_one_line(tmp_path: Path) -> None:
    layouts.file(tmp_path / "q.json", json.dumps([{"question": "One?"}, {"question": "Two?"}]))
    samples, bad = layouts.read(Custom(file="q.json"), tmp_path)
    assert ([(sample.id, sample.question) for sample in samples], bad) == ([("1", "One?"), ("2", "Two?")], [])


def test_rows_need_not_all_have_the_same_fields(tmp_path: Path) -> None:
    rows = [{"question": "One?"}, {"question": "Two?", "image": "x.png", "id": "b"}, {"prompt": "Three?", "category": "c"}]
    layouts.json_lines(tmp_path / "q.jsonl", rows)
    layouts.file(tmp_path / "x.png")
    samples, bad = layouts.read(Custom(file="q.jsonl"), tmp_path)
    assert bad == []
    assert [(sample.id, sample.question, len(sample.chat().images)) for sample in samples] == [
        ("1", "One?", 0),
        ("b", "Two?", 1),
        ("3", "Three?", 0),
    ]


@pytest.mark.parametrize(
    "image",
    [f"data:image/png;base64,{ENCODED}", base64.b64encode(layouts.png() + bytes(400)).decode(), [f"data:image/png;base64,{ENCODED}"]],
)
def test_pictures_may_stand_in_the_row(tmp_path: Path, image: object) -> None:
    layouts.json_lines(tmp_path / "q.jsonl", [{"question": "What?", "image": image}])
    samples, bad = layouts.read(Custom(file="q.jsonl"), tmp_path)
    assert bad == []
    assert samples[0].chat().images[0].size == (12, 8)


def test_parquet_of_the_hub_is_read(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    data = {
        "question": ["One?", "Two?", "Three?"],
        "image": [{"bytes": layouts.png(), "path": "x.png"}, {"bytes": None, "path": None}, None],
    }
    parquet.write_table(pyarrow.table(data), tmp_path / "q.parquet")
    samples, bad = layouts.read(Custom(file="q.parquet"), tmp_path)
    assert bad == []
    assert [len(sample.chat().images) for sample in samples] == [1, 0, 0]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"question": "q", "image": ["a.png", "b.png"]}, "2 pictures"),
        ({"question": "q", "image": "data:image/png;base64,###"}, "'image' is not valid base64"),
        ({"question": "q", "image": 7}, "'image' is neither text nor bytes but int"),
        ({"question": "q", "image": "../x.png"}, "is not the name of a file below"),
        ({"question": "", "image": None}, "'question' is empty"),
        ({"question": "q", "id": "1"}, "the id '1' is there already"),
        ({"question": "q", "id": []}, "'id' is no text but list"),
    ],
)
def test_what_cannot_be_asked_is_reported(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    layouts.json_lines(tmp_path / "q.jsonl", [{"question": "q", "id": "1", "image": None}, row])
    samples, bad = layouts.read(Custom(file="q.jsonl"), tmp_path)
    assert len(samples) == 1
    assert bad[0].line == 2
    assert reason in bad[0].reason


def test_a_column_that_may_hold_pictures_is_mentioned_where_none_is_known(tmp_path: Path) -> None:
    layouts.json_lines(tmp_path / "q.jsonl", [{"question": "What?", "photo": "x.png", "id": 1}])
    layouts.file(tmp_path / "x.png")
    (note,) = layouts.read(Custom(file="q.jsonl"), tmp_path)[1]
    assert (note.mended, note.line) == (True, 0)
    assert note.reason == "no row has a picture; if one of these columns holds them, name it (custom.image=...): photo"
    samples, bad = layouts.read(Custom(file="q.jsonl", image="photo"), tmp_path)
    assert (len(samples[0].chat().images), bad) == (1, [])


def test_a_file_may_lie_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layouts.json_lines(tmp_path / "q.jsonl", [{"question": "q"}])
    monkeypatch.chdir(tmp_path)
    for name in ("q.jsonl", str(tmp_path / "q.jsonl")):
        assert len(layouts.read(Custom(file=name), tmp_path / "nowhere")[0]) == 1
        assert [one.text for one in Custom(file=name).check(tmp_path / "nowhere")] == ["1 samples", "0 of 0 pictures decode"]


def test_what_is_not_named_rightly_is_one_sentence(tmp_path: Path) -> None:
    layouts.json_lines(tmp_path / "q.jsonl", [{"frage": "q"}])
    for task, reason in (
        (Custom(), "Name your file of questions"),
        (Custom(file="none.jsonl"), "There is no file of questions"),
        (Custom(file="q.jsonl"), r"no column of questions \(it has: frage\)"),
        (Custom(file="q.jsonl", question="fragen"), "Unknown column 'fragen'.*Did you mean frage"),
    ):
        with pytest.raises(UserError, match=reason):
            layouts.read(task, tmp_path)
    with pytest.raises(UserError, match="Unknown scored_as 'harm'"):
        Custom(scored_as="harm")
