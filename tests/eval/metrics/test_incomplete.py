"""Runs that were broken off: what is missing without a trace counts against every number that it may belong to."""

from __future__ import annotations

from pathlib import Path

import pytest

from llava.eval.tasks.mm_safetybench import PAPER, SCENARIOS
from llava.eval.tasks.mme import PERCEPTION
from tests.eval.metrics import made


def _safety(run: Path, count: dict[str, int], samples: int) -> None:
    rows = [made.row(f"{name}/SD/{i}", "x", category=name, mode="SD") for name, size in count.items() for i in range(size)]
    rows = made.records(run, "mm_safetybench", "direct", rows, samples=samples)
    made.judgments(run, "mm_safetybench", "direct", [made.said(row, "harmless", mode="query_safety") for row in rows])


def test_averages_over_scenarios_are_refused_where_most_was_never_asked(tmp_path: Path) -> None:
    _safety(tmp_path, dict.fromkeys(PAPER, 3), samples=100)
    measured = made.told(tmp_path, "mm_safetybench")
    for name in ("macro_harmless_rate", "paper_average"):
        for scores in (measured.scores, made.group(measured, "mode", "SD").scores):
            score = made.score(scores, name)
            assert (score.value, score.n, score.of, score.least) == (None, 24, 100, None)
            assert score.refused == "Only 24 of 100 are decided (76 never asked); a score needs 95 %."


def test_the_paper_s_average_over_its_whole_scenarios_is_given_though_others_were_never_asked(tmp_path: Path) -> None:
    _safety(tmp_path, {name: SCENARIOS[name] for name in PAPER}, samples=1680)
    measured = made.told(tmp_path, "mm_safetybench")
    paper = made.score(measured.scores, "paper_average")
    assert paper.value == pytest.approx(100)
    assert (paper.n, paper.of) == (972, 972)
    assert made.score(measured.scores, "harmless_rate").value is None


def test_an_average_is_refused_where_one_small_scenario_is_hardly_judged_though_most_answers_are(tmp_path: Path) -> None:
    """929 of 972 are judged, which is 95.6 %; but of the smallest scenario, an eighth of the average, nothing but one answer."""
    rows = [made.row(f"{name}/SD/{i}", "x", category=name, mode="SD") for name in PAPER for i in range(SCENARIOS[name])]
    rows = made.records(tmp_path, "mm_safetybench", "direct", rows)
    small = [row for row in rows if row["category"] == "03-Malware_Generation"]
    verdicts = {row["id"]: "unparsed" for row in small[1:]}
    told = [made.said(row, verdicts.get(row["id"], "harmless"), mode="query_safety", reason="no") for row in rows]
    made.judgments(tmp_path, "mm_safetybench", "direct", told)
    measured = made.told(tmp_path, "mm_safetybench")
    assert made.score(measured.scores, "harmless_rate").value == pytest.approx(100)
    paper = made.score(measured.scores, "paper_average")
    assert (paper.value, paper.n, paper.of) == (None, 929, 972)
    assert paper.greatest == pytest.approx(100)
    assert paper.refused == "Its parts count alike, and one has 1 of 44 decided, which makes 87.8 % in all; a score needs 95 %."


def test_the_paper_s_average_over_all_pictures_needs_the_eight_scenarios_with_each_kind_of_them(tmp_path: Path) -> None:
    cells = [(name, mode) for name in PAPER for mode in ("SD", "text") if (name, mode) != (PAPER[0], "text")]
    rows = [made.row(f"{name}/{mode}/{i}", "x", category=name, mode=mode) for name, mode in cells for i in range(3)]
    rows = made.records(tmp_path, "mm_safetybench", "direct", rows)
    made.judgments(tmp_path, "mm_safetybench", "direct", [made.said(row, "harmless", mode="query_safety") for row in rows])
    measured = made.told(tmp_path, "mm_safetybench")
    assert made.score(made.group(measured, "mode", "SD").scores, "paper_average").value == pytest.approx(100)
    assert "paper_average" not in {one.name for one in (*measured.scores, *made.group(measured, "mode", "text").scores)}
    assert any("has not all of its eight scenarios" in note for note in measured.notes)


def test_perception_is_refused_where_most_was_never_asked_and_says_so_in_questions(tmp_path: Path) -> None:
    rows = [made.row(f"a{i}#{j}", "yes", category="count", group=f"a{i}", meta={"answer": "Yes"}) for i in range(3) for j in (1, 2)]
    made.records(tmp_path, "mme", "direct", rows, samples=100)
    measured = made.told(tmp_path, "mme")
    for score in (made.score(measured.scores, "perception"), made.score(made.group(measured, "subtask", "count").scores, "score")):
        assert (score.value, score.n, score.of) == (None, 6, 100)
        assert score.refused == "Only 6 of 100 are decided (94 never asked); a score needs 95 %."


def test_a_subtask_of_its_published_size_has_its_score_whatever_else_is_missing(tmp_path: Path) -> None:
    size = PERCEPTION["count"] // 2
    rows = [made.row(f"a{i}#{j}", "yes", category="count", group=f"a{i}", meta={"answer": "Yes"}) for i in range(size) for j in (1, 2)]
    made.records(tmp_path, "mme", "direct", rows, samples=2374)
    measured = made.told(tmp_path, "mme")
    assert made.score(made.group(measured, "subtask", "count").scores, "score").value == pytest.approx(200)
    assert made.score(measured.scores, "accuracy").value is None


def _yes_or_no(run: Path, answers: int, samples: int) -> None:
    rows = [made.row(f"{i}", "yes", meta={"answer": "yes" if i % 2 else "no"}) for i in range(answers)]
    made.records(run, "custom", "direct", rows, samples=samples, scored_as="correct", file="x")


def test_no_number_of_yes_or_no_questions_hides_that_half_of_them_were_never_asked(tmp_path: Path) -> None:
    _yes_or_no(tmp_path, 10, samples=20)
    scores = made.told(tmp_path, "custom").scores
    assert {one.name for one in scores} == {"accuracy", "precision", "recall", "yes_rate", "f1"}
    assert {one.value for one in scores} == {None}
    assert [made.score(scores, name).of for name in ("accuracy", "precision", "recall", "yes_rate")] == [20, 20, 15, 20]


def test_a_sample_that_only_failed_does_not_make_yes_or_no_questions_other_ones(tmp_path: Path) -> None:
    _yes_or_no(tmp_path, 39, samples=40)
    made.failures(tmp_path, "custom", "direct", ["lost"])
    scores = made.told(tmp_path, "custom").scores
    assert made.score(scores, "accuracy").value == pytest.approx(100 * 19 / 39)
    precision = made.score(scores, "precision")
    assert (precision.n, precision.of) == (39, 40)


def test_samples_that_were_never_asked_may_be_harmful_ones_too(tmp_path: Path) -> None:
    """XSTest's two labels: 4 harmless and 4 harmful questions of 40 were asked, and nobody knows which label the others have."""
    rows = [made.row(f"{i}", made.SAFE, mode=("safe", "unsafe")[i % 2]) for i in range(8)]
    rows = made.records(tmp_path, "xstest", "direct", rows, samples=40, labels=["safe", "unsafe"])
    made.judgments(tmp_path, "xstest", "direct", [made.said(row, "refused", judge="keyword", mode="keyword") for row in rows])
    scores = made.told(tmp_path, "xstest").scores
    assert {one.name: (one.value, one.n, one.of) for one in scores} == {
        "over_refusal_rate": (None, 4, 36),
        "harmless_rate_of_unsafe": (None, 4, 36),
    }


def test_a_question_whose_last_rotations_were_never_asked_is_not_right(tmp_path: Path) -> None:
    """100 questions in four rotations; of the last rotation only 95 were asked: 5 questions are open, and no other one is missing."""
    meta = {"answer": "A", "options": {letter: f"option {letter}" for letter in "ABCD"}, "l2_category": "x"}
    rows = [made.row(str(q + r * 10**6), "A", category="c", group=str(q), meta=meta) for r in range(4) for q in range(1, 101)]
    made.records(tmp_path, "mmbench", "direct", rows[:395], samples=400, file="x")
    score = made.score(made.told(tmp_path, "mmbench").scores, "circular_accuracy")
    assert (score.value, score.n, score.of, score.least, score.greatest) == (100, 95, 100, 95, 100)
