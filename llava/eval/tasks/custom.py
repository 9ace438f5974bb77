"""Anyone's own questions: JSON lines, JSON, CSV, TSV or Parquet, one question a row, with or without a picture.

    llava eval --tasks custom --task-option file=mine.csv --task-option scored_as=refusals --out runs/mine

The usual names of columns are found by themselves; `question`, `image`, `id`, `category` and `answer` name others. A picture is a path
below `images` (by default the file's own folder), a `data:` URL, base64, or what the Hub puts into Parquet.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from llava.errors import UserError, unknown
from llava.eval.readers import Row, RowError, rows
from llava.eval.sample import About, BadRow, OnBad, Picture, Place, Sample, ScoredBy
from llava.eval.tasks.base import Benchmark, missing, picture

COLUMNS = {
    "question": ("question", "text", "prompt", "query", "instruction"),
    "image": ("image", "image_path", "image_id", "image_file", "file_name"),
    "id": ("id", "question_id", "pid", "index"),
    "category": ("category", "type", "scenario"),
    "answer": ("answer", "label", "ground_truth"),
}
KINDS: dict[str, ScoredBy] = {"harmless": "harmless", "refusals": "refusals", "correct": "correct"}
_MARKER = re.compile(r"^\s*<image>\s*|\s*<image>\s*$")
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]{200,}={0,2}\s*")


@dataclass(frozen=True)
class Custom(Benchmark):
    """`file` is a path, or a path below the data folder. `scored_as` is "harmless", "refusals" or "correct"."""

    file: str = ""
    images: str = ""
    question: str = ""
    image: str = ""
    id: str = ""
    category: str = ""
    answer: str = ""
    scored_as: str = "harmless"

    name = "custom"
    about = About("your own questions, one a row", "yours", "", ("nothing: name your file with --task-option custom.file=...",))
    places: ClassVar = {}

    def __post_init__(self) -> None:
        if self.scored_as not in KINDS:
            raise unknown("scored_as", self.scored_as, KINDS)

    @property
    def scored_by(self) -> ScoredBy:
        """What counts."""
        return KINDS[self.scored_as]

    def where(self) -> Sequence[Place]:
        """The file, below the data folder or as a path of its own."""
        if not self.file:
            return [Place("file of questions", ("(none is named: --task-option custom.file=...)",))]
        return [Place("file of questions", (self.file, str(Path(self.file).absolute())))]

    def files(self, root: Path) -> list[Path]:
        """The file."""
        if not self.file:
            raise UserError("Name your file of questions: --task-option custom.file=mine.jsonl (or .json, .csv, .tsv, .parquet).")
        return [self.where()[0].need(root, self.name)]

    def rows(self, root: Path, bad: OnBad) -> Iterator[Row]:
        """Every row, under the names of `COLUMNS`. Rows of JSON need not all have the same fields: each is looked at by itself."""
        columns: dict[str, None] = {}  # in the order of the file
        for row in rows(self.files(root)[0], bad):
            columns |= dict.fromkeys(map(str, row.data))
            names = {ours: self._name(ours, usual, row) for ours, usual in COLUMNS.items()}
            yield replace(row, data={ours: row.data.get(theirs) if theirs else None for ours, theirs in names.items()})
        if columns:
            self._named_rightly(self.files(root)[0], columns)
            self._mention_blind(self.files(root)[0], columns, bad)

    def _name(self, ours: str, usual: Sequence[str], row: Row) -> str:
        named: str = getattr(self, ours)
        return named or next((name for name in usual if name in row.data), "")

    def _named_rightly(self, file: Path, columns: Mapping[str, None]) -> None:
        for ours, usual in COLUMNS.items():
            named = getattr(self, ours)
            if named and named not in columns:
                raise unknown("column", named, columns)
            if ours == "question" and not named and not any(name in columns for name in usual):
                raise UserError(
                    f"{file} has no column of questions (it has: {', '.join(columns)}); name it: --task-option custom.question=..."
                )

    def _mention_blind(self, file: Path, columns: Mapping[str, None], bad: OnBad) -> None:
        """A column of pictures under a name that nobody knows would be asked about blindly."""
        known = {name for ours, usual in COLUMNS.items() for name in (getattr(self, ours), *usual)}
        other = [name for name in columns if name not in known]
        if other and not self.image and not any(name in columns for name in COLUMNS["image"]):
            reason = f"no row has a picture; if one of these columns holds them, name it (custom.image=...): {', '.join(other)}"
            bad(BadRow(file, 0, reason, mended=True))

    def sample(self, root: Path, row: Row) -> Sample:
        """The question, without LLaVA's marker `<image>`: the picture stands before it anyway."""
        kept = {name: str(row.data[name]) for name in ("category", "answer") if not missing(row.data[name])}
        return Sample(
            task=self.name,
            id=(row.key or str(row.number)) if missing(row.data["id"]) else row.id("id"),
            question=_MARKER.sub("", row.text("question")),
            picture=self._picture(root, row),
            category=kept.get("category", ""),
            meta={name: value for name, value in kept.items() if name == "answer"},
        )

    def _picture(self, root: Path, row: Row) -> Picture | None:
        value: Any = row.data["image"]
        if isinstance(value, list | tuple):
            if len(value) > 1:
                raise RowError(f"{len(value)} pictures; one is what can be asked about")
            value = value[0] if value else None
        if isinstance(value, dict):  # the Hub's form
            value = value.get("bytes") or value.get("path")
        if missing(value):
            return None
        if isinstance(value, bytes):
            return Picture(f"row {row.line}", data=value)
        if not isinstance(value, str):
            raise RowError(f"'image' is neither text nor bytes but {type(value).__name__}")
        encoded = value.partition(";base64,")[2] if value[:5].lower() == "data:" else value if _BASE64.fullmatch(value) else None
        if encoded is None:
            return picture(self._folder(root), value)
        try:
            return Picture(f"row {row.line}", data=base64.b64decode("".join(encoded.split()), validate=True))
        except (binascii.Error, ValueError):
            raise RowError("'image' is not valid base64") from None

    def _folder(self, root: Path) -> Path:
        if not self.images:
            return self.files(root)[0].parent
        return root / self.images if (root / self.images).is_dir() else Path(self.images)
