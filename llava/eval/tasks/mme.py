"""MME: two yes-or-no questions about each picture, in 14 subtasks (arXiv 2306.13394).

The questions come from LLaVA's `llava_mme.jsonl`, whose question_id the two questions of a picture share, or, where that file is not
there, from the release itself. The release has two layouts at once: some categories keep pictures in `images/` and questions in
`questions_answers_YN/`, the others side by side; newer archives put a folder `MME_Benchmark` around all. The right answers are in
the release's .txt files, or in the columns of the official tool's Your_Results.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from llava.eval.lines import text_lines
from llava.eval.readers import Row, RowError, rows
from llava.eval.sample import About, Answers, BadRow, Json, OnBad, Place, Sample
from llava.eval.tasks.base import Benchmark, loader_row, numbered, picture

PERCEPTION = {
    "existence": 60,
    "count": 60,
    "position": 60,
    "color": 60,
    "posters": 294,
    "celebrity": 340,
    "scene": 400,
    "landmark": 400,
    "artwork": 400,
    "OCR": 40,
}
COGNITION = {"commonsense_reasoning": 140, "numerical_calculation": 40, "text_translation": 40, "code_reasoning": 40}
OFFICIAL = "Please answer yes or no."  # ends the release's questions, after one space, in a few cases two
SHORT = "\nAnswer the question using a single word or phrase."  # LLaVA's end in its place
PICTURES = (".jpg", ".png", ".jpeg")


@dataclass(frozen=True)
class MME(Benchmark):
    """A sample's id is its question_id and its number among the two."""

    name = "mme"
    kind = "correct"
    about = About(
        title="MME: perception and cognition in yes-or-no questions",
        licence="for academic research only; the pictures are of many origins, see the paper",
        citation="Fu et al., MME, arXiv 2306.13394",
        download=(
            "ask for the release as https://github.com/BradyFU/Awesome-Multimodal-Large-Language-Models (branch Evaluation) says",
            "from LLaVA's eval.zip (its docs/Evaluation.md links to it) take MME/llava_mme.jsonl; the release's own questions serve, too",
        ),
    )
    places: ClassVar = {
        "questions": Place(
            "llava_mme.jsonl", ("mme/llava_mme.jsonl", "llava_eval/MME/llava_mme.jsonl", "eval/MME/llava_mme.jsonl"), optional=True
        ),
        "release": Place(
            "folder of the release",
            ("mme/MME_Benchmark_release_version", "MME_Benchmark_release_version", "eval/MME/MME_Benchmark_release_version"),
        ),
    }
    published: ClassVar = {"all": 2374, **PERCEPTION, **COGNITION}
    key_fields: ClassVar[tuple[str, ...]] = ("question_id", "prompt")

    def _release(self, root: Path) -> Path:
        release = self.need(root, "release")
        return inner if (inner := release / "MME_Benchmark").is_dir() else release

    def files(self, root: Path) -> list[Path]:
        """`llava_mme.jsonl`, or all .txt files of the release."""
        if (questions := self.places["questions"].find(root)) is not None:
            return [questions]
        return sorted(path for name in self.published if name != "all" for path in (self._release(root) / name).rglob("*.txt"))

    def rows(self, root: Path, bad: OnBad) -> Iterator[Row]:
        """The questions of `llava_mme.jsonl`, in its order, or those of the release. Two may share an id, not a question."""
        files = self.files(root)
        found = rows(files[0], bad) if files and files[0].suffix == ".jsonl" else self._of_release(root, files, bad)
        return numbered(self._once(found, bad), "question_id")

    def _once(self, found: Iterable[Row], bad: OnBad) -> Iterator[Row]:
        for row in numbered(found, "question_id", "text"):
            if row.nth:
                bad(row.bad("the same question_id and text are there already"))
            else:
                yield row

    def _of_release(self, root: Path, files: Sequence[Path], bad: OnBad) -> Iterator[Row]:
        release = self._release(root)
        for file in files:
            folder = file.parent.parent / "images" if file.parent.name == "questions_answers_YN" else file.parent
            image = next((path for kind in PICTURES if (path := folder / f"{file.stem}{kind}").is_file()), folder / f"{file.stem}.jpg")
            name, category = image.relative_to(release).as_posix(), file.relative_to(release).parts[0]
            for number, line in text_lines(file, bad):
                question, tab, answer = line.partition("\t")
                if not tab or answer.strip() not in ("Yes", "No"):
                    bad(BadRow(file, number, "not a question, a tab, and Yes or No"))
                    continue
                text = question.strip().removesuffix(OFFICIAL).rstrip() + SHORT
                where = f"{category}/{image.name}"
                yield Row(file, number, {"question_id": where, "image": name, "text": text, "category": category})

    def samples(self, root: Path, bad: OnBad) -> Iterator[Sample]:
        """All samples; how many of them have no right answer anywhere is told."""
        count, unknown = 0, 0
        for made in super().samples(root, bad):
            count, unknown = count + 1, unknown + (not made.meta["answer"])
            yield made
        if unknown:
            reason = f"{unknown} of {count} questions have no right answer here or in Your_Results, so nobody can score them"
            bad(BadRow(self._release(root), 0, reason, mended=True))

    def sample(self, root: Path, row: Row) -> Sample:
        """LLaVA's question as it stands."""
        name, question_id, text = row.text("image"), row.id("question_id"), row.text("text")
        category = name.split("/")[0] if "/" in name else row.text("category")
        if not re.fullmatch(r"[\w.-]*\w[\w.-]*", category):
            raise RowError(f"{category!r} is no subtask")
        release = self._release(root)
        try:
            shown = picture(release, name)
        except RowError:
            flat = name.replace("/images/", "/", 1)
            if flat == name:
                raise
            shown = picture(release, flat)  # as some mirrors pack it
        truth = _truth(release, self.places["release"].need(root, self.name).parent, category, Path(name).name)
        official, answer = truth.get(_plain(text), ("", ""))
        return Sample(
            task=self.name,
            id=f"{question_id}#{row.nth + 1}",
            question=text,
            picture=shown,
            max_tokens=128,
            category=category,
            group=question_id,
            meta={"question_id": question_id, "file": Path(name).name, "official_question": official, "answer": answer},
        )

    def original_row(self, sample: Sample, answers: Answers) -> Json:
        """The question_id is the pair's."""
        return loader_row(sample.meta["question_id"], sample, answers)

    def original_file(self, sample: Sample, model: str, ecso: bool) -> str:
        """Where `mme.sh` and `gen_mme_unsafe_ask.sh` put it."""
        return f"mme/{model}/{'tell_ask_safe' if ecso else 'q'}/merge.jsonl"


def _plain(question: str) -> str:
    """A question without either ending, spaces made single, to find its official form."""
    return " ".join(question.removesuffix(SHORT).strip().removesuffix(OFFICIAL).split())


@lru_cache(maxsize=64)
def _truth(release: Path, beside: Path, category: str, file: str) -> dict[str, tuple[str, str]]:
    """Plain question -> official question and its answer ("Yes", "No"), of one picture; empty when nobody says."""
    stem = Path(file).stem
    texts = [release / category / "questions_answers_YN" / f"{stem}.txt", release / category / f"{stem}.txt"]
    lines = [line.split("\t") for path in texts for line in _whole_lines(path)]
    if not lines:
        tool = [folder / "Your_Results" / f"{category}.txt" for folder in (beside, beside / "eval_tool")]
        columns = [line.split("\t") for path in tool for line in _whole_lines(path)]
        lines = [one[1:] for one in columns if one[0] == file]
    return {_plain(one[0]): (one[0], one[1].strip()) for one in lines if len(one) == 2}


def _whole_lines(path: Path) -> Iterator[str]:
    """Of the right answers: what is damaged there lacks in `samples`, which tells how many have none."""
    if path.is_file():
        yield from (line for _, line in text_lines(path, lambda row: None))
