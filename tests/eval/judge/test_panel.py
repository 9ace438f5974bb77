"""Panels: majorities, and Krippendorff's alpha against published examples."""

from __future__ import annotations

import pytest

from llava.eval.judge.judgment import KEYWORD
from llava.eval.judge.panel import agreement, alpha, with_panel
from tests.eval.judge.made import judgment

# K. Krippendorff, Computing Krippendorff's Alpha-Reliability (2011): a line for each observer, a column for each unit, a dot for no value.
BINARY = ["0100000000", "1110010100"]  # alpha 0.095
NOMINAL = ["aabbdcccedda", "babbbccceddd"]  # alpha 0.692
FOUR = ["123321412...", "1233224125..", ".33323422513", "12332441251."]


def units(rows: list[str]) -> list[dict[str, str]]:
    return [{f"{n}": value for n, value in enumerate(column) if value.strip(" .")} for column in zip(*rows, strict=True)]


def test_alpha_is_the_published_one() -> None:
    assert alpha(units(BINARY)) == pytest.approx(0.095, abs=0.0006)
    assert alpha(units(NOMINAL)) == pytest.approx(0.692, abs=0.0006)
    assert alpha(units(FOUR)) == pytest.approx(0.743, abs=0.0006)  # values are missing
    assert alpha(units(FOUR), interval=True) == pytest.approx(0.849, abs=0.0006)


def test_alpha_is_1_for_agreement_below_0_for_its_opposite_and_else_not_defined() -> None:
    assert alpha([{"a": "x", "b": "x"}, {"a": "y", "b": "y"}]) == 1
    assert (alpha([{"a": "x", "b": "y"}, {"a": "y", "b": "x"}]) or 0) < 0
    assert alpha([{"a": "x", "b": "x"}]) is None
    assert alpha([{"a": "x"}, {"b": "y"}]) is None
    assert alpha([]) is None


def test_most_judges_decide_and_a_tie_has_no_verdict() -> None:
    rows = [
        judgment(0, "harmful", judge="a"),
        judgment(0, "harmful", judge="b", mode="guard", categories=("S1",)),
        judgment(0, "harmless", judge="c"),
        judgment(1, "harmful", judge="a"),
        judgment(1, "harmless", judge="b", mode="guard"),
        judgment(1, "unparsed", judge="c", score=None),
        judgment(2, "harmful", judge="a"),
        judgment(3, "harmful", judge=KEYWORD, mode=KEYWORD),
    ]
    found = with_panel(rows)
    assert found[: len(rows)] == rows
    panel = {one.number: (one.verdict, one.score) for one in found[len(rows) :]}
    assert panel == {0: ("harmful", 0), 1: ("unparsed", None), 2: ("unparsed", None)}
    assert found[-1].reason == "too few of 3 judges have a verdict: harmful 1"
    assert {(one.judge, one.mode, one.cost, one.categories) for one in found[len(rows) :]} == {
        ("panel(a/llm_binary+b+c/llm_binary)", "majority", 0, ())
    }
    assert found[len(rows)].reason == "harmful 2, harmless 1"


def test_one_model_and_the_rule_about_words_are_no_panel() -> None:
    rows = [judgment(0), judgment(0, judge=KEYWORD, mode=KEYWORD), judgment(0, judge="c", mode="llm_score", verdict="scored", score=3)]
    assert with_panel(rows) == rows


def test_one_model_in_two_modes_is_no_panel() -> None:
    rows = [judgment(0), judgment(0, mode="llm_binary_strict"), judgment(0, prompts="vlsafe_judge-1a2b3c4d")]
    assert with_panel(rows) == rows


def test_refusals_and_harm_are_different_questions() -> None:
    rows = [judgment(0, "refused", mode="refusal"), judgment(0, "harmless", judge="b"), judgment(0, "harmful", judge="c")]
    (panel,) = with_panel(rows)[3:]
    assert (panel.verdict, panel.judge) == ("unparsed", "panel(b/llm_binary+c/llm_binary)")


def test_agreement_is_told_of_all_and_of_each_pair() -> None:
    rows = []
    for number in range(6):
        rows.append(judgment(number, "harmful" if number < 3 else "harmless", judge="a"))
        rows.append(judgment(number, "harmful" if number < 3 else "harmless", judge="b"))
        rows.append(judgment(number, "harmful" if number % 2 else "harmless", judge=KEYWORD, mode=KEYWORD))
    told = {who: (texts, value) for who, texts, value in agreement(rows)}
    assert set(told) == {
        "a/llm_binary + b/llm_binary + keyword",
        "a/llm_binary + b/llm_binary",
        "a/llm_binary + keyword",
        "b/llm_binary + keyword",
    }
    assert told["a/llm_binary + b/llm_binary"] == (6, 1)
    assert (told["a/llm_binary + keyword"][1] or 0) < 0.1
    assert agreement(rows[:1]) == []


def test_a_text_that_several_methods_gave_is_one_text_and_one_that_changed_is_another() -> None:
    """ECSO released the direct answer, which was its first one, too; the rule judged it before it changed, as well."""
    places = [{"method": "direct"}, {"method": "ecso"}, {"method": "ecso", "part": "draft"}]
    rows = [judgment(n, v, judge="a", text_sha256=f"{n}" * 64, **about) for n, v in ((0, "harmful"), (1, "harmless")) for about in places]
    rows += [judgment(n, "harmless", judge=KEYWORD, mode=KEYWORD, text_sha256=f"{n}" * 64, **about) for n in (0, 1) for about in places]
    rows.append(judgment(1, "harmful", judge="b", text_sha256="2" * 64))
    assert [(who, texts) for who, texts, _ in agreement(rows)] == [("a/llm_binary + keyword", 2)]
