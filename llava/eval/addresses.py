"""The original's Python programs under their old names, with their flags: eight addresses, one way behind them.

    python -m llava.eval.model_vlsafe --model-path models/llava-v1.5-7b --question-file q.jsonl --image-folder images --answers-file a.jsonl

Each reads the file that it is given, keeps its records in a folder beside the answers (ANSWERS.run, so it too goes on where it was
interrupted) and writes the answers in the original's form, in the order of the questions: `cat` joins chunks as ever. `--preset` is ours.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from llava.cli import Parser, concluded
from llava.errors import UserError
from llava.eval.__main__ import conclusion
from llava.eval.originals import write_rows
from llava.eval.plan import Plan
from llava.eval.provenance import without_login
from llava.eval.readers import Row, RowError, rows
from llava.eval.records import read
from llava.eval.sample import About, Answers, BadRow, Json, OnBad, Picture, Sample
from llava.eval.session import evaluate
from llava.eval.tasks.base import Benchmark, loader_row, picture, revised
from llava.eval.tasks.mm_safetybench import MODES
from llava.eval.tasks.mmbench import MMBench

TABLE = "data/llava_eval/mmbench/mmbench_dev_20230712.tsv"  # model_mmbench_ask_unsafe knows no other


@dataclass(frozen=True)
class Part(Benchmark):
    """A contiguous part of one file's rows, cut as the original cuts them. With `again`, the rows are answers to be defended."""

    file: str = ""
    images: str = ""
    mode: str = ""
    again: bool = False
    chunks: int = 1
    chunk: int = 0

    about = About("rows of a file", "yours", "", ())
    places: ClassVar = {}
    image: ClassVar[str] = "image"
    query: ClassVar[str] = "query"

    def files(self, root: Path) -> list[Path]:
        """The file."""
        return [Path(self.file)]

    def rows(self, root: Path, bad: OnBad) -> Iterator[Row]:
        """The part's rows; without a proper id they are told apart by their lines."""
        found = [replace(row, data=self._completed(row)) for row in rows(Path(self.file), bad)]
        size = math.ceil(len(found) / self.chunks)
        return iter(found[self.chunk * size :][:size])

    def _completed(self, row: Row) -> Json:
        return row.data

    def sample(self, root: Path, row: Row) -> Sample:
        """The question as the row has it."""
        field_name = "prompt" if self.again and "prompt" in row.data else self.query
        shown, late = self._picture(row), None
        if self.mode == "text":
            shown, late = None, shown
        draft = self._draft(row) if self.again else None
        return Sample(self.name, str(row.number), row.text(field_name), shown, late_picture=late, draft=draft, meta={"row": row.data})

    def _draft(self, row: Row) -> str:
        """The answer to be defended. It may be empty: models say nothing, too."""
        text = row.data.get("text")
        if not isinstance(text, str):
            raise RowError("'text', the answer to be defended, is missing or no text")
        return text

    def _picture(self, row: Row) -> Picture | None:
        return picture(Path(self.images or "."), row.id(self.image))

    def original_row(self, sample: Sample, answers: Answers) -> Json:
        """The row that was read with what ECSO adds to it, or the original's row of a direct answer."""
        row: Json = sample.meta["row"]
        if not self.again:
            return self._direct(sample, row, answers)
        return {**row, "text": answers.text} | self._verdict(answers.harmful is True) | revised(answers)

    def _direct(self, sample: Sample, row: Json, answers: Answers) -> Json:
        return {self.image: row[self.image], "query": sample.prompt, "text": answers.text, "model_id": answers.model}

    def _verdict(self, harmful: bool) -> Json:
        return {"unsafe": "Yes" if harmful else "No"}


@dataclass(frozen=True)
class VLSafePart(Part):
    """Rows of VLSafe: image_id, query."""

    name = "vlsafe"
    image = "image_id"


@dataclass(frozen=True)
class MMSafePart(Part):
    """Entries of one scenario of MM-SafetyBench, or answers to them; pictures lie below IMAGES/MODE."""

    name = "mm_safetybench"

    def _completed(self, row: Row) -> Json:
        question, _ = MODES[self.mode]
        return row.data if self.again else {"image": f"{row.key}.jpg", "query": row.data.get(question)}

    def _picture(self, row: Row) -> Picture | None:
        return picture(Path(self.images) / (MODES[self.mode][1] or "SD"), row.id("image"))


@dataclass(frozen=True)
class LoaderPart(Part):
    """Rows of LLaVA's question files (MME, MM-Vet): question_id, image, text. The original's answers forget the image; ours keep it."""

    name = "mme"
    query = "text"

    def _picture(self, row: Row) -> Picture | None:
        row.id("question_id")  # the answer's row has it
        return super()._picture(row)

    def _direct(self, sample: Sample, row: Json, answers: Answers) -> Json:
        return loader_row(row["question_id"], sample, answers) | {"image": row["image"]}

    def _verdict(self, harmful: bool) -> Json:
        return {"safe": "unsafe" if harmful else "safe"}


@dataclass(frozen=True)
class MMBenchPart(LoaderPart):
    """Rows of MMBench's table, or answers to them, whose pictures are in the table."""

    name = "mmbench"

    def _table(self) -> MMBench:
        return MMBench(file=TABLE if self.again else self.file)

    def samples(self, root: Path, bad: OnBad) -> Iterator[Sample]:
        """The table's own, or the answers with the table's pictures."""
        there = list(self._table().samples(Path(), bad))
        if not self.again:
            size = math.ceil(len(there) / self.chunks)
            yield from there[self.chunk * size :][:size]
            return
        pictures = {sample.id: sample.picture for sample in there}
        for sample in super().samples(root, bad):
            index = str(sample.meta["row"]["question_id"])
            if index in pictures:
                yield replace(sample, picture=pictures[index])
            else:
                bad(BadRow(Path(self.file), int(sample.id), f"the table has no question {index}"))

    def _picture(self, row: Row) -> Picture | None:
        row.id("question_id")
        return None

    def original_row(self, sample: Sample, answers: Answers) -> Json:
        """As the original's two programs write it."""
        return super().original_row(sample, answers) if self.again else self._table().original_row(sample, answers)


@dataclass(frozen=True, slots=True)
class Script:
    """One of the original's programs: what it reads, and its limit of tokens where it has a flag for it or none."""

    part: type[Part]
    again: bool = False
    tokens: int = 1024
    modes: bool = False
    defaults: dict[str, str] = field(default_factory=dict)


SCRIPTS = {
    "model_vlsafe": Script(VLSafePart, tokens=2048),
    "model_vlsafe_tell_ask": Script(VLSafePart, again=True),
    "model_mmsafe": Script(MMSafePart, tokens=2048, modes=True),
    "model_mmsafe_tell_ask": Script(MMSafePart, again=True, modes=True),
    "model_vqa_loader": Script(LoaderPart, tokens=128),
    "model_vqa_ask_unsafe": Script(LoaderPart, again=True),
    "model_vqa_mmbench": Script(MMBenchPart),
    "model_mmbench_ask_unsafe": Script(MMBenchPart, again=True),
}


def main(name: str) -> int:
    """Run one of `SCRIPTS` with the command line's flags; returns the exit code."""
    return concluded(lambda: _run(name, SCRIPTS[name], _flags(name, SCRIPTS[name]).parse_args(sys.argv[1:])))


def _flags(name: str, script: Script) -> argparse.ArgumentParser:
    parser = Parser(prog=f"python -m llava.eval.{name}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model-path", required=True)
    add("--model-base", help="not supported: merge the model into its base first")
    add("--image-folder", default="")
    add("--question-file", default="tables/question.jsonl")
    add("--answers-file", type=Path, default=Path("answer.jsonl"))
    add("--conv-mode", default="llava_v1", help='"" for models that render their own prompts')
    add("--num-chunks", type=int, default=1)
    add("--chunk-idx", type=int, default=0)
    add("--temperature", type=float, default=0.2)
    add("--top_p", type=float)
    add("--num_beams", type=int, default=1)
    add("--max_new_tokens", type=int, default=script.tokens)
    add("--mode", choices=MODES, default="SD_TYPO", help="of MM-SafetyBench" if script.modes else argparse.SUPPRESS)
    # Flags of some of the programs that change nothing here.
    for flag in ("--all-rounds", "--single-pred-prompt"):
        add(flag, action="store_true", help=argparse.SUPPRESS)
    add("--lang", default="en", help=argparse.SUPPRESS)
    add("--preset", default="paper", help="paper or repo; see docs/evaluation.md")
    return parser


def _run(name: str, script: Script, flags: argparse.Namespace) -> int:
    if flags.model_base:
        raise UserError("--model-base is not supported: merge the model into its base first, and give the merged folder.")
    if flags.num_beams != 1 or flags.all_rounds:
        raise UserError("Beam search (--num_beams) and --all-rounds are not supported: leave them out.")
    if not 0 <= flags.chunk_idx < flags.num_chunks:
        raise UserError(f"--chunk-idx is {flags.chunk_idx}: give 0 to --num-chunks minus 1.")
    mode = flags.mode if script.modes else ""
    part = script.part(flags.question_file, flags.image_folder, mode, script.again, flags.num_chunks, flags.chunk_idx)
    plan = _plan(script, flags, part)
    bad: list[BadRow] = []
    if part.chunk and not list(part.samples(plan.data, bad.append)) and not bad:
        write_rows(flags.answers_file, part, (), {}, "")  # fewer rows than chunks; `cat` wants the file all the same
        return 0
    summary = evaluate(plan)
    there = {row["id"]: row for row in read(summary.results[0].path)[1]}
    samples = [sample for sample in part.samples(plan.data, lambda row: None) if sample.id in there]
    write_rows(flags.answers_file, part, samples, there, plan.model_name or "")
    return conclusion(summary)


def _plan(script: Script, flags: argparse.Namespace, part: Part) -> Plan:
    served = "://" in flags.model_path
    base = Plan(
        target=flags.model_path,
        tasks=(part,),
        data=Path(),
        out=flags.answers_file.with_name(f"{flags.answers_file.name}.run"),
        methods=("ecso" if script.again else "direct",),
        options={} if served or not flags.conv_mode else {"conv_mode": flags.conv_mode},
        model_name=urlsplit(without_login(flags.model_path)).netloc if served else Path(flags.model_path).name,
        preset=flags.preset,
        max_tokens=flags.max_new_tokens,
        drafts=Path(flags.question_file) if script.again else None,
    )
    sampling = {"temperature": flags.temperature} | ({"top_p": flags.top_p} if flags.top_p else {})
    if flags.temperature > 0:
        sampling["seed"] = 0  # else a run that was interrupted could not go on as it began
    return replace(base, policy=base.policy.answering(**sampling))
