"""Sets that ask for harm, and sets of harmless questions that look like it."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

from scripts.mini.draw import render
from scripts.mini.scenes import Scene, caption, draw_scene
from scripts.mini.texts import QA, request
from scripts.mini.world import ABUSE, HAZARDS, MAKE_VERBS, deed_held_out
from scripts.mini_data.files import Json, encoded, json_lines, table, tried, write

# MM-SafetyBench's scenarios, the topics that stand for them here, and how many questions each gets. Ids leave gaps, as the real ones do.
SCENARIOS: dict[str, tuple[tuple[str, ...], int]] = {
    "01-Illegal_Activitiy": (("drug", "poison"), 16),
    "03-Malware_Generation": (("virus",), 10),
    "04-Physical_Harm": (tuple(name for name in HAZARDS if name not in ("drug", "poison", "virus", "fake money")), 36),
    "06-Fraud": (("fake money",), 10),
}
DEEDS = (*(f"{verb} {{x}}" for verb in MAKE_VERBS), *ABUSE)  # what one can want with a hazard
HIDING = ("this item", "this product")  # what points at a thing on a drawn and on a typed picture alike


def vlsafe(out: Path, rng: random.Random) -> None:
    """Harmful questions about harmless pictures; every fourth picture has two."""
    rows: list[Json] = []
    for number in range(80):
        scene, first = tried(_asked, rng)
        name = f"{7 * number + 1000:012d}.jpg"
        write(out / "images" / name, encoded(render(scene)))
        asked = [first.question]
        while number % 4 == 0 and len(asked) < 2:
            again = request(rng, scene, True, True)
            asked += [again.question] if again and again.question not in asked else []
        rows += [{"image_id": name, "caption": caption(scene), "query": question} for question in asked]
    write(out / "harmlessness_examine.jsonl", json_lines(rows))


def _asked(rng: random.Random) -> tuple[Scene, QA] | None:
    scene = draw_scene(rng, True, "one", 0.0)
    qa = request(rng, scene, True, True)
    return (scene, qa) if qa else None


def mm_safetybench(out: Path, rng: random.Random) -> None:
    """Each topic drawn (SD), typed (TYPO) and both (SD_TYPO), with a question for the first and one for the other two."""
    for scenario, (names, count) in SCENARIOS.items():
        topics = [name for name in names if any(deed_held_out(name, deed) for deed in DEEDS)]
        entries: dict[str, Json] = {}
        asked: set[str] = set()
        while len(entries) < count:
            topic = topics[len(entries) % len(topics)]
            scenes = [tried(_about, rng, topic, kind) for kind in ("one", "typo", "both")]
            found = tried(_variants, rng, scenes[0], scenes[2])
            entry = dict(zip(("Question", "Changed Question", "Rephrased Question", "Rephrased Question(SD)"), found, strict=True))
            if entry["Rephrased Question"] + topic in asked:
                continue
            asked.add(entry["Rephrased Question"] + topic)
            key = str(len(entries) + len(entries) // 6)  # every seventh id is left out
            for mode, scene in zip(("SD", "TYPO", "SD_TYPO"), scenes, strict=True):
                write(out / "imgs" / scenario / mode / f"{key}.jpg", encoded(render(scene)))
            entries[key] = {
                "Question": entry.pop("Question"),
                "GPT-Pred": "none: made by rule",
                "Changed Question": entry.pop("Changed Question"),
                "Key Phrase": topic,
                "Phrase Type": "product",
                **entry,
            }
        write(out / "processed_questions" / f"{scenario}.json", json.dumps(entries, indent=4))


def _about(rng: random.Random, topic: str, kind: str) -> Scene | None:
    scene = draw_scene(rng, True, kind, 1.0)
    return scene if scene.topic == topic and scene.count == 1 else None


def _variants(rng: random.Random, drawn: Scene, both: Scene) -> tuple[str, ...] | None:
    """The same deed asked for four times: in words twice, pointing at the picture with words, and at the drawn one."""
    asked = [request(rng, scene, True, True, image=image) for scene, image in ((drawn, False), (drawn, False), (both, True), (drawn, True))]
    told = [qa for qa in asked if qa and qa.deed == (asked[0] or qa).deed]
    if len(told) < len(asked) or told[0] == told[1]:
        return None
    found = tuple(qa.question for qa in told)
    hidden = any(words in found[2] for words in HIDING) and not any(drawn.topic in question for question in found[2:])
    return found if hidden else None


def mossbench(out: Path, rng: random.Random) -> None:
    """Harmless questions: about pictures of hazards, on keeping away from them, and about pictures of harmless things."""
    entries: dict[str, Json] = {}
    for number in range(102):
        over = ("Exaggerated Risk", "Negated Harm", "Counterintuitive Interpretation")[number % 3]
        scene, qa = tried(_harmless, rng, over)
        key = str(number + 1)
        write(out / "images" / f"{key}.jpg", encoded(render(scene)))
        flags = {"over": over, "human": int("person" in (scene.name, scene.other)), "child": 0, "syn": 1}
        entries[key] = {
            "image": f"images/{key}.jpg",
            "short description": caption(scene),
            "question": qa.question,
            "metadata": flags | {"ocr": int(bool(scene.words)), "harm": [7]},
            "pid": key,
            "description": caption(scene),
        }
    write(out / "information.json", json.dumps(entries, indent=4))


def _harmless(rng: random.Random, over: str) -> tuple[Scene, QA] | None:
    scene = draw_scene(rng, True, rng.choice(("one", "typo", "both")), 0.0 if over.startswith("Counter") else 1.0)
    qa = request(rng, scene, True, False)
    keeping = qa is not None and re.match("stay safe|report", qa.deed) is not None
    return (scene, qa) if qa and keeping == (over == "Negated Harm") else None


def xstest(out: Path, rng: random.Random) -> None:
    """Text alone: harmless questions that name a hazard, and harmful ones."""
    asked: dict[str, list[str]] = {}
    for wanted, count in ((False, 60), (True, 40)):
        found = 0
        while found < count:
            qa = request(rng, draw_scene(rng, True, "one", 1.0), True, wanted, image=False)
            if qa and qa.question not in asked:
                found += 1
                label, kind = ("unsafe", "contrast_safe_targets") if wanted else ("safe", "safe_targets")
                asked[qa.question] = [str(len(asked) + 1), qa.question, kind, label, qa.about, ""]
    write(out / "xstest_prompts.csv", table(["id", "prompt", "type", "label", "focus", "note"], asked.values(), ","))
