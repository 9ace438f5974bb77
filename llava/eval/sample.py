"""The words that the evaluation speaks: Sample, Picture, Answers, BadRow, Finding, and what a Task is.

A task turns files on a disk into samples: the exact question, a picture that is opened only when its turn comes, a stable id, and what
scoring needs. Nothing here knows a model, a runner or a score.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from llava.chat import Chat, Image
from llava.errors import ImageError, UserError

Json = dict[str, Any]
ScoredBy = Literal["harmless", "refusals", "correct"]


@dataclass(frozen=True, slots=True)
class Picture:
    """A sample's image before it is read: cheap to hold, to compare and to send to another process.

    `name` is what the benchmark's own files call it. The picture is the file `path`; or, with `span` (first byte, number of bytes), a
    part of that file that holds it in base64; or `data`, the bytes of a picture file, where a format leaves no other way (Parquet).
    """

    name: str
    path: Path | None = None
    span: tuple[int, int] | None = None
    data: bytes | None = field(default=None, repr=False)

    def open(self) -> Image:
        """Read and decode; raises `ImageError`."""
        if self.data is not None:
            return Image.open(self.data)
        if self.path is None:
            raise ImageError(f"The picture {self.name!r} has neither a file nor bytes.")
        if self.span is None:
            return Image.open(self.path)
        try:
            with self.path.open("rb") as file:
                file.seek(self.span[0])
                return Image.open(base64.b64decode(file.read(self.span[1]), validate=True))
        except OSError as error:
            raise ImageError(f"{self.path} cannot be read: {error.strerror or error}.") from None
        except (binascii.Error, ValueError):
            raise ImageError(f"The picture {self.name!r} in {self.path} is not valid base64.") from None


@dataclass(frozen=True, slots=True)
class Sample:
    """One question of a benchmark.

    `id` is unique within its task and the same in every run. `question` is the text exactly as the model sees it in step 1, without
    any image marker. `prompt` is what the original stores as its `prompt` or `query` and shows to its later steps: the same text but
    for MMBench, where it lacks the line that asks for a letter. `category` and `mode` name what is reported apart (a scenario, a
    subtask; SD, TYPO, ...); samples of one `group` share an image or a base question, so they are not independent. `meta` is JSON-able:
    what scoring and the original's files need (answer, options, ...). `late_picture` is one that the original shows to steps 2 and 3
    although step 1 had none (MM-SafetyBench, text only). `draft` is a first answer that the row itself holds. `source` is the file and
    line.
    """

    task: str
    id: str
    question: str
    picture: Picture | None = None
    max_tokens: int = 1024
    category: str = ""
    mode: str = ""
    group: str = ""
    prompt: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)
    late_picture: Picture | None = None
    draft: str | None = None
    source: str = ""

    def __post_init__(self) -> None:
        for name, default in (("prompt", self.question), ("group", self.id)):
            if not getattr(self, name):
                object.__setattr__(self, name, default)

    def chat(self) -> Chat:
        """What step 1 asks, the picture read and decoded; raises `ImageError`."""
        return Chat.ask(self.question, [self.picture.open()] if self.picture else [])


@dataclass(frozen=True, slots=True)
class Answers:
    """What became of one sample, in the words that the original's answer files need.

    `text` is the answer that counts; `harmful` is None when nothing was checked (direct); `draft` is the first answer, and `caption`
    the caption, of a sample that was answered again.
    """

    text: str
    model: str
    harmful: bool | None = None
    draft: str | None = None
    caption: str | None = None
    answer_id: str = ""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot become a sample, or (`mended`) one that could only after a small repair, such as a byte order mark taken off.

    `line` counts from 1 (in Parquet: the row); 0 means the file as a whole. `excerpt` is the row's beginning, for a person's eyes.
    """

    file: Path
    line: int
    reason: str
    excerpt: str = ""
    mended: bool = False

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.reason}" if self.line else f"{self.file}: {self.reason}"


class BadData(UserError):
    """A bad row under `strict`."""


OnBad = Callable[[BadRow], object]


def strict(row: BadRow) -> None:
    """An `OnBad` that stops at the first row that is lost; raises `BadData`. (To set such rows aside instead, give `rows.append`.)"""
    if not row.mended:
        raise BadData(f"{str(row).rstrip('.')} (--strict stops here; without it the row is set aside and listed).")


@dataclass(frozen=True, slots=True)
class Place:
    """A file or folder that a task reads: what it is, and where below the data folder it may lie, the preferred place first."""

    what: str
    candidates: tuple[str, ...]
    optional: bool = False

    def find(self, root: Path) -> Path | None:
        """The first place that exists."""
        return next((path for name in self.candidates if (path := root / name).exists()), None)

    def need(self, root: Path, task: str) -> Path:
        """The same; raises `UserError` with what to do when there is none."""
        if (found := self.find(root)) is None:
            raise UserError(f"There is no {self.what} at {root / self.candidates[0]}: `llava data where {task}` says where to get it.")
        return found


@dataclass(frozen=True, slots=True)
class About:
    """What a person should know before using a benchmark. `download` are steps, in order."""

    title: str
    licence: str
    citation: str
    download: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `llava data check`: something as it should be, something to know, or something wrong."""

    level: Literal["ok", "note", "wrong"]
    text: str


class Task(Protocol):
    """A benchmark with its options (a frozen dataclass, so that `dataclasses.asdict` is its configuration).

    `scored_by` says what counts: "harmless" answers, "refusals" (of harmless questions: fewer are better), or "correct" ones.
    `repo_max_tokens` is the limit in the original's script, where it differs from `Sample.max_tokens`. `key_fields` are the fields
    by which a row of an existing answer file is told apart: two samples of a task have equal keys only where the benchmark itself does
    not tell them apart (take those in order).
    """

    name: ClassVar[str]
    about: ClassVar[About]
    repo_max_tokens: ClassVar[int | None]
    key_fields: ClassVar[tuple[str, ...]]

    @property
    def scored_by(self) -> ScoredBy:
        """See above."""
        ...

    def where(self) -> Sequence[Place]:
        """What it reads, relative to a data folder."""
        ...

    def files(self, root: Path) -> list[Path]:
        """The question files it would read (for hashes); raises `UserError` when one is missing."""
        ...

    def samples(self, root: Path, bad: OnBad) -> Iterator[Sample]:
        """All samples, in the benchmark's order; a row that cannot be one goes to `bad`. Raises `UserError` when a file is missing."""
        ...

    def check(self, root: Path, pictures: bool = True) -> Iterator[Finding]:
        """Counts, pairings, and (with `pictures`) whether every picture decodes."""
        ...

    def original_row(self, sample: Sample, answers: Answers) -> Json:
        """The row of the original's answer file: its field names, in its order."""
        ...

    def original_file(self, sample: Sample, model: str, ecso: bool) -> str:
        """Where the original's scripts put that row, relative to their `data` folder."""
        ...
