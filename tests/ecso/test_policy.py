"""Policies: named, validated, and how they cut long answers into parts."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llava.ecso import GUARD, PAPER, POLICIES, Policy
from llava.ecso.policy import policy_named
from llava.errors import UserError


def test_policies_are_found_by_name_and_unknown_names_list_the_known_ones() -> None:
    assert policy_named("paper") is PAPER
    assert policy_named(GUARD) is GUARD
    with pytest.raises(UserError, match=r"Unknown policy 'gaurd': there is paper, guard\. Did you mean guard\?"):
        policy_named("gaurd")
    assert set(POLICIES) == {"paper", "guard"}


def test_paper_is_the_published_method() -> None:
    assert PAPER.answer.temperature == 0.0
    assert (PAPER.rule, PAPER.threshold, PAPER.recheck, PAPER.window, PAPER.check_first) == ("bare-yes", None, False, None, None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rule": "maybe"},
        {"window": 10, "overlap": 10},
        {"window": 10, "overlap": -1},
        {"check_first": 0},
        {"check_tokens": 0},
        {"check_tokens": 9, "check_tokens_most": 8},
        {"caption_tokens": 0},
        {"caption_tokens": "9"},
        {"check_tokens": 4.0},
        {"check_tokens": None},
        {"check_tokens": True},
        {"top_logprobs": "all"},
        {"top_logprobs": -1},
        {"overlap": -1},
        {"window": "10"},
        {"overlap": None, "window": 9},
        {"check_first": 1.5},
        {"threshold": "0.5"},
        {"threshold": True},
        {"rule": []},
        {"answer": {"max_tokens": 5}},
        {"recheck": "no"},
        {"disarm": 1},
        {"all_questions": None},
        {"refusal": None},
        {"refusal": " "},
        {"name": ""},
    ],
)
def test_values_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        Policy(**{"name": "mine", **wrong})


@pytest.mark.parametrize(
    "wrong", [{"max_tokens": "5"}, {"max_tokens": 2.5}, {"temperature": "hot"}, {"temperature": 9}, {"top_p": True}, {"stop": 5}]
)
def test_sampling_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        PAPER.answering(**wrong)


def test_top_p_alone_asks_to_sample() -> None:
    def asked(policy: Policy = PAPER, **changes: object) -> tuple[float, float]:
        answer = policy.answering(**changes).answer
        return answer.temperature, answer.top_p

    assert asked(top_p=0.9) == (1.0, 0.9)
    assert asked(PAPER.answering(temperature=0.5), top_p=0.9) == (0.5, 0.9)
    assert asked(temperature=0.2, top_p=0.9) == (0.2, 0.9)
    assert asked(temperature=0, top_p=0.9) == (0, 0.9)  # said so
    assert asked(top_p=1.0) == asked(top_p=1) == (0.0, 1.0)  # all tokens: many clients send that by themselves


@given(st.text(max_size=300), st.integers(1, 40), st.data())
def test_windows_cover_every_run_of_the_overlaps_length(answer: str, window: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, window - 1))
    parts = Policy(name="mine", window=window, overlap=overlap).parts(answer)
    assert all(len(part) <= window for part in parts)
    for length in {1, overlap} - {0}:
        for start in range(len(answer) - length + 1):
            assert any(answer[start : start + length] in part for part in parts)
    joined = parts[0] + "".join(part[overlap:] for part in parts[1:])
    assert joined == answer


def test_the_originals_cut_is_a_field() -> None:
    assert [len(part) for part in Policy(name="repo", check_first=1927).parts("x" * 5000)] == [1927]
    assert [len(part) for part in PAPER.parts("x" * 5000)] == [5000]
    assert [len(part) for part in GUARD.parts("x" * 5000)] == [1600, 1600, 1600, 1400]
