"""The original's answer files: read as the first answers of a run, and written so that other people's tools go on working.

What a row holds and where it stands is the task's knowledge (`original_row`, `original_file`); here are only files.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from llava.errors import UserError
from llava.eval.records import line, lines_of, read, write_whole
from llava.eval.rows import answers_of, draft_of
from llava.eval.sample import Answers, BadRow, OnBad, Sample, Task

Json = dict[str, Any]
WRITTEN = ("direct", "ecso")  # the methods for which the original has files


def drafts(source: Path, task: Task, samples: Sequence[Sample], model: str, bad: OnBad) -> dict[str, str]:
    """The first answers that exist already, by sample id.

    `source`: a records file of ours, the folder of a run, an answer file of the original, or a folder with the original's answer files in
    their places. Answers that fit no sample are mentioned to `bad`. Raises `UserError` when there is no such file, a row has no text, or
    one file would have to hold what the original keeps in several.
    """
    if all(sample.draft is not None for sample in samples):
        return {sample.id: str(sample.draft) for sample in samples}
    if (records := source / task.name / "direct" / "records.jsonl").is_file():
        return _of_records(records, task, samples, bad)
    if source.is_file() and source.suffix != ".jsonl":
        raise UserError(f"{source} is no file of JSON lines (.jsonl), as the original's answers and our records are.")
    if source.is_file() and _is_ours(source):
        return _of_records(source, task, samples, bad)
    if source.is_file():
        _check_one_file(source, task, samples, model)
        files = {source: list(samples)}
    else:
        files = _places(source, task, samples, model)
        files = {path: some for path, some in files.items() if path.is_file()}
    if not files:
        wanted = next(iter(_places(source, task, samples[:1], model)), source)
        raise UserError(f"There are no answers at {wanted}: make them first (--methods direct), or name the file that holds them.")
    found: dict[str, str] = {}
    for path, some in files.items():
        found |= _matched(path, task, some, bad)
    return found


def _is_ours(path: Path) -> bool:
    return next(((value.get("llava_records") is not None) for _, value in lines_of(path)), False)


def _of_records(path: Path, task: Task, samples: Iterable[Sample], bad: OnBad) -> dict[str, str]:
    """Ids alone do not tell: those of people's own files are lines, and options of benchmarks change the question of an id."""
    header, rows = read(path)
    if (other := header.get("task", {}).get("name")) != task.name:
        raise UserError(f"{path} holds answers to {other}, not to {task.name}: name another file or run.")
    asked = {sample.id: _asked(sample.question, sample.picture.name if sample.picture else None) for sample in samples}
    found, unused = {}, 0
    for row in rows:
        if not row.keys() >= {"question", "picture", "given", "steps"}:
            raise UserError(f"{path} has a row that is no record of `llava eval` (id {row['id']!r}): remove that line.")
        if (draft := draft_of(row)) is None:
            continue
        if asked.get(row["id"]) == _asked(row["question"], row["picture"]):
            found[row["id"]] = draft
        else:
            unused += 1
    _mention_unused(path, unused, bad)
    return found


def _asked(question: object, picture: object) -> tuple[object, str]:
    """What tells questions of one id apart: releases lay the same pictures into other folders."""
    return question, PurePosixPath(str(picture or "")).name


def _check_one_file(source: Path, task: Task, samples: Iterable[Sample], model: str) -> None:
    """Raise `UserError` where two samples with the same key fields have files of their own: nobody could tell whose answer a row is."""
    places: dict[tuple[str, ...], tuple[str, Sample]] = {}
    for sample in samples:
        place = task.original_file(sample, model, ecso=False)
        other, first = places.setdefault(_key(task, task.original_row(sample, Answers("", ""))), (place, sample))
        if other != place:
            raise UserError(
                f"Rows of one file cannot be told apart as answers to {json.dumps(first.id)} and {json.dumps(sample.id)}, which differ in "
                f"their pictures only: put {source} into its place below a folder ({other} or {place}) and name that folder, or evaluate "
                "one of them (--task-option modes=..., scenarios=...)."
            )


def _places(root: Path, task: Task, samples: Sequence[Sample], model: str, ecso: bool = False) -> dict[Path, list[Sample]]:
    places: dict[Path, list[Sample]] = defaultdict(list)
    for sample in samples:
        places[root / task.original_file(sample, model, ecso)].append(sample)
    return places


def _matched(path: Path, task: Task, samples: Iterable[Sample], bad: OnBad) -> dict[str, str]:
    """Rows and samples have the same key fields; those that the benchmark does not tell apart are taken in order."""
    texts: dict[tuple[str, ...], deque[str]] = defaultdict(deque)
    for _, row in lines_of(path):
        text = row.get("text")
        if not isinstance(text, str) or any(name not in row for name in task.key_fields):
            wanted = ", ".join(("text", *task.key_fields))
            raise UserError(f"{path} has a row without {wanted}: it is no answer file of the original for {task.name}.")
        texts[_key(task, row)].append(text)
    found = {}
    for sample in samples:
        waiting = texts[_key(task, task.original_row(sample, Answers("", "")))]
        if waiting:
            found[sample.id] = waiting.popleft()
    _mention_unused(path, sum(map(len, texts.values())), bad)
    return found


def _mention_unused(path: Path, count: int, bad: OnBad) -> None:
    if count:
        bad(BadRow(path, 0, f"{count} answers are to none of the questions, or are second ones; they are not used", mended=True))


def _key(task: Task, row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(row.get(name)) for name in task.key_fields)


def write_originals(root: Path, task: Task, samples: Iterable[Sample], rows: Mapping[str, Json], model: str, ecso: bool) -> list[Path]:
    """Write the rows (by id) that are there as the original's files below `root`, in the benchmark's order; returns the files.

    A file that has more rows than its new content is kept beside it as `.old`, unless one that is as long is kept there already: short
    trials never cost a long run's answers. Raises `StorageError`.
    """
    written = []
    for path, some in _places(root, task, [s for s in samples if s.id in rows], model, ecso).items():
        write_rows(path, task, some, rows, model)
        written.append(path)
    return written


def write_rows(path: Path, task: Task, samples: Iterable[Sample], rows: Mapping[str, Json], model: str) -> None:
    """One such file, of samples that all have their row."""
    data = [line(task.original_row(sample, answers_of(rows[sample.id], model))) for sample in samples]
    old = path.with_name(f"{path.name}.old")
    if (there := _count(path)) > len(data) and there > _count(old):
        write_whole(old, path.read_bytes())
    write_whole(path, b"".join(data))


def _count(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0
