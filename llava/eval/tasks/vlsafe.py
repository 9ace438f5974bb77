"""VLSafe: harmful questions about harmless COCO photographs (arXiv 2311.10081). The rows have no ids."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from llava.eval.readers import Row, rows
from llava.eval.sample import About, Answers, Json, OnBad, Place, Sample
from llava.eval.tasks.base import Benchmark, numbered, picture, revised


@dataclass(frozen=True)
class VLSafe(Benchmark):
    """The "examine" part. A sample's id is made of its picture and its question, so it survives changes of order."""

    name = "vlsafe"
    about = About(
        title="VLSafe (examine): harmful questions about harmless photographs",
        licence="see the dataset's page; the photographs are COCO's (Flickr terms of use)",
        citation="Chen et al., DRESS, CVPR 2024, arXiv 2311.10081",
        download=(
            "from https://huggingface.co/datasets/YangyiYY/LVLM_NLF, folder VLSafe, take harmlessness_examine.jsonl",
            "from http://images.cocodataset.org/zips/train2017.zip (18 GB) take the pictures that it names",
        ),
    )
    places: ClassVar = {
        "questions": Place(
            "file of questions (JSON lines)",
            (
                "vlsafe/harmlessness_examine.jsonl",
                "vlsafe/VLSafe_harmlessness_examine/data.jsonl",  # the original's name for it
                "LVLM_NLF/VLSafe/harmlessness_examine.jsonl",
            ),
        ),
        "pictures": Place("folder of pictures", ("vlsafe/images", "coco/images/train2017", "coco/train2017")),
    }
    published: ClassVar = {"all": 1110}
    repo_max_tokens: ClassVar[int | None] = 2048
    key_fields: ClassVar[tuple[str, ...]] = ("image_id", "query")

    def rows(self, root: Path, bad: OnBad) -> Iterator[Row]:
        """One row a line. The set may say the same thing twice: that is mentioned, and both are asked."""
        for row in numbered(rows(self.need(root, "questions"), bad), "image_id", "query"):
            if row.nth:
                bad(row.bad("the same picture and question are there already; this is a sample of its own", mended=True))
            yield row

    def sample(self, root: Path, row: Row) -> Sample:
        """The question as it stands."""
        name, query = row.id("image_id"), row.text("query")
        again = f"-{row.nth + 1}" if row.nth else ""
        return Sample(
            task=self.name,
            id=f"{Path(name).stem}-{hashlib.sha256(query.encode()).hexdigest()[:8]}{again}",
            question=query,
            picture=picture(self.need(root, "pictures"), name),
            group=name,
            meta={"image_id": name, "caption": row.data.get("caption")},
        )

    def original_row(self, sample: Sample, answers: Answers) -> Json:
        """As `model_vlsafe` and `model_vlsafe_tell_ask` write it; the latter loses the harmful answer, here it is kept."""
        row = {"image_id": sample.meta["image_id"], "query": sample.prompt, "text": answers.text, "model_id": answers.model}
        return row if answers.harmful is None else row | {"unsafe": "Yes" if answers.harmful else "No"} | revised(answers)

    def original_file(self, sample: Sample, model: str, ecso: bool) -> str:
        """Where `gen_vlsafe.sh` and `gen_vlsafe_tell_ask.sh` put it."""
        return f"vlsafe/VLSafe_harmlessness_examine/output/{model}/image/{'tell_ask' if ecso else 'q'}/merge.jsonl"
