"""Published numbers, for the table that puts them beside ours. Every one says where it stands; nothing here was measured by us.

`ECSO`: the tables of arXiv 2403.09572 as its authors' project page shows them. The average row of its main table prints 31.7 and 32.1 for
the direct answers with OCR and SD+OCR pictures; the eight rows above give 48.1 and 48.8, which alone agree with the gains that the same
row prints (+42.2, +37.6) and with the abstract.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from llava.eval.metrics.material import MethodRun, TaskRun
from llava.eval.metrics.result import Group, Measured, Published, Score
from llava.eval.provenance import name_of
from llava.eval.tasks.mm_safetybench import PAPER, SCENARIOS

ECSO = "ECSO, arXiv 2403.09572 (tables on the authors' project page)"
ETA = "ETA, arXiv 2410.06625 (tables on the authors' project page)"
LLAVA = "LLaVA, docs/MODEL_ZOO.md"
GPT4 = "gpt-4"
PAPER_POLICY = "paper"
TEXT_FIELD = "Question"  # of MM-SafetyBench, for the answers without a picture
LLAVA_7B = "LLaVA-1.5-7B"
_BOTH = ("direct", "ecso")
COLUMNS = (("text", "direct"), *((mode, method) for mode in ("SD", "TYPO", "SD_TYPO") for method in _BOTH))
MAIN_TABLE = (  # the eight scenarios in their order, by COLUMNS; "OCR" is the folder TYPO
    (94.9, 78.4, 96.9, 22.7, 96.9, 25.8, 92.8),
    (93.9, 84.7, 96.9, 56.4, 87.7, 51.5, 90.2),
    (47.7, 84.1, 97.7, 31.8, 86.4, 38.6, 84.1),
    (71.5, 81.9, 93.8, 40.3, 88.9, 41.0, 84.7),
    (97.5, 95.9, 96.7, 86.9, 97.5, 86.9, 96.7),
    (85.7, 79.9, 95.5, 28.6, 89.0, 33.1, 85.1),
    (88.1, 90.8, 93.6, 76.2, 88.1, 69.7, 76.2),
    (75.5, 84.2, 92.1, 41.7, 87.8, 43.9, 81.3),
)
PRINTED = (81.9, 85.0, 95.4, 31.7, 90.3, 32.1, 86.4)  # the table's own averages
MISPRINT = "The paper prints {printed}: its eight rows give {value:.1f}, and so do the gain that it prints beside and its abstract."
UTILITY = {  # model -> direct and ECSO: MME perception, MME cognition, MM-Vet, MMBench
    LLAVA_7B: ((1507.4, 355.7, 30.5, 64.6), (1507.4, 357.1, 30.6, 64.2)),
    "ShareGPT4V-7B": ((1566.4, 376.4, 33.9, 66.5), (1567.1, 380.7, 34.4, 66.1)),
    "mPLUG-Owl2-7B": ((1456.0, 345.7, 33.9, 66.7), (1456.0, 345.7, 33.9, 66.5)),
    "Qwen-VL-Chat": ((1481.5, 347.1, 49.6, 59.7), (1481.5, 347.1, 49.7, 59.1)),
    "InternLM-XComposer-7B": ((1254.1, 200.7, 33.3, 49.3), (1254.1, 200.7, 33.3, 49.3)),
}
UTILITY_SCORES = (("mme", "perception"), ("mme", "cognition"), ("mm_vet", "total"), ("mmbench", "circular_accuracy"))
ZOO = {LLAVA_7B: (1510.7, None, 31.1, 64.3), "LLaVA-1.5-13B": (1531.3, None, 36.1, 67.7)}
SECOND_HAND = "Read in summaries only, which differ by 0.1; the abstract gives the gain, +71.3."


def published(task: str) -> Iterator[Published]:
    """The published numbers of a task."""
    if task == "mm_safetybench":
        yield from _safety()
    if task == "vlsafe":
        for method, value in (("direct", 19.3), ("ecso", 90.6)):
            yield Published("harmless_rate", "", "", method, LLAVA_7B, value, "summaries of ECSO", GPT4, note=SECOND_HAND)
    if task == "figstep":
        for model, direct, ecso in ((LLAVA_7B, 58.6, 37.4), ("LLaVA-1.5-13B", 61.6, 15.0)):
            for method, value in (("direct", direct), ("ecso", ecso)):
                yield Published("attack_rate", "", "", method, model, value, ETA, "MD-Judge v0.2", note="its own runs of ECSO")
    for place, (name, score) in enumerate(UTILITY_SCORES):
        if name != task:
            continue
        judge = "gpt-4-0613" if name == "mm_vet" else ""
        for model, both in UTILITY.items():
            for method, row in zip(_BOTH, both, strict=True):
                yield Published(score, "", "", method, model, row[place], ECSO, judge)
        for model, values in ZOO.items():
            if (told := values[place]) is not None:
                yield Published(score, "", "", "direct", model, told, LLAVA, judge)


def _safety() -> Iterator[Published]:
    for scenario, row in zip(PAPER, MAIN_TABLE, strict=True):
        for (mode, method), value in zip(COLUMNS, row, strict=True):
            yield Published("harmless_rate", "scenario x mode", f"{scenario} / {mode}", method, LLAVA_7B, value, ECSO, GPT4)
    for place, ((mode, method), printed) in enumerate(zip(COLUMNS, PRINTED, strict=True)):
        value = round(sum(row[place] for row in MAIN_TABLE) / len(MAIN_TABLE), 3)
        found = Published("paper_average", "mode", mode, method, LLAVA_7B, value, ECSO, GPT4)
        if abs(value - printed) > 0.1:
            found = replace(found, printed=printed, note=MISPRINT.format(printed=printed, value=value))
        yield found


def beside(task: TaskRun, methods: tuple[Measured, ...]) -> tuple[Published, ...]:
    """The published numbers with ours of the same name, and whether the two were measured on the same questions in the same way."""
    return tuple(_beside(one, task, methods) for one in published(task.name))


def _beside(one: Published, task: TaskRun, methods: tuple[Measured, ...]) -> Published:
    ours = next((method for method in methods if method.method == one.method), None)
    score = _found(ours, one) if ours else None
    if score is None:
        return replace(one, why="the run has no such number")
    why = _otherwise(task.methods[one.method]) or _difference(one, task, score)
    told = score.refused or why
    value = score.value
    same = _same(one.model, task.methods[one.method].header["model"])
    return replace(one, ours=value, ours_judge=score.judge, comparable=not told, why=told, same_model=same)


def _found(measured: Measured, one: Published) -> Score | None:
    none: tuple[Score, ...] = ()
    groups: Mapping[tuple[str, str], Group] = {(group.table, group.key): group for group in measured.groups}
    place = groups.get((one.table, one.key))
    scores = measured.scores if not one.table else place.scores if place else none
    return next((score for score in scores if score.name == one.score), None)


def _otherwise(run: MethodRun) -> str:
    """What a method did otherwise than the published one, "" where nothing: its policy, how it picked tokens, whose first answers."""
    name, answer = run.policy.get("name", PAPER_POLICY), run.policy.get("answer", {})
    if name != PAPER_POLICY and run.method != "direct":  # a policy decides what a defence does, and nothing else
        return f"made with the policy {name}"
    if (temperature := answer.get("temperature", 0.0)) != 0:
        return f"answers were sampled (temperature {temperature:g}), not greedy"
    if isinstance(tokens := answer.get("max_tokens"), int):
        return f"answers had at most {tokens} tokens (--max-tokens), not the benchmark's own limit"
    return "first answers are from elsewhere (--answers), and nothing tells how they were made" if run.given else ""


def _difference(one: Published, task: TaskRun, score: Score) -> str:
    """Why the two are not the same measure on the same questions, "" where they are."""
    if score.keyword:
        return "decided by a list of phrases, not by a judge"
    if one.key.rpartition(" / ")[2] == "text" and (asked := getattr(task.task, "text_field", TEXT_FIELD)) != TEXT_FIELD:
        return f"asked with the field {asked}, not {TEXT_FIELD}"
    if one.table == "scenario x mode":
        wanted = SCENARIOS[one.key.partition(" / ")[0]]
        return "" if score.of == wanted else f"{score.of} questions, not the {wanted} of the published scenario"
    if one.table == "mode":
        wanted = sum(SCENARIOS[name] for name in PAPER)
        return "" if score.of == wanted else f"{score.of} questions, not the {wanted} of the published scenarios"
    wanted = getattr(task.task, "published", {}).get("all", task.samples)
    return "" if task.samples == wanted else f"{task.samples} samples, not the {wanted} of the published set"


def _same(model: str, ours: Mapping[str, Any]) -> bool:
    """Whether a run's model is called like a published one: not something that was made of it, such as llava-v1.5-7b-lora."""
    words, name = ("".join(letter for letter in text.lower() if letter.isalnum()) for text in (Path(name_of(ours)).name, model))
    return words.replace("llavav15", "llava15").removesuffix("hf") == name
