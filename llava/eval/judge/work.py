"""What there is to judge in a run's folder: its answers, first answers and captions, each with the mode that fits it. Asks nobody."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from llava.errors import UserError, unknown
from llava.eval.judge.asking import Request
from llava.eval.judge.judgment import Judgment, Part, text_hash
from llava.eval.judge.modes import QUERY, Mode, named, query_mode
from llava.eval.judge.reading import Reading
from llava.eval.provenance import name_of
from llava.eval.records import read
from llava.eval.rows import draft_of, said_in
from llava.eval.sample import ScoredBy
from llava.eval.tasks import task as task_named

Json = dict[str, Any]
AUTO = "auto"
PARTS: tuple[Part, ...] = ("answer", "draft")
# Task -> the field of its rows' `meta` that says what a picture asks for whose question only points at it. Judges see no pictures.
IN_PICTURE = {"figstep": "question"}
# What judging, scoring and the report read of a header and of a row.
HEADER = {"task", "method", "model", "data", "versions", "git"}
ROW = {"id", "number", "category", "mode", "group", "question", "prompt", "answer", "harmful", "released", "given", "steps", "meta"}
ROW |= {"picture", "images"}


@dataclass(frozen=True, slots=True)
class Item:
    """One text to judge, and where it comes from. `wanted`: what counts of its task, "harmless", "refusals" or "correct". `texts`: what a
    mode's slots are filled with; `text` is the one that is judged."""

    id: str
    number: int
    task: str
    method: str
    part: Part
    wanted: str
    mode: Mode | None
    texts: Mapping[str, str]
    run: int = 0

    @property
    def text(self) -> str:
        return self.texts["answer"]

    @property
    def text_sha256(self) -> str:
        return text_hash(self.text)

    def request(self, temperature: float, max_tokens: int | None) -> Request:
        """What a judge is asked; an item of a judge that is a model always has a mode."""
        mode = self.mode
        if mode is None:
            raise ValueError("an item without a mode is for the keyword rule")
        return Request(mode.messages(self.texts), max_tokens or mode.max_tokens, temperature, self.run)


@dataclass(frozen=True, slots=True)
class Wish:
    """Which texts are to be judged, and how: empty `tasks` and `methods` are all that there are; `mode` is a mode's name, "query" or
    "auto" (what fits each task), or None for the rule about words, which has none. `runs`: how often each is judged."""

    modes: Mapping[str, Mode]
    mode: str | None = AUTO
    tasks: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    parts: tuple[Part, ...] = PARTS
    runs: int = 1
    limit: int | None = None

    def __post_init__(self) -> None:
        for part in self.parts:
            if part not in get_args(Part):
                raise unknown("part", part, get_args(Part))
        if self.mode not in (None, AUTO, QUERY):
            named(self.mode, self.modes)


@dataclass(frozen=True, slots=True)
class Shelf:
    """One method of one task: its folder, what of its rows is to be judged, and what answer files call its model."""

    folder: Path
    task: str
    method: str
    items: tuple[Item, ...]
    model: str = ""


def shelves(out: Path, wish: Wish) -> list[Shelf]:
    """All that a wish covers in a run; raises `UserError` where there is nothing of the kind."""
    paths = sorted(out.glob("*/*/records.jsonl"))
    if not paths:
        shards = " Its shards are not joined yet: llava eval merge." if (out / "shards").is_dir() else ""
        raise UserError(f"{out} has no records: name the --out folder of a run (llava eval ... --out {out}).{shards}")
    for what, names, there in (
        ("task", wish.tasks, {path.parent.parent.name for path in paths}),
        ("method", wish.methods, {path.parent.name for path in paths}),
    ):
        for name in names:
            if name not in there:
                raise UserError(f"The run {out} has no {what} {name!r}: it has {', '.join(sorted(there))}.")
    found = []
    for path in paths:
        task, method = path.parent.parent.name, path.parent.name
        if (not wish.tasks or task in wish.tasks) and (not wish.methods or method in wish.methods):
            header, rows = answers(path)
            items = tuple(items_of(header, rows, method, wish))
            found.append(Shelf(path.parent, task, method, items, name_of(header.get("model", {}))))
    return found


def answers(path: Path) -> tuple[Json, list[Json]]:
    """Header and rows of a records file, with all that is read of them; raises `UserError`, also for one that has a sample twice: no
    verdict would know its answer."""
    header, rows = read(path)
    if not _whole(header):
        raise UserError(f"{path} has another header than `llava eval` writes: its {', '.join(sorted(HEADER))} are not all there.")
    for row in rows:
        if not row.keys() >= ROW or not isinstance(row["answer"], str) or not isinstance(row["steps"], list):
            raise UserError(f"{path} has a row that is no record of `llava eval` (id {row.get('id')!r}): remove that line.")
    if twice := [name for name, count in Counter(row["id"] for row in rows).items() if count > 1]:
        raise UserError(f"{path} has the sample {twice[0]!r} twice: shards are joined by `llava eval merge`, not by cat. Remove one line.")
    return header, rows


def _whole(header: Json) -> bool:
    try:
        parts = (header["task"]["options"], header["method"]["policy"], header["model"], header["data"], header["versions"])
        return header.keys() >= HEADER and isinstance(header["task"]["samples"], int) and all(isinstance(one, dict) for one in parts)
    except (KeyError, TypeError):
        return False


def items_of(header: Json, rows: Sequence[Json], method: str, wish: Wish) -> Iterator[Item]:
    """The items of one records file; none where its task is scored without a judge."""
    name = header["task"]["name"]
    kind = _kind(header["task"])
    for row in sorted(rows, key=lambda row: int(row["number"]))[: wish.limit]:
        wanted = "harmless" if kind == "refusals" and row["mode"] == "unsafe" else kind  # XSTest's harmful counterparts
        mode = _mode(name, wanted, row, wish)
        if mode is None and (wish.mode is not None or wanted == "correct"):
            continue
        texts = _texts(name, row, mode)
        for part in wish.parts:
            if (text := _part(row, part)) is not None:
                for run in range(wish.runs):
                    yield Item(row["id"], row["number"], name, method, part, wanted, mode, {**texts, "answer": text}, run)


def _kind(task: Json) -> ScoredBy:
    """What counts of a task; of its options only one can change that."""
    own = {"scored_as": task["options"]["scored_as"]} if task["name"] == "custom" else {}
    return task_named(task["name"], **own).scored_by


def _mode(task: str, wanted: str, row: Json, wish: Wish) -> Mode | None:
    """The mode for a row; None: the rule, or a task that no judge scores."""
    if wish.mode is None:
        return None
    name = wish.mode
    if name == AUTO:
        if wanted == "correct":
            return wish.modes["mm_vet"] if task == "mm_vet" else None
        name = "refusal" if wanted == "refusals" else QUERY if task == "mm_safetybench" else "llm_binary_strict"
    return wish.modes[query_mode(row["category"]) if name == QUERY else name]


def _texts(task: str, row: Json, mode: Mode | None) -> dict[str, str]:
    """What the slots of a mode are filled with, but for the answer; raises `UserError` for a row that has not what its mode needs."""
    meta = row["meta"]
    asked = meta.get(IN_PICTURE.get(task), row["question"])
    there = {"question": asked, "critic": meta.get("analyze"), "reference": _reference(meta.get("answer"))}
    needed = mode.needs - {"answer"} if mode else set()
    for slot in needed:
        if not isinstance(there[slot], str):
            said = "an analysis (a field analyze)" if slot == "critic" else "a reference answer"
            raise UserError(f"The mode {mode.name if mode else ''} needs {said}, and the sample {row['id']} has none.")
    return {slot: str(there[slot]) for slot in needed}


def _reference(answer: object) -> str | None:
    """MM-Vet's graders see spaces around its two words."""
    return answer.replace("<AND>", " <AND> ").replace("<OR>", " <OR> ") if isinstance(answer, str) else None


def _part(row: Json, part: Part) -> str | None:
    if part == "answer":
        answer: str = row["answer"]
        return answer
    if part == "draft":
        return draft_of(row) if row["harmful"] is not None else None  # a first answer that nothing checked is the answer
    return said_in(row, "caption")


def judgment_of(item: Item, judge: str, reading: Reading, prompt_sha256: str) -> Judgment:
    """A judgment that cost nothing."""
    return Judgment(
        id=item.id,
        number=item.number,
        task=item.task,
        method=item.method,
        part=item.part,
        judge=judge,
        mode=item.mode.name if item.mode else judge,
        prompts=item.mode.prompts if item.mode else "",
        verdict=reading.verdict,
        run=item.run,
        score=reading.score,
        scores=reading.scores,
        categories=reading.categories,
        reason=reading.reason,
        prompt_sha256=prompt_sha256,
        text_sha256=item.text_sha256,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
