"""What decides answers, and where two methods differ in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llava.eval.metrics.headers import differences, unlike
from llava.eval.metrics.material import load
from tests.eval.metrics import made


def header(**changes: Any) -> made.Json:
    method = {"defence": "ecso", "preset": "paper", "prompts_sha256": "p"}
    policy = {"name": "paper", "threshold": None, "answer": {"temperature": 0.0, "max_tokens": 8}}
    known = {"model": {"target": "mini"}, "data": {"sha256": "d"}, "task": {"name": "vlsafe", "options": {}, "samples": 2}, "drafts": None}
    return {**known, "method": {**method, "policy": {**policy, **changes.pop("policy", {})}}, **changes}


def test_equal_headers_have_no_difference_and_versions_and_counts_make_none() -> None:
    assert differences(header(), header()) == {}
    assert differences(header(), header(versions={"torch": "3"}, task={"name": "vlsafe", "options": {}, "samples": 9})) == {}


def test_of_settings_only_the_fields_that_differ_are_told() -> None:
    other = header(policy={"name": "guard", "threshold": 0.5, "answer": {"temperature": 0.2, "max_tokens": 8}}, drafts="given")
    assert differences(header(), other) == {
        "sampling": ('{"temperature": 0.0}', '{"temperature": 0.2}'),
        "policy": ('{"name": "paper", "threshold": null}', '{"name": "guard", "threshold": 0.5}'),
        "first answers": ("null", '"given"'),
    }
    assert differences(header(), header(data={})) == {"data": ('"d"', "null")}


def test_first_answers_that_were_given_are_those_of_direct_or_it_is_told(tmp_path: Path) -> None:
    """As the original's scripts do it: the second one takes the first answers from the first one's file."""
    made.records(tmp_path, "vlsafe", "direct", [made.row(name, f"first {name}") for name in "abc"])
    rows = [made.checked(name, f"first {name}", made.SAFE, given=f"first {name}") for name in "ab"]
    made.records(tmp_path, "vlsafe", "ecso", [*rows, made.checked("c", "x", made.SAFE, given="another")])
    made.records(tmp_path, "vlsafe", "refuse", rows, samples=3)
    (task,) = load(tmp_path)
    assert [list(unlike(task, run)) for run in task.methods.values()] == [
        [],
        ["ecso and direct cannot be compared: 1 of 3 given first answers are not those of direct."],
        [],
    ]
