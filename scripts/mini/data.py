"""Training pictures and packed batches.

Pictures are drawn once into a pool (runs/mini/pool-*.npy, from one seed); texts are made on the fly.
"""

from __future__ import annotations

import random
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import sentencepiece as spm
import torch
from numpy.typing import NDArray
from torch import Tensor

from scripts.mini import dialogues, model
from scripts.mini.dialogues import Dialogue
from scripts.mini.draw import Mark, compose, square
from scripts.mini.scenes import Scene, caption, draw_scene
from scripts.mini.tokenizer import IMAGE_ID, PAD_ID, SYSTEM
from scripts.mini.world import ADJECTIVES, COLOURS, NUMBERS, OBJECTS, PLACES, WORDS

Encoded = tuple[list[int], list[bool]]
BOS, EOS = 1, 2
LABELS: dict[str, int] = {
    key: i
    for i, key in enumerate(
        [f"see {n}" for n in OBJECTS] + [f"read {w}" for w in (*WORDS, *ADJECTIVES, *COLOURS)] + [f"color {c}" for c in COLOURS]
        + [f"place {x}" for x in PLACES] + [f"count {n}" for n in NUMBERS[1:]] + [f"digit {d}" for d in range(1, 10)]
    )
}  # fmt: skip
SPOTS: dict[str, int] = {key: i for i, key in enumerate((*OBJECTS, *"abcdefghijklmnopqrstuvwxyz0123456789+"), 1)}


def scene_number(index: int, seed: int) -> Scene:
    """The training scene with this number; hazards are drawn more often than their share of the world."""
    return draw_scene(random.Random(f"train{seed}-{index}"), False)


def marked(size: tuple[int, int], marks: list[Mark]) -> NDArray[np.uint8]:
    """What is at each pixel of the padded and resized picture: 0 nothing, else a number from SPOTS."""
    out = np.zeros((model.SIDE, model.SIDE), np.uint8)
    longest = max(size)
    scale, left, top = model.SIDE / longest, (longest - size[0]) // 2, (longest - size[1]) // 2
    for label, (x0, y0, x1, y1) in marks:
        rows = slice(round((y0 + top) * scale), round((y1 + top) * scale))
        out[rows, round((x0 + left) * scale) : round((x1 + left) * scale)] = SPOTS.get(label, 0)
    return out


def drawn(job: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Pictures start..stop of the pool, with what is where as a fourth channel."""
    start, stop, seed = job
    out = []
    for i in range(start, stop):
        image, marks = compose(scene_number(i, seed))
        out.append(np.dstack((np.asarray(square(image, model.SIDE)), marked(image.size, marks))))
    return np.stack(out)


def picture_pool(folder: Path, size: int, seed: int) -> Tensor:
    """uint8 (size, side, side, 4), drawn by two processes the first time and read afterwards."""
    path = folder / f"pool-{size}-{model.SIDE}-{seed}.npy"
    if not path.exists():
        jobs = [(i, min(i + 500, size), seed) for i in range(0, size, 500)]
        with ProcessPoolExecutor(2) as workers:
            pool = np.concatenate(list(workers.map(drawn, jobs)))
        folder.mkdir(parents=True, exist_ok=True)
        np.save(path.with_suffix(".part.npy"), pool)
        path.with_suffix(".part.npy").rename(path)
    # Mapped copy-on-write: two processes share one copy, and nobody writes.
    return torch.from_numpy(np.load(path, mmap_mode="c"))


def labels(scenes: list[Scene]) -> Tensor:
    """What the first stages ask the tower for: (batch, classes) of zeros and ones."""
    out = torch.zeros(len(scenes), len(LABELS))
    for row, scene in zip(out, scenes, strict=True):
        keys = [f"see {n}" for n in (scene.name, scene.other) if n] + [f"color {c}" for c in (scene.colour, scene.other_colour) if c]
        if scene.name:
            keys += [f"place {scene.place}", f"count {('', 'one', 'two', 'three', 'four')[scene.count + bool(scene.other)]}"]
        if scene.kind == "sum":
            keys += [f"digit {d}" for d in scene.words.split(" + ")]
        elif scene.words:
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


class Packer:
    """Turns dialogues into packed token rows."""

    def __init__(self, tokenizer: Path) -> None:
        self.sp = spm.SentencePieceProcessor(model_file=str(tokenizer))
        image = [IMAGE_ID] * model.IMAGE_TOKENS
        line = self.sp.encode("\n")
        space = self.sp.encode(" ")
        system = [BOS, *self.sp.encode(f"{SYSTEM} USER:")]
        self.prefixes = {
            "plain": [BOS, *image], "text": system, "image": [*system, *space, *image],
            "pair": [*system, *space, *image, *line, *image],
        }  # fmt: skip

    def encode(self, dialogue: Dialogue, prefix: str) -> Encoded:
        """The tokens after the prefix, and which of them are learnt."""
        if prefix == "plain":
            ids = [*self.sp.encode("\n" + dialogue[0][1]), EOS]
            return ids, [False] + [True] * (len(ids) - 1)
        ids, learnt = [], []
        for i, (user, answer) in enumerate(dialogue):
            start = (" " if prefix == "text" else "\n") if i == 0 else "USER: "
            asked = self.sp.encode(f"{start}{user} ASSISTANT:")
            told = [*self.sp.encode(f" {answer}"), EOS]
            ids += asked + told
            learnt += [False] * len(asked) + [True] * len(told)
        return ids, learnt

    def batch(self, rows: list[list[Dialogue]], prefix: str, room: int) -> dict[str, Tensor]:
        """Packed rows; a row keeps as many of its dialogues as fit into `room` tokens after the prefix."""
        head = self.prefixes[prefix]
        encoded = []
        for dialogues_ in rows:
            kept: list[Encoded] = []
            for one in (self.encode(d, prefix) for d in dialogues_):
                if sum(len(k[0]) for k in kept) + len(one[0]) <= room:
                    kept.append(one)
            encoded.append(kept)
        length = len(head) + max(sum(len(k[0]) for k in kept) for kept in encoded)
        shape = (len(rows), length)
        out = {"ids": torch.full(shape, PAD_ID), "labels": torch.full(shape, -100), "group": torch.full(shape, -1),
               "position": torch.zeros(shape, dtype=torch.long), "weight": torch.ones(shape)}  # fmt: skip
        for r, kept in enumerate(encoded):
            at = len(head)
            out["ids"][r, :at] = torch.tensor(head)
            out["group"][r, :at] = 0
            out["position"][r, :at] = torch.arange(at)
            for g, (ids, learnt) in enumerate(kept, 1):
                end = at + len(ids)
                out["ids"][r, at:end] = torch.tensor(ids)
                out["group"][r, at:end] = g
                out["position"][r, at:end] = torch.arange(len(head), len(head) + len(ids))
                # The hidden state one token earlier predicts each learnt token.
                targets = torch.tensor([t if keep else -100 for t, keep in zip(ids, learnt, strict=True)])
                out["labels"][r, at : end - 1] = targets[1:]
                out["weight"][r, at:end] = sum(learnt) ** -0.8
                at = end
        return out


def mixture(rng: random.Random, scenes: list[Scene], prefix: str, practice: bool = False) -> list[list[Dialogue]]:
    """The last stage's dialogues, one list for every row."""
    if prefix == "text":
        return [dialogues.text_dialogues(rng, 9, practice) for _ in scenes]
    if prefix == "pair":
        return [dialogues.pair_dialogues(rng, a, b) for a, b in zip(scenes[::2], scenes[1::2], strict=True)]
    return [dialogues.image_dialogues(rng, scene, 10, practice) for scene in scenes]


def plain(scenes: list[Scene]) -> list[list[Dialogue]]:
    """Captions for the third stage, as LLaVA's own first stage: the picture, a line break, the caption."""
    return [[[("", caption(scene))]] for scene in scenes]
