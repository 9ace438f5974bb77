"""The two ways that `llava bench eval` compares: as the original's scripts do it, and with the runner of `llava eval`.

Both take the samples of one opened course and note every call, so that the answers can be compared one by one. Knows no figure.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

from llava.bench.plain import Said, same
from llava.bench.setup import warmed
from llava.bench.watched import Watched
from llava.chat import Call
from llava.errors import EngineError
from llava.eval.gate import Gate
from llava.eval.provenance import Model
from llava.eval.resume import Course
from llava.eval.runner import Runner
from llava.model.loaded import Loaded


@dataclass(frozen=True, slots=True)
class Bench:
    """The model, and a folder for a workload's questions and records."""

    loaded: Loaded
    model: Model
    folder: Path


@dataclass(slots=True)
class Done:
    """What one way gave: seconds of all, every call by sample, answers by method and sample."""

    seconds: float = 0.0
    calls: dict[str, list[tuple[Call, Said]]] = field(default_factory=dict)
    answers: dict[tuple[str, str], str] = field(default_factory=dict)


def in_the_scripts_way(bench: Bench, course: Course, verdict: str) -> Done:
    """Two passes, as `gen_vlsafe.sh` and `gen_vlsafe_tell_ask.sh` make them; the second reads the answers of the first."""
    plain, done = warmed(bench.loaded), Done()
    begin = time.perf_counter()
    for method in course.shelves:
        with (bench.folder / f"{method}.jsonl").open("w", encoding="utf-8") as file:
            for _, sample in course.samples:
                chat = sample.chat()
                draft = done.answers.get(("direct", sample.id))
                calls, outcome = plain.run(course.preset.method(method, sample, chat), chat, verdict, draft)
                done.calls.setdefault(sample.id, []).extend(calls)
                done.answers[method, sample.id] = outcome.answer
                file.write(json.dumps({"id": sample.id, "text": outcome.answer}) + "\n")
                file.flush()
    done.seconds = time.perf_counter() - begin
    return done


def with_the_runner(engine: Watched, course: Course, most: int) -> float:
    """Seconds from the first question to closed records; raises `EngineError` when a sample failed."""
    begin = time.perf_counter()
    asyncio.run(Runner(engine, course.preset, course, Gate(most, most)).run(course.startable()))
    course.finish()
    seconds = time.perf_counter() - begin
    if failures := [failure for shelf in course.shelves.values() for failure in shelf.failures.values()]:
        raise EngineError(f"{len(failures)} samples failed, the first with: {failures[0]['error']}")
    return seconds


def equal(plain: Done, engine: Watched, answers: dict[tuple[str, str], str], name: str) -> bool:
    """Whether every call of the sample `name` said the same in both ways, and the recorded answers are the plain way's."""
    calls = all(call in engine.said and same(call, said, engine.said[call]) for call, said in plain.calls[name])
    return calls and all(answers[key] == text for key, text in plain.answers.items() if key[1] == name)
