"""Records: lines that are there whole or not at all."""

import json
import math
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llava.errors import UserError
from llava.eval.records import Appender, Book, StorageError, line, lines_of, read, tell, write_whole
from tests.eval.runs import ROOT

HEADER = {"task": {"name": "t"}, "versions": {"llava": "1"}, "git": None}


def row(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"id-{number}", "number": number, **more}


def book(path: Path, *numbers: int, **header: Any) -> Book:
    opened = Book(path, HEADER | header)
    for number in numbers:
        opened.append(row(number, text="…" * number))
    return opened


def test_rows_come_back_in_the_benchmarks_order_whatever_order_they_came_in(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "records.jsonl"
    opened = book(path, 3, 0, 2, 1)
    assert opened.row("id-2") == row(2, text="……")
    opened.finish()
    header, rows = read(path)
    assert header == {"llava_records": 1, **HEADER}
    assert [found["number"] for found in rows] == [0, 1, 2, 3]


def test_a_finished_file_is_not_touched_again(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    book(path, 0, 1).finish()
    before = path.read_bytes(), path.stat().st_ino
    again = book(path)
    assert list(again.rows) == ["id-0", "id-1"]
    again.finish()
    assert (path.read_bytes(), path.stat().st_ino) == before


@pytest.mark.parametrize("cut", [1, 2, 10, 25])
def test_a_torn_last_line_is_cut_off_and_every_other_row_stays(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "records.jsonl"
    book(path, 0, 1).close()
    path.write_bytes(path.read_bytes()[:-cut])
    assert len(read(path)[1]) == (2 if cut == 1 else 1)  # readers do not wait for the repair
    again = book(path)
    # Of cut 1 only the line end is missing: the row is whole and stays.
    assert list(again.rows) == (["id-0", "id-1"] if cut == 1 else ["id-0"])
    again.append(row(7))
    again.close()
    assert [found["number"] for found in read(path)[1]] == ([0, 1, 7] if cut == 1 else [0, 7])


@pytest.mark.parametrize("length", [0, 1, 20])
def test_a_torn_header_is_written_anew(tmp_path: Path, length: int) -> None:
    path = tmp_path / "records.jsonl"
    book(path).close()
    path.write_bytes(path.read_bytes()[:length])
    book(path, 5).close()
    assert [found["number"] for found in read(path)[1]] == [5]


def test_a_long_torn_line_is_cut_off_whole(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    book(path, 0).close()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"id": "' + b"x" * 200_000)
    book(path).close()
    assert path.read_bytes() == whole


def test_a_row_longer_than_a_block_is_read_back(tmp_path: Path) -> None:
    opened = Book(tmp_path / "records.jsonl", HEADER)
    for number in range(3):
        opened.append(row(number, text=str(number) * 200_000))
    assert opened.row("id-1")["text"] == "1" * 200_000
    opened.close()


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (b"{broken\n", "line 3 is damaged"),
        (b"\0\0\0\n", "line 3 is damaged"),
        (b"[1]\n", "line 3 is damaged"),
        (b'{"id": "id-9"}\n', "without id and number"),
        (line(row(0)), "two rows with the id 'id-0'"),
    ],
)
def test_damage_in_the_middle_is_told_and_nothing_is_written(tmp_path: Path, damage: bytes, sentence: str) -> None:
    path = tmp_path / "records.jsonl"
    book(path, 0).close()
    path.write_bytes(path.read_bytes() + damage + line(row(1)))
    before = path.read_bytes()
    with pytest.raises(UserError, match=sentence):
        book(path)
    assert path.read_bytes() == before


def test_another_configuration_is_refused_by_the_name_of_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    book(path, method={"policy": {"answer": {"temperature": 0.0, "stop": ("a",)}}}).close()
    book(path, method={"policy": {"answer": {"temperature": 0.0, "stop": ["a"]}}}, versions={"llava": "2"}, git="abc").close()
    with pytest.raises(UserError, match=r"method.policy.answer.temperature is 0.0 there and 0.7 now"):
        book(path, method={"policy": {"answer": {"temperature": 0.7, "stop": ["a"]}}})
    with pytest.raises(UserError, match="drafts is null there"):
        book(path, method={"policy": {"answer": {"temperature": 0.0, "stop": ["a"]}}}, drafts=["x"])
    with pytest.raises(UserError, match=r"method is \{.* there and null now"):
        book(path)


def test_a_foreign_file_is_never_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text('{"question_id": 1}\n')
    with pytest.raises(UserError, match="no records file"):
        book(path)
    assert path.read_text() == '{"question_id": 1}\n'


def test_lines_are_equal_for_equal_values_and_keep_every_character(tmp_path: Path) -> None:
    value = {"text": "é\u2028\ud800\n\x00猫", "n": 1}
    path = tmp_path / "x.jsonl"
    appender = Appender(path)
    begin = appender.append(value)
    appender.close()
    assert path.read_bytes().count(b"\n") == 1
    assert [found for _, found in lines_of(path)] == [value]
    assert begin == 0
    with pytest.raises(ValueError, match="Out of range"):
        line({"p": math.nan})


def test_closing_twice_is_once(tmp_path: Path) -> None:
    opened = book(tmp_path / "records.jsonl", 0)
    opened.finish()
    opened.close()


FILLING = """
import resource, sys
from pathlib import Path
from llava.eval.records import Book, StorageError
book = Book(Path(sys.argv[1]), {"task": {"name": "t"}})
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
for number in range(1000):
    try:
        book.append({"id": str(number), "number": number, "text": "x" * 700})
    except StorageError as error:
        print(number, error)
        break
book.close()
"""


def test_a_full_disk_takes_back_the_half_line_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    done = subprocess.run([sys.executable, "-c", FILLING, path], cwd=ROOT, capture_output=True, text=True, check=True)
    number, _, sentence = done.stdout.partition(" ")
    assert 0 < int(number) < 8
    assert "cannot be written: File too large" in sentence
    assert "is safe" in sentence
    data = path.read_bytes()
    assert data.endswith(b"\n")
    assert [json.loads(text)["id"] for text in data.splitlines()[1:]] == [str(i) for i in range(int(number))]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_whole(path, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(StorageError):
            write_whole(path, b"n" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old"
    assert [left.name for left in tmp_path.iterdir()] == ["x.json"]


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        Book(tmp_path / "file" / "records.jsonl", HEADER)


@pytest.mark.parametrize("lines", [[], [b"{}\n"]])
def test_a_folder_in_the_place_of_a_file_is_one_sentence(tmp_path: Path, lines: list[bytes]) -> None:
    (tmp_path / "failures.jsonl").mkdir()
    with pytest.raises(StorageError, match=r"failures\.jsonl cannot be written: "):
        tell(tmp_path / "failures.jsonl", lines)


def test_a_writer_that_is_interrupted_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_whole(path, b"old")

    def interrupted(file: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, b"new")
    assert [one.name for one in tmp_path.iterdir()] == ["a.json"]
    assert path.read_bytes() == b"old"
