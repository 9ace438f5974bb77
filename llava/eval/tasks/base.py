"""What benchmarks have in common: finding files, rows into samples, pictures below a folder, LLaVA's answer rows.

A benchmark is a frozen dataclass on `Benchmark`; it says where its files lie (`places`), which rows they hold (`rows`) and what sample a
row makes (`sample`). Whatever is wrong with a row it says by raising `RowError`. Knows no model.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import ClassVar

from llava.eval.readers import Row, RowError
from llava.eval.sample import About, Answers, Finding, Json, OnBad, Picture, Place, Sample, ScoredBy
from llava.eval.tasks.checking import findings

# Cells that pandas, with which the original reads tables, takes for missing, in its spellings: "Na" is sodium.
MISSING = frozenset(
    ["", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL", "n/a", "null"]
)
MISSING_IN_ANY_CASE = frozenset(["nan", "none"])  # LLaVA's own rule


@dataclass(frozen=True)
class Benchmark(ABC):
    """A `Task` but for its data. `published` counts the samples of the published set: "all", and by category; `md5` are published sums."""

    name: ClassVar[str]
    about: ClassVar[About]
    places: ClassVar[Mapping[str, Place]]
    published: ClassVar[Mapping[str, int]] = {}
    md5: ClassVar[Mapping[str, str]] = {}
    kind: ClassVar[ScoredBy] = "harmless"
    repo_max_tokens: ClassVar[int | None] = None
    key_fields: ClassVar[tuple[str, ...]] = ("question_id",)

    @property
    def scored_by(self) -> ScoredBy:
        """What counts."""
        return self.kind

    @abstractmethod
    def rows(self, root: Path, bad: OnBad) -> Iterator[Row]:
        """The rows that become samples, in order; raises `UserError` when a file is missing."""

    @abstractmethod
    def sample(self, root: Path, row: Row) -> Sample:
        """The sample of one row; raises `RowError`."""

    def where(self) -> Sequence[Place]:
        """What it reads, relative to a data folder."""
        return tuple(self.places.values())

    def need(self, root: Path, place: str) -> Path:
        """One of its places; raises `UserError`."""
        return self.places[place].need(root, self.name)

    def files(self, root: Path) -> list[Path]:
        """The question files it would read."""
        return [self.need(root, "questions")]

    def samples(self, root: Path, bad: OnBad) -> Iterator[Sample]:
        """All samples; a row that cannot be one, or has the id of another, goes to `bad`."""
        seen: dict[str, str] = {}
        for row in self.rows(root, bad):
            try:
                made = self.sample(root, row)
            except RowError as error:
                bad(row.bad(str(error)))
                continue
            if made.id in seen:
                bad(row.bad(f"the id {made.id!r} is there already ({seen[made.id]})"))
                continue
            seen[made.id] = row.source
            yield replace(made, source=row.source)

    def check(self, root: Path, pictures: bool = True) -> Iterator[Finding]:
        """Counts, sums, and whether every picture decodes."""
        return findings(self, root, self.expected(), self.md5, pictures)

    def expected(self) -> Mapping[str, int]:
        """How many samples the published set has with these options: "all", and by category."""
        return self.published

    def original_row(self, sample: Sample, answers: Answers) -> Json:
        """As LLaVA's `model_vqa_loader` writes it, and ECSO's `model_vqa_ask_unsafe` goes on with it."""
        return loader_row(sample.id, sample, answers)

    def original_file(self, sample: Sample, model: str, ecso: bool) -> str:
        """Relative to the original's `data` folder."""
        return f"{self.name}/{model}/{'tell_ask' if ecso else 'q'}/merge.jsonl"


def loader_row(question_id: object, sample: Sample, answers: Answers, between: Mapping[str, object] | None = None) -> Json:
    """LLaVA's row of an answer file, with the fields `between` in their place; `safe` and what follows it are ECSO's."""
    row = {"question_id": question_id, "prompt": sample.prompt, "text": answers.text, **(between or {})}
    row |= {"answer_id": answers.answer_id, "model_id": answers.model, "metadata": {}}
    if answers.harmful is not None:
        row["safe"] = "unsafe" if answers.harmful else "safe"
    return row | revised(answers)


def revised(answers: Answers) -> Json:
    """The fields that ECSO adds to a row that was answered again."""
    return {"caption": answers.caption, "unsafe_answer": answers.draft} if answers.harmful and answers.draft is not None else {}


def below(folder: Path, name: str) -> Path:
    """The file of that name below `folder`; raises `RowError` for a name that leads elsewhere, and when there is no such file."""
    if not name or re.match(r"/|[A-Za-z]:", name) or re.search(r"[\0\\]", name) or ".." in PurePosixPath(name).parts:
        raise RowError(f"{name[:100]!r} is not the name of a file below {folder}")
    path = folder / name
    try:
        there = path.is_file()
    except OSError:  # a name too long for the file system
        there = False
    if not there:
        raise RowError(f"there is no file {path}"[:300])
    return path


def picture(folder: Path, name: str) -> Picture:
    """The picture file of that name below `folder`; raises `RowError` like `below`."""
    return Picture(name, below(folder, name))


def numbered(rows: Iterable[Row], *names: str) -> Iterator[Row]:
    """The rows with their `nth`: how many rows before it have the same in the fields `names` (from 0)."""
    counts: Counter[str] = Counter()
    for row in rows:
        key = repr([row.data.get(name) for name in names])
        yield replace(row, nth=counts[key])
        counts[key] += 1


def missing(cell: object) -> bool:
    """Whether a table's cell is empty, or says NaN or None, as pandas and LLaVA see it."""
    if isinstance(cell, str):
        return cell.strip() in MISSING or cell.strip().lower() in MISSING_IN_ANY_CASE
    return cell is None or (isinstance(cell, float) and cell != cell)
