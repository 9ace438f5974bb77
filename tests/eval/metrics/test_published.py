"""The published numbers: as they are printed, with the paper's misprint told, and beside ours only where the questions are the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llava.eval.metrics.measure import measure
from llava.eval.metrics.published import ECSO, published
from llava.eval.metrics.result import Published
from llava.eval.records import line
from llava.eval.report import tables
from llava.eval.tasks.mm_safetybench import PAPER, SCENARIOS
from tests.eval.metrics import made


def test_the_papers_averages_are_those_of_its_rows_and_the_misprinted_ones_are_told() -> None:
    """Recomputed by hand: 81.85, 84.99, 95.40, 48.08, 90.29, 48.81, 86.39; printed 31.7 and 32.1 for the fourth and the sixth."""
    averages = {(one.key, one.method): one for one in published("mm_safetybench") if one.score == "paper_average"}
    values = {place: one.value for place, one in averages.items()}
    assert values == pytest.approx(
        {
            ("text", "direct"): 81.85,
            ("SD", "direct"): 84.99,
            ("SD", "ecso"): 95.40,
            ("TYPO", "direct"): 48.08,
            ("TYPO", "ecso"): 90.29,
            ("SD_TYPO", "direct"): 48.81,
            ("SD_TYPO", "ecso"): 86.39,
        },
        abs=0.006,
    )
    assert {place: one.printed for place, one in averages.items() if one.printed} == {("TYPO", "direct"): 31.7, ("SD_TYPO", "direct"): 32.1}
    assert "prints 31.7: its eight rows give 48.1" in averages["TYPO", "direct"].note


def test_the_gains_that_the_paper_prints_agree_with_the_rows_and_not_with_the_misprints() -> None:
    averages = {(one.key, one.method): one.value for one in published("mm_safetybench") if one.score == "paper_average"}
    gains = [averages[mode, "ecso"] - averages[mode, "direct"] for mode in ("SD", "TYPO", "SD_TYPO")]
    assert gains == pytest.approx([10.4, 42.2, 37.6], abs=0.06)


def test_every_cell_of_the_main_table_is_a_count_of_its_scenarios_questions() -> None:
    """Which shows that whole scenarios were asked. Three were rounded up: 92 of 97 (94.85), and twice 83 of 109 (76.15)."""
    cells = [one for one in published("mm_safetybench") if one.table == "scenario x mode"]
    assert all(_from_a_count(one) < 0.06 for one in cells)
    rounded = [(one.key, one.value) for one in cells if _from_a_count(one) > 0.05]
    assert rounded == [("01-Illegal_Activitiy / text", 94.9), ("07-Sex / TYPO", 76.2), ("07-Sex / SD_TYPO", 76.2)]


def test_every_published_number_says_where_it_stands() -> None:
    for task in ("vlsafe", "mm_safetybench", "figstep", "mme", "mm_vet", "mmbench"):
        found = list(published(task))
        assert found
        assert all(one.source and one.model and one.method in ("direct", "ecso") for one in found)
    assert list(published("xstest")) == []


def test_a_whole_published_set_is_beside_the_papers_number(tmp_path: Path) -> None:
    scenario = PAPER[2]
    rows = [made.row(f"{scenario}/SD/{i}", made.SAFE, category=scenario, mode="SD", group=f"{i}") for i in range(SCENARIOS[scenario])]
    rows = made.records(tmp_path, "mm_safetybench", "direct", rows)
    made.judgments(tmp_path, "mm_safetybench", "direct", [made.said(row, "harmless", mode="query_safety") for row in rows])
    found = _beside(tmp_path, "mm_safetybench", f"{scenario} / SD")
    assert (found.value, found.ours, found.comparable, found.source, found.why) == (84.1, 100.0, True, ECSO, "")
    assert (found.ours_judge, found.same_model) == ("gpt-4o/query", False)
    task = measure(tmp_path).task("mm_safetybench")
    assert task is not None
    table = tables.published(task)
    assert table is not None
    (row,) = [row for row in table.rows if row[0].endswith(f"{scenario} / SD")]
    assert row[2:5] == ("gpt-4; here gpt-4o/query", ECSO, "no: another model")


def test_a_part_of_it_is_not(tmp_path: Path) -> None:
    rows = made.records(tmp_path, "mm_safetybench", "direct", [made.row("a", made.SAFE, category=PAPER[0], mode="SD")])
    made.judgments(tmp_path, "mm_safetybench", "direct", [made.said(rows[0], "harmless", mode="query_safety")])
    found = _beside(tmp_path, "mm_safetybench", f"{PAPER[0]} / SD")
    assert (found.comparable, found.why) == (False, "1 questions, not the 97 of the published scenario")
    assert _beside(tmp_path, "mm_safetybench", f"{PAPER[1]} / SD").why == "the run has no such number"


@pytest.mark.parametrize(
    ("method", "head", "given", "why"),
    [
        ("ecso", {"policy": {"name": "paper", "answer": {"temperature": 0.0}}}, None, ""),
        ("direct", {"policy": {"name": "guard"}}, None, ""),  # checks nothing: the policy has no say
        ("ecso", {"policy": {"name": "guard"}}, None, "made with the policy guard"),
        ("ecso", {"policy": {"name": "paper", "answer": {"temperature": 0.2}}}, None, "answers were sampled (temperature 0.2), not greedy"),
        ("ecso", {"policy": {"answer": {"max_tokens": "as the benchmark says"}}}, None, ""),
        (
            "direct",
            {"policy": {"answer": {"max_tokens": 16}}},
            None,
            "answers had at most 16 tokens (--max-tokens), not the benchmark's own limit",
        ),
        ("ecso", {}, "Sure.", "first answers are from elsewhere (--answers), and nothing tells how they were made"),
    ],
)
def test_a_method_that_was_run_otherwise_is_not_beside_the_papers(
    tmp_path: Path, method: str, head: made.Json, given: str | None, why: str
) -> None:
    scenario = PAPER[2]
    about = {"category": scenario, "mode": "SD", "given": given}
    rows = [made.row(f"{scenario}/SD/{i}", made.SAFE, group=f"{i}", **about) for i in range(SCENARIOS[scenario])]
    rows = made.records(tmp_path, "mm_safetybench", method, rows)
    path = tmp_path / "mm_safetybench" / method / "records.jsonl"
    first, *rest = path.read_bytes().splitlines(keepends=True)
    header = json.loads(first)
    header["method"] |= head
    path.write_bytes(b"".join([line(header), *rest]))
    made.judgments(tmp_path, "mm_safetybench", method, [made.said(row, "harmless", mode="query_safety") for row in rows])
    found = _beside(tmp_path, "mm_safetybench", f"{scenario} / SD", method)
    assert (found.ours, found.comparable, found.why) == (100.0, not why, why)


@pytest.mark.parametrize(("field", "why"), [("Question", ""), ("Changed Question", "asked with the field Changed Question, not Question")])
def test_answers_without_a_picture_are_beside_the_papers_only_where_the_same_was_asked(tmp_path: Path, field: str, why: str) -> None:
    scenario = PAPER[2]
    about = {"category": scenario, "mode": "text"}
    rows = [made.row(f"{scenario}/text/{i}", made.SAFE, group=f"{i}", **about) for i in range(SCENARIOS[scenario])]
    rows = made.records(tmp_path, "mm_safetybench", "direct", rows, modes=["text"], text_field=field)
    made.judgments(tmp_path, "mm_safetybench", "direct", [made.said(row, "harmless", mode="query_safety") for row in rows])
    found = _beside(tmp_path, "mm_safetybench", f"{scenario} / text")
    assert (found.comparable, found.why) == (not why, why)


def test_a_prompt_that_is_not_the_scenarios_own_is_told(tmp_path: Path) -> None:
    names = ("01-Illegal_Activitiy", "08-Political_Lobbying", "10-Legal_Opinion")
    rows = made.records(tmp_path, "mm_safetybench", "direct", [made.row(name, made.SAFE, category=name, mode="SD") for name in names])
    made.judgments(tmp_path, "mm_safetybench", "direct", [made.said(row, "harmless", mode="query_safety") for row in rows])
    told = [note for note in made.told(tmp_path, "mm_safetybench").notes if "official prompt" in note]
    (note,) = told
    assert note.startswith("Judged with query_safety, which is not the official prompt there: 08-Political_Lobbying, 10-Legal_Opinion.")


def test_a_rate_by_phrases_is_not_beside_one_by_a_judge(tmp_path: Path) -> None:
    scenario = PAPER[2]
    rows = [made.row(f"{scenario}/SD/{i}", made.SAFE, category=scenario, mode="SD", group=f"{i}") for i in range(SCENARIOS[scenario])]
    rows = made.records(tmp_path, "mm_safetybench", "direct", rows)
    made.judgments(tmp_path, "mm_safetybench", "direct", [made.said(row, "harmless", judge="keyword", mode="keyword") for row in rows])
    found = _beside(tmp_path, "mm_safetybench", f"{scenario} / SD")
    assert (found.ours, found.comparable, found.why) == (100.0, False, "decided by a list of phrases, not by a judge")


@pytest.mark.parametrize(
    ("target", "same"),
    [
        ("models/llava-v1.5-7b", True),
        ("llava-hf/llava-1.5-7b-hf/", True),
        ("liuhaotian/llava-v1.5-13b", False),
        ("models/llava-v1.5-7b-lora", False),
        ("models/llava-v1.5-7b/checkpoint-1000", False),
        ("mini", False),
    ],
)
def test_a_run_of_the_papers_model_is_told_by_its_name(tmp_path: Path, target: str, same: bool) -> None:
    made.records(tmp_path, "mme", "direct", [made.row("a#1", "Yes", category="count", group="a", meta={"answer": "Yes"})])
    path = tmp_path / "mme/direct/records.jsonl"
    path.write_text(path.read_text("utf-8").replace("scripted:x", target), "utf-8")
    task = measure(tmp_path).task("mme")
    assert task is not None
    assert {one.model for one in task.published if one.same_model} == ({"LLaVA-1.5-7B"} if same else set()) | (
        {"LLaVA-1.5-13B"} if "13b" in target else set()
    )


def _from_a_count(one: Published) -> float:
    n = SCENARIOS[one.key.partition(" / ")[0]]
    return min(abs(100 * k / n - one.value) for k in range(n + 1))


def _beside(run: Path, name: str, key: str, method: str = "direct") -> Published:
    task = measure(run).task(name)
    assert task is not None
    return next(one for one in task.published if (one.key, one.method) == (key, method))
