"""What decides a method's answers besides the questions, by the header of its records, and where two headers are not the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from llava.eval.metrics.material import MethodRun, TaskRun

# What two methods that stand side by side should have in common; the rest is what they are compared for.
COMMON = ("model", "data", "task options", "preset", "sampling")


def deciding(header: Mapping[str, Any]) -> dict[str, Any]:
    """By name. "sampling" is how answers are picked, "policy" what a defence does, "first answers" whether they were given."""
    method, policy = header["method"], header["method"]["policy"]
    return {
        "model": header["model"],
        "data": header["data"].get("sha256"),
        "task options": header["task"]["options"],
        "preset": method.get("preset"),
        "prompts": method.get("prompts_sha256"),
        "sampling": policy.get("answer"),
        "policy": {name: value for name, value in policy.items() if name != "answer"},
        "first answers": header.get("drafts"),
    }


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """By name, what is not the same in two headers, as JSON: of mappings only the fields that differ."""
    first, second = deciding(ours), deciding(theirs)
    found = {}
    for name, value in first.items():
        if value != second[name]:
            here, there = (json.dumps(one, sort_keys=True) for one in _apart(value, second[name]))
            found[name] = (here, there)
    return found


def unlike(task: TaskRun, run: MethodRun) -> Iterator[str]:
    """Sentences on what a method has not in common with the first of its task: sessions with other options may share a folder."""
    first = next(iter(task.methods.values()))
    for name, (ours, theirs) in differences(first.header, run.header).items():
        if name in COMMON:
            yield f"{run.method} and {first.method} cannot be compared: the {name} of the one is {theirs}, of the other {ours}."
    answers = {row["id"]: row["answer"] for row in first.rows if first.method == "direct"}
    given = {row["id"]: row["given"] for row in run.rows if row["given"] is not None and row["id"] in answers}
    if strange := sum(answers[name] != draft for name, draft in given.items()):
        yield f"{run.method} and direct cannot be compared: {strange} of {len(given)} given first answers are not those of direct."


def _apart(ours: Any, theirs: Any) -> tuple[Any, Any]:
    if not isinstance(ours, Mapping) or not isinstance(theirs, Mapping):
        return ours, theirs
    pairs = {name: _apart(ours.get(name), theirs.get(name)) for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)}
    return {name: here for name, (here, _) in pairs.items()}, {name: there for name, (_, there) in pairs.items()}
