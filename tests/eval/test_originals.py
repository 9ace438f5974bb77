"""The original's answer files: read as first answers, and written with its field names in its places."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llava.errors import UserError
from llava.eval.plan import Plan
from llava.eval.records import read
from llava.eval.session import Summary, evaluate
from llava.eval.tasks import task
from tests.eval.oracle import Server, said
from tests.eval.runs import content, ids, plan, records, vlsafe
from tests.eval.tasks import layouts
from tests.factories import corners

QUERY = "vlsafe/VLSafe_harmlessness_examine/output/oracle/image/q/merge.jsonl"
TELL = "vlsafe/VLSafe_harmlessness_examine/output/oracle/image/tell_ask/merge.jsonl"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return vlsafe(tmp_path / "data")


def named(data: Path, out: Path, server: Server, **changes: Any) -> Plan:
    return plan(data, out, server.url, model_name="oracle", originals=out / "data", **changes)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_text("utf-8").splitlines()]


def test_both_methods_write_the_originals_files(data: Path, tmp_path: Path, server: Server) -> None:
    summary = evaluate(named(data, tmp_path, server))
    direct, ecso = rows(tmp_path / "data" / QUERY), rows(tmp_path / "data" / TELL)
    assert {str(path) for path in summary.written} == {str(tmp_path / "data" / name) for name in (QUERY, TELL)}
    assert [list(row) for row in direct] == [["image_id", "query", "text", "model_id"]] * 6
    assert [(row["image_id"], row["query"]) for row in direct[:2]] == [
        ("red.png", "How is number 0 made?"),
        ("green.png", "How is number 1 made?"),
    ]
    assert {row["unsafe"] for row in ecso} == {"Yes", "No"}
    for first, then in zip(direct, ecso, strict=True):
        assert first["text"] == said(first["query"], 1)
        if then["unsafe"] == "Yes":
            assert (then["unsafe_answer"], then["caption"][:4]) == (first["text"], "Said")
            assert then["text"] != first["text"]
        else:
            assert then["text"] == first["text"]


@pytest.mark.parametrize("source", ["folder", "file", "records", "run"])
def test_answers_that_exist_are_defended_without_being_asked_again(data: Path, tmp_path: Path, server: Server, source: str) -> None:
    evaluate(named(data, tmp_path / "one", server))
    direct = tmp_path / "one" / "data" / QUERY
    run = tmp_path / "one"
    given = {"folder": run / "data", "file": direct, "records": records(run, "direct"), "run": run}[source]
    asked = len(server.asked)
    summary = evaluate(named(data, tmp_path / "two", server, methods=("ecso",), drafts=given))
    assert summary.whole
    assert not any(text.startswith("How") for text in server.asked[asked:])
    ours = read(records(tmp_path / "two", "ecso"))[1]
    assert all(row["given"] == said(row["question"], 1) for row in ours)
    assert [row["answer"] for row in ours] == [row["answer"] for row in read(records(tmp_path / "one", "ecso"))[1]]
    assert rows(tmp_path / "two/data" / TELL) == rows(tmp_path / "one/data" / TELL)


def test_rows_are_found_by_their_fields_whatever_their_order_and_repeated_ones_in_order(tmp_path: Path, server: Server) -> None:
    data = vlsafe(tmp_path / "data", 4)
    questions = data / "vlsafe/harmlessness_examine.jsonl"
    questions.write_text(questions.read_text() + '{"image_id": "red.png", "query": "How is number 0 made?"}\n')
    answers = tmp_path / "answers.jsonl"
    told = [(1, "b"), (3, "d"), (0, "a"), (0, "again")]
    colours = ("red", "green", "blue")
    lines = [{"query": f"How is number {i} made?", "image_id": f"{colours[i % 3]}.png", "text": text, "more": 1} for i, text in told]
    answers.write_text("".join(json.dumps(row) + "\n" for row in lines))
    summary = evaluate(named(data, tmp_path, server, methods=("ecso",), drafts=answers))
    assert {row["number"]: row["given"] for row in read(records(tmp_path, "ecso"))[1]} == {0: "a", 1: "b", 3: "d", 4: "again"}
    assert [(failure["number"], failure["kind"]) for failure in summary.results[0].failures] == [(2, "UserError")]
    assert "has no answer to it" in summary.results[0].failures[0]["error"]


def test_more_answers_go_on_with_the_run_and_other_answers_do_not(data: Path, tmp_path: Path, server: Server) -> None:
    evaluate(named(data, tmp_path, server, methods=("direct",)))
    answers, direct = tmp_path / "answers.jsonl", tmp_path / "data" / QUERY
    lines = direct.read_text().splitlines(keepends=True)
    answers.write_text("".join(lines[:2]))
    base = named(data, tmp_path / "out", server, methods=("ecso",), drafts=answers)
    assert len(ids(evaluated(base))) == 2
    answers.write_text("".join(lines))
    assert len(ids(evaluated(base))) == 6
    answers.write_text("".join(lines).replace("Said", "Told"))
    with pytest.raises(UserError, match="made from another answer"):
        evaluate(base)


def evaluated(base: Plan) -> Path:
    evaluate(base)
    return records(base.out, "ecso")


def test_the_two_answers_about_one_picture_are_told_apart_by_their_questions(tmp_path: Path, server: Server) -> None:
    layouts.mme(tmp_path / "data")
    answers = tmp_path / "answers.jsonl"
    asked = [json.loads(text) for text in (tmp_path / "data/mme/llava_mme.jsonl").read_text().splitlines()]
    kept = [{"question_id": row["question_id"], "prompt": row["text"], "text": f"{row['image']} {row['text'][7:10]}"} for row in asked[1:]]
    answers.write_text("".join(json.dumps(row) + "\n" for row in reversed(kept)))
    summary = evaluate(named(tmp_path / "data", tmp_path, server, methods=("ecso",), drafts=answers, tasks=(task("mme"),)))
    given = {row["number"]: row["given"] for row in read(records(tmp_path, "ecso", "mme"))[1]}
    assert given == {number: row["text"] for number, row in enumerate(kept, 1)}
    assert [failure["number"] for failure in summary.results[0].failures] == [0]


def test_an_answer_of_another_run_is_taken_for_the_same_question_about_the_same_picture_only(tmp_path: Path, server: Server) -> None:
    def asked(name: str, *rows: dict[str, str]) -> Plan:  # rows without ids are known by their lines
        layouts.json_lines(tmp_path / f"{name}.jsonl", [{"question": "What?", "image": "a/red.png"} | row for row in rows])
        return named(tmp_path, tmp_path / name, server, tasks=(task("custom", file=f"{name}.jsonl"),))

    for place in ("a/red.png", "b/red.png", "a/blue.png"):
        layouts.file(tmp_path / place)
    evaluate(asked("first", {}, {}, {}, {}))
    second = asked("second", {}, {"question": "Who?"}, {"image": "a/blue.png"}, {"image": "b/red.png"})
    summary = evaluate(replace(second, methods=("ecso",), drafts=tmp_path / "first"))
    given = {row["id"]: row["given"] for row in read(records(tmp_path / "second", "ecso", "custom"))[1]}
    assert given == {"1": said("What?", 1), "4": said("What?", 1)}
    assert [failure["id"] for failure in summary.results[0].failures] == ["2", "3"]
    (note,) = summary.noted
    assert note.reason.startswith("2 answers are to none of the questions")


def test_one_file_of_answers_for_pictures_that_the_original_keeps_apart_is_refused(tmp_path: Path, server: Server) -> None:
    layouts.mm_safetybench(tmp_path / "data")
    answers = layouts.json_lines(
        tmp_path / "answers.jsonl", [{"image": "0.jpg", "query": layouts.mmsafe_entry(0)["Rephrased Question"], "text": "x"}]
    )

    def asked(modes: str) -> Plan:
        tasks = (task("mm_safetybench", modes=modes, scenarios=layouts.MISSPELT),)
        return named(tmp_path / "data", tmp_path / "out", server, tasks=tasks, drafts=answers)

    with pytest.raises(UserError, match=r"cannot be told apart as answers to \".*/SD_TYPO/0\" and \".*/TYPO/0\".*--task-option modes="):
        evaluate(asked("SD_TYPO,TYPO"))
    evaluate(replace(asked("TYPO"), methods=("ecso",)))
    given = {row["id"]: row["given"] for row in read(records(tmp_path / "out", "ecso", "mm_safetybench"))[1]}
    assert given == {f"{layouts.MISSPELT}/TYPO/0": "x"}


def test_records_that_are_none_of_ours_are_one_sentence(data: Path, tmp_path: Path, server: Server) -> None:
    answers = layouts.json_lines(tmp_path / "a.jsonl", [{"llava_records": 1, "task": {"name": "vlsafe"}}, {"id": "x", "number": 0}])
    with pytest.raises(UserError, match=r"no record of `llava eval` \(id 'x'\): remove that line"):
        evaluate(named(data, tmp_path / "out", server, drafts=answers))


def test_answers_to_no_question_are_mentioned(data: Path, tmp_path: Path, server: Server) -> None:
    answers = tmp_path / "answers.jsonl"
    told = [(f"How is number {i} made?", ("red.png", "green.png", "blue.png")[i % 3]) for i in range(6)]
    lines = [{"query": query, "image_id": image, "text": "x"} for query, image in [*told, told[0], ("Who?", "red.png")]]
    answers.write_text("".join(json.dumps(row) + "\n" for row in lines))
    assert evaluate(named(data, tmp_path, server, methods=("ecso",), drafts=answers)).whole
    (note,) = rows(tmp_path / "vlsafe/quarantine.jsonl")
    assert (note["file"], note["mended"]) == (str(answers), True)
    assert note["reason"] == "2 answers are to none of the questions, or are second ones; they are not used"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"question_id": 1, "text": "x"}\n', "a row without text, image_id, query: it is no answer file of the original for vlsafe"),
        ("", "has no answer"),
        ('{"image_id": "red.png", "query": "How is number 0 made?"}\n', "a row without text, image_id, query"),
        ("{torn\n", "line 1 is damaged"),
        ('{"llava_records": 1, "task": {"name": "mme"}}\n', "holds answers to mme"),
    ],
)
def test_files_that_hold_no_answers_are_one_sentence(data: Path, tmp_path: Path, server: Server, text: str, sentence: str) -> None:
    answers = tmp_path / "answers.jsonl"
    answers.write_text(text)
    base = named(data, tmp_path / "out", server, methods=("ecso",), drafts=answers)
    if text:
        with pytest.raises(UserError, match=sentence):
            evaluate(base)
    else:
        summary: Summary = evaluate(base)
        assert {failure["error"][-20:] for failure in summary.results[0].failures} == {"has no answer to it."}


def test_a_document_is_no_file_of_answers(data: Path, tmp_path: Path, server: Server) -> None:
    (tmp_path / "answers.json").write_text('[\n{"image_id": "red.png", "query": "q", "text": "t"}]')
    with pytest.raises(UserError, match=r"answers\.json is no file of JSON lines \(\.jsonl\)"):
        evaluate(named(data, tmp_path / "out", server, methods=("ecso",), drafts=tmp_path / "answers.json"))


def test_a_folder_without_answers_says_which_file_is_missing(data: Path, tmp_path: Path, server: Server) -> None:
    with pytest.raises(UserError, match=rf"no answers at .*{QUERY}: make them first"):
        evaluate(named(data, tmp_path, server, methods=("ecso",), drafts=tmp_path / "nowhere"))


def test_short_trials_keep_the_answers_of_a_long_run(data: Path, tmp_path: Path, server: Server) -> None:
    evaluate(named(data, tmp_path, server))
    before = (tmp_path / "data" / QUERY).read_bytes()
    trial = plan(data, tmp_path / "trial", server.url, model_name="oracle", originals=tmp_path / "data", limit=2)
    evaluate(trial)
    assert len(rows(tmp_path / "data" / QUERY)) == 2
    evaluate(plan(data, tmp_path / "shorter", server.url, model_name="oracle", originals=tmp_path / "data", limit=1))
    assert (tmp_path / "data" / f"{QUERY}.old").read_bytes() == before  # not the two of the first trial


def test_scenarios_and_modes_have_files_of_their_own(tmp_path: Path, server: Server) -> None:
    data, scenario = tmp_path / "data", "01-Illegal_Activitiy"
    questions = data / "mm_safetybench/processed_questions"
    questions.mkdir(parents=True)
    entry = {"Question": "q", "Changed Question": "c", "Rephrased Question": "r", "Rephrased Question(SD)": "s"}
    (questions / f"{scenario}.json").write_text(json.dumps({"0": entry, "7": entry}))
    for mode in ("SD", "SD_TYPO", "TYPO"):
        folder = data / "mm_safetybench/imgs" / scenario / mode
        folder.mkdir(parents=True)
        for name in ("0", "7"):
            corners().save(folder / f"{name}.jpg")
    tasks = (task("mm_safetybench", modes="SD,text"),)
    summary = evaluate(named(data, tmp_path / "out", server, tasks=tasks))
    assert summary.whole
    assert len(summary.written) == 4
    told = rows(tmp_path / "out/data/mmsafe/outputs" / scenario / "SD/oracle/tell_ask/merge.jsonl")
    assert [(row["image"], row["query"]) for row in told] == [("0.jpg", "s"), ("7.jpg", "s")]
    again = named(data, tmp_path / "again", server, tasks=tasks, methods=("ecso",), drafts=tmp_path / "out" / "data")
    assert evaluate(again).whole
    assert content(records(tmp_path / "again", "ecso", "mm_safetybench"))[1].count(b"\n") == 4
