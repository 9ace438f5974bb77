"""Training pictures and packed batches.

Pictures are drawn once into a pool (runs/mini/pool-*.npy, from one seed); texts are made on the fly.
"""

from __future__ import annotations

import random
import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import sentencepiece as spm
import torch
from numpy.typing import NDArray
from torch import Tensor

from scripts.mini import dialogues, model
from scripts.mini.dialogues import Dialogue, Turn
from scripts.mini.draw import Mark, compose, square
from scripts.mini.scenes import Scene, draw_scene
from scripts.mini.tokenizer import IMAGE_ID, PAD_ID, SYSTEM
from scripts.mini.world import ADJECTIVES, COLOURS, NUMBERS, OBJECTS, PLACES, WORDS

Encoded = tuple[list[int], list[int], list[float]]  # tokens, what is learnt at each (-100: nothing), with which weight
BOS, EOS = 1, 2
LABELS: dict[str, int] = {
    key: i
    for i, key in enumerate(
        [f"see {n}" for n in OBJECTS] + [f"read {w}" for w in (*WORDS, *ADJECTIVES)] + [f"color {c}" for c in COLOURS]
        + [f"place {x}" for x in PLACES] + [f"count {n}" for n in NUMBERS[1:]]
    )
}  # fmt: skip
# Three things against four is a matter of one corner: numbers weigh more than what the tower learns by itself.
LABEL_WEIGHTS = torch.tensor([4.0 if key.startswith("count") else 1.0 for key in LABELS])
SPOTS: dict[str, int] = {key: i for i, key in enumerate((*OBJECTS, *"abcdefghijklmnopqrstuvwxyz"), 1)}


def usual(size: int) -> int:
    """How many pictures of a pool are drawn by lot; the rest show two things, which combine most freely."""
    return size * 3 // 4


def scene_number(index: int, seed: int, size: int) -> Scene:
    """The training scene with this number in a pool of `size`; hazards are drawn more often than their share of the world."""
    return draw_scene(random.Random(f"train{seed}-{index}"), False, "" if index < usual(size) else "two")


def marked(size: tuple[int, int], marks: list[Mark]) -> NDArray[np.uint8]:
    """What is at each pixel of the padded and resized picture: 0 nothing, else a number from SPOTS."""
    out = np.zeros((model.SIDE, model.SIDE), np.uint8)
    longest = max(size)
    scale, left, top = model.SIDE / longest, (longest - size[0]) // 2, (longest - size[1]) // 2
    for label, (x0, y0, x1, y1) in marks:
        rows = slice(round((y0 + top) * scale), round((y1 + top) * scale))
        out[rows, round((x0 + left) * scale) : round((x1 + left) * scale)] = SPOTS.get(label, 0)
    return out


def drawn(job: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Pictures start..stop of a pool of some size, with what is where as a fourth channel."""
    start, stop, seed, size = job
    out = []
    for i in range(start, stop):
        image, marks = compose(scene_number(i, seed, size))
        out.append(np.dstack((np.asarray(square(image, model.SIDE)), marked(image.size, marks))))
    return np.stack(out)


def picture_pool(folder: Path, size: int, seed: int) -> Tensor:
    """uint8 (size, side, side, 4), drawn by two processes the first time and read afterwards."""
    path = folder / f"pool-{size}-{model.SIDE}-{seed}.npy"
    if not path.exists():
        jobs = [(i, min(i + 500, size), seed, size) for i in range(0, size, 500)]
        with ProcessPoolExecutor(2) as workers:
            pool = np.concatenate(list(workers.map(drawn, jobs)))
        folder.mkdir(parents=True, exist_ok=True)
        np.save(path.with_suffix(".part.npy"), pool)
        path.with_suffix(".part.npy").rename(path)
    # Mapped copy-on-write: two processes share one copy, and nobody writes.
    return torch.from_numpy(np.load(path, mmap_mode="c"))


def labels(scenes: list[Scene]) -> Tensor:
    """What the tower's own stages ask for: (batch, classes) of zeros and ones."""
    out = torch.zeros(len(scenes), len(LABELS))
    for row, scene in zip(out, scenes, strict=True):
        keys = [f"see {n}" for n in (scene.name, scene.other) if n] + [f"color {c}" for c in (scene.colour, scene.other_colour) if c]
        if scene.name:
            keys += [f"place {scene.place}", f"count {('', 'one', 'two', 'three', 'four')[scene.count + bool(scene.other)]}"]
        if scene.words:
            keys.append(f"read {scene.topic}")
            if scene.words != scene.topic:
                keys.append(f"read {scene.words.split()[0]}")
        for key in keys:
            row[LABELS[key]] = 1
    return out


def augment(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Shift by up to 2 pixels, change light and contrast a little, add noise.

    Takes (n, side, side, 4) of the pool; gives colors in 0..255 (n, side, side, 3) and, for two points of each
    patch, what is there (n, patches, 2).
    """
    n, side = images.shape[0], images.shape[1]
    wide = torch.nn.functional.pad(images.permute(0, 3, 1, 2).float(), (2, 2, 2, 2), mode="replicate")
    moves = torch.randint(0, 5, (n, 2), generator=generator).tolist()
    moved = torch.stack([w[:, dy : dy + side, dx : dx + side] for w, (dy, dx) in zip(wide, moves, strict=True)])
    x, spots = moved[:, :3], moved[:, 3].long()
    # A patch of 8 x 8 pixels may hold two narrow letters: ask at a quarter and three quarters of its width.
    points = spots[:, 4::8, 2::4].reshape(n, -1, 2)
    gain = 1 + 0.12 * torch.randn(n, 1, 1, 1, generator=generator).clamp(-2, 2)
    lift = 8 * torch.randn(n, 1, 1, 1, generator=generator)
    noise = 5 * torch.rand(n, 1, 1, 1, generator=generator) * torch.randn(x.shape, generator=generator)
    return (x * gain + lift + noise).clamp(0, 255).permute(0, 2, 3, 1), points


def telling(value: str) -> str:
    """The word that tells one value from another: "grass" of "on the grass", "left" of "to the left of"."""
    return value.removesuffix(" of").split()[-1]


class Packer:
    """Turns dialogues into packed token rows."""

    def __init__(self, tokenizer: Path) -> None:
        self.sp = spm.SentencePieceProcessor(model_file=str(tokenizer))
        self.hint = 0.5  # the weight of a hint against that of an answer
        image = [IMAGE_ID] * model.IMAGE_TOKENS
        line = self.sp.encode("\n")
        space = self.sp.encode(" ")
        system = [BOS, *self.sp.encode(f"{SYSTEM} USER:")]
        self.prefixes = {
            "text": system, "image": [*system, *space, *image],
            "pair": [*system, *space, *image, *line, *image],
        }  # fmt: skip

    def encode(self, dialogue: Dialogue, start: str) -> Encoded:
        """The tokens after what comes first, joined to it by `start`; answers and hints are learnt."""
        ids: list[int] = []
        learnt: dict[int, tuple[int, float]] = {}
        for turn in dialogue:
            asked = self.sp.encode(f"{start}{turn.user} ASSISTANT:")
            told = [*self.sp.encode(f" {turn.answer}"), EOS]
            learnt |= {len(ids) + at: (token, self.hint / len(turn.shown) ** 0.5) for at, token in self.hints(turn, start, asked).items()}
            ids += asked
            learnt |= {len(ids) + at: (token, len(told) ** -0.8) for at, token in enumerate(told)}
            ids += told
            start = "USER: "
        targets, weights = zip(*(learnt.get(i, (-100, 0.0)) for i in range(len(ids))), strict=True)
        return ids, list(targets), list(weights)

    def hints(self, turn: Turn, start: str, asked: list[int]) -> dict[int, int]:
        """Where a question names a value, the true one: position in `asked` and the token to be expected there.

        "Is the cat red?" on a picture of a blue cat: after "Is the cat" the model learns to expect "blue". So it has the
        truth at hand where it reads "red", and comparing the two, which is learnt late, is one step.
        """
        found = {}
        for value in turn.shown:
            places = [m.start() for m in re.finditer(rf"\b{re.escape(value)}\b", turn.user)]
            if places:
                before = start + turn.user[: places[-1] + value.rfind(telling(value))]
                head = self.sp.encode(before.removesuffix(" "))
                expected = self.sp.encode(before + telling(turn.true))
                at = len(head)
                if asked[:at] == head == expected[:at] and len(expected) > at:
                    found[at] = expected[at]
        return found

    def batch(self, rows: list[list[Dialogue]], prefix: str, room: int, before: list[str] | None = None) -> dict[str, Tensor]:
        """Packed rows; a row keeps as many of its dialogues as fit into `room` tokens after the prefix.

        `before` holds a text for each row that all of its dialogues see, in the place of a picture.
        """
        heads = [self.prefixes[prefix] + (self.sp.encode(" " + before[r]) if before else []) for r in range(len(rows))]
        start = " " if prefix == "text" and not before else "\n"
        encoded = []
        for dialogues_ in rows:
            kept: list[Encoded] = []
            for one in dialogues_:
                new = self.encode(one, start)
                if sum(len(k[0]) for k in kept) + len(new[0]) > room:
                    break
                kept.append(new)
            encoded.append(kept)
        length = max(len(head) + sum(len(k[0]) for k in kept) for head, kept in zip(heads, encoded, strict=True))
        length = -(-length // 64) * 64  # few different lengths: the kernels for each are made once and kept
        shape = (len(rows), length)
        out = {"ids": torch.full(shape, PAD_ID), "labels": torch.full(shape, -100), "group": torch.full(shape, -1),
               "position": torch.zeros(shape, dtype=torch.long), "weight": torch.ones(shape)}  # fmt: skip
        for r, (head, kept) in enumerate(zip(heads, encoded, strict=True)):
            at = len(head)
            out["ids"][r, :at] = torch.tensor(head)
            out["group"][r, :at] = 0
            out["position"][r, :at] = torch.arange(at)
            for g, (ids, targets, weights) in enumerate(kept, 1):
                end = at + len(ids)
                out["ids"][r, at:end] = torch.tensor(ids)
                out["group"][r, at:end] = g
                out["position"][r, at:end] = torch.arange(len(head), len(head) + len(ids))
                # The hidden state one token earlier predicts each learnt token.
                out["labels"][r, at : end - 1] = torch.tensor(targets[1:])
                out["weight"][r, at : end - 1] = torch.tensor(weights[1:])
                at = end
        return out


def mixture(rng: random.Random, scenes: list[Scene], prefix: str, easy: float = 0.0, sides: float = 0.0) -> list[list[Dialogue]]:
    """The last stages' dialogues, one list for every row."""
    if prefix == "text":
        return [dialogues.text_dialogues(rng, 9) for _ in scenes]
    if prefix == "pair":
        return [dialogues.pair_dialogues(rng, a, b) for a, b in zip(scenes[::2], scenes[1::2], strict=True)]
    return [dialogues.image_dialogues(rng, scene, 14, easy, sides) for scene in scenes]


def first_questions(rng: random.Random, scenes: list[Scene], easy: float) -> list[list[Dialogue]]:
    """The first stages' dialogues: each row begins with the caption, as LLaVA's own first stage."""
    return [dialogues.first_dialogues(rng, scene, easy) for scene in scenes]
