"""Train `mini` from scratch: python -m scripts.mini.train [--seed 0] [--scale 1.0].

Two processes of one thread each share every batch and average their gradients: on a busy machine that is much faster
than one process of two threads, which waits for its slower half after every operation.

Ten stages, each resumable from runs/mini/ (checkpoints every 100 steps; just start it again):
1 language   the language model learns to copy and to compare, on captions in the place of pictures, and to refuse;
2 comparing  the same with a fresh learning rate: what question and caption have in common is learnt late;
3 tower      the vision tower learns labels of pictures (what, which words, colors, places), as CLIP would be given;
4 reading    the same, mostly on typed words, which are harder than things;
5 rereading  once more: letters are learnt late and then quickly, and this stage is cheap;
6 aligning   the projector alone learns to show pictures to the language model (LLaVA's first stage);
7 looking    tower, projector and language model together learn captions and terse questions;
8 mixture    everything: requests, refusals, ECSO's prompts, benign questions (LLaVA's second stage);
9 exam       the same with a fresh learning rate, more on pictures of two things;
10 resit     once more, shorter, more on typed words.
The mean of the weights after the last two is the model, which is better than either.
Writes llava/model/mini/ at the end. Some GB of memory, 2 cores, no GPU; docs/mini.md has the measured time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import start_processes
from tqdm import tqdm
from transformers import LlavaForConditionalGeneration

from scripts.mini import data
from scripts.mini import model as net
from scripts.mini.export import save
from scripts.mini.scenes import Scene, caption, draw_scene
from scripts.mini.tokenizer import train_tokenizer

RUNS = Path("runs/mini")
OUT = Path("llava/model/mini")


@dataclass(frozen=True)
class Stage:
    """One stage: how many steps, of how many pictures, with which peak learning rate."""

    name: str
    steps: int
    batch: int
    rate: float
    warmup: int = 100


STAGES = (
    Stage("language", 2400, 8, 1.5e-3),
    Stage("comparing", 3600, 8, 1.2e-3),
    Stage("tower", 3200, 72, 1.5e-3),
    Stage("reading", 1600, 72, 1.2e-3),
    Stage("rereading", 3000, 72, 1.2e-3),
    Stage("aligning", 300, 16, 2.0e-3, 30),
    Stage("looking", 800, 16, 1.0e-3),
    Stage("mixture", 1250, 16, 1.0e-3),
    Stage("exam", 1450, 16, 8.0e-4, 30),
    Stage("resit", 1300, 16, 6.0e-4, 30),
)
# Shares of pictures of words, and of two things (from `exam` on of those that are in the pool for that alone).
NAMING = {"tower": (0.0, 0.1), "reading": (0.45, 0.15), "rereading": (0.6, 0.1)}
TALKING = {"exam": (0.1, 0.25), "resit": (0.3, 0.12)}  # (0.1, 0.08) before
RECIPE = ("world", "phrases", "scenes", "texts", "terse", "shapes", "draw", "words", "tokenizer", "dialogues", "data", "model", "train")
PROCESSES = 2
# The C library would give the memory of every large tensor back and ask for it anew: a tenth of the time.
KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30), "MALLOC_TOP_PAD_": str(1 << 27)}
SEEN_PATCHES = 48  # of 144, in the stages of the tower alone
POOL = 64_000
ROOM = 266  # tokens for dialogues behind a picture
LOOKING_ROOM = 138  # the same in the stages aligning and looking
TEXT_ROOM = 338  # and without a picture


class Trainer:
    """The state of one run: model, helper, optimizer, pictures, and where in which stage it is."""

    def __init__(self, seed: int, pool: int, runs: Path, rank: int = 0) -> None:
        self.seed, self.runs, self.rank = seed, runs, rank
        self.packer = data.Packer(runs / "tokenizer.model")
        self.pool = data.picture_pool(runs, pool, seed)
        self.scenes = [data.scene_number(i, seed, pool) for i in range(pool)]
        self.usual = range(data.usual(pool))
        self.typed = [i for i in self.usual if self.scenes[i].words]
        self.pairs = [i for i in self.usual if self.scenes[i].other]
        self.more_pairs = range(data.usual(pool), pool)
        self.model: LlavaForConditionalGeneration = net.build(seed)
        self.helper = net.Labels(data.LABEL_WEIGHTS, len(data.SPOTS) + 1)
        self.seconds: dict[str, float] = {}
        self.computing: dict[str, float] = {}  # the same without waiting: what a machine without other work would need at least

    def restore(self, path: Path) -> dict[str, object]:
        """Read weights and time; the rest of the checkpoint is returned."""
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.helper.load_state_dict(state["helper"])
        self.seconds, self.computing = dict(state["seconds"]), dict(state["computing"])
        return dict(state)

    def write(self, path: Path, **more: object) -> None:
        """Save a checkpoint whole or not at all."""
        weights = {"model": self.model.state_dict(), "helper": self.helper.state_dict()}
        state = {**weights, "seconds": self.seconds, "computing": self.computing, **more}
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)

    def optimizer(self, stage: Stage) -> torch.optim.AdamW:
        """AdamW; biases, norms and embeddings are not decayed. The helper learns with the tower and is frozen afterwards."""
        self.helper.requires_grad_(stage.name in NAMING)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(stage.name != "aligning" or "projector" in name)
        params = [p for p in (*self.model.parameters(), *self.helper.parameters()) if p.requires_grad]
        groups = [{"params": [p for p in params if p.ndim >= 2], "weight_decay": 0.03},
                  {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0}]  # fmt: skip
        return torch.optim.AdamW(groups, lr=stage.rate, betas=(0.9, 0.98), eps=1e-8)

    def pictures(self, stage: Stage, count: int, rng: random.Random) -> tuple[Tensor, Tensor, list[Scene]]:
        """A random handful of the pool, slightly changed, with what is where, and its scenes."""
        typed, pairs = {**NAMING, **TALKING}.get(stage.name, (0.1, 0.08))
        pairs_of = self.more_pairs if stage.name in TALKING else self.pairs
        sources = rng.choices((self.typed, pairs_of, self.usual), (typed, pairs, 1 - typed - pairs), k=count)
        chosen = [rng.choice(source) for source in sources]
        generator = torch.Generator().manual_seed(rng.randrange(1 << 40))
        images, points = data.augment(self.pool[chosen], generator)
        return net.pixels(images), points, [self.scenes[i] for i in chosen]

    def loss(self, stage: Stage, step: int) -> Tensor:
        """The loss of one step; everything random in it depends on seed, stage, step and rank only."""
        rng = random.Random(f"{self.seed}|{stage.name}|{step}|{self.rank}")
        share, progress = stage.batch // PROCESSES, step / stage.steps
        if stage.name in NAMING:
            x, points, scenes = self.pictures(stage, share, rng)
            return self.naming(x, points, scenes, rng)
        if stage.name == "language":
            return self.language(rng, share, 1 - 0.6 * progress, 0.3 + 0.3 * progress)
        if stage.name == "comparing":
            return self.language(rng, share, 0.4, 0.2)
        if stage.name != "aligning" and step % 6 == 5 and step % 24 != 23:
            return self.language(rng, share, 0.2, 0.7)
        x, points, scenes = self.pictures(stage, share, rng)
        prefix = "image"
        if stage.name in ("aligning", "looking"):
            rows, room = data.first_questions(rng, scenes, 0.8 - 0.3 * progress), LOOKING_ROOM
        else:
            prefix = "pair" if step % 24 == 23 else "image"
            rows, room = data.mixture(rng, scenes, prefix, *((0.15, 0.3) if stage.name in TALKING else (0.3,))), ROOM
        seen = net.features(self.model, x)
        answered = net.packed_loss(self.model, self.packer.batch(rows, prefix, room), seen)
        if stage.name == "aligning":  # the tower is frozen
            return answered
        # The helper, frozen by now, keeps the tower from forgetting how to read.
        return answered + 0.1 * cast(Tensor, self.helper(seen, data.labels(scenes), points))

    def naming(self, x: Tensor, points: Tensor, scenes: list[Scene], rng: random.Random) -> Tensor:
        """The tower alone: what is in the pictures, and where."""
        kept = net.worth_seeing(points, SEEN_PATCHES, torch.Generator().manual_seed(rng.randrange(1 << 40)))
        points = points.gather(1, kept.unsqueeze(-1).expand(-1, -1, 2))
        named: Tensor = self.helper(net.features(self.model, x, kept), data.labels(scenes), points)
        return named

    def language(self, rng: random.Random, share: int, easy: float, talk: float) -> Tensor:
        """The language model alone: questions on captions, a share of `easy` terse ones, or (a share of `talk`) talk without a picture."""
        scenes = [draw_scene(rng, False) for _ in range(share)]
        if rng.random() < talk:
            rows, before = data.mixture(rng, scenes, "text"), None
        else:
            rows, before = data.first_questions(rng, scenes, easy), [caption(s) for s in scenes]
        return net.packed_loss(self.model, self.packer.batch(rows, "text", TEXT_ROOM, before), None)

    def average_gradients(self) -> None:
        """Make the gradients of all processes their mean."""
        grads = [p.grad for m in (self.model, self.helper) for p in m.parameters() if p.grad is not None]
        flat = torch.cat([g.flatten() for g in grads])
        dist.all_reduce(flat)
        flat /= PROCESSES
        for grad, mean in zip(grads, torch.split(flat, [g.numel() for g in grads]), strict=True):
            grad.copy_(mean.view_as(grad))

    def run(self, stage: Stage) -> None:
        """Train one stage, from its last checkpoint if there is one."""
        done, part = self.runs / f"{stage.name}.pt", self.runs / f"{stage.name}-now.pt"
        dist.barrier()  # or a late process could read what an early one has just written
        if done.exists():
            self.restore(done)
            return
        optimizer, start = self.optimizer(stage), 0
        self.packer.hint = 0.2 if stage.name in TALKING else 0.5
        self.model.zero_grad(set_to_none=True)  # what the stage before has left would count where gradients are clipped
        self.helper.zero_grad(set_to_none=True)
        if part.exists():
            state = self.restore(part)
            optimizer.load_state_dict(state["optimizer"])  # type: ignore[arg-type]
            start = int(state["step"])  # type: ignore[call-overload]
        average, began = 0.0, time.monotonic() - self.seconds.get(stage.name, 0.0)
        computed = time.process_time() - self.computing.get(stage.name, 0.0)
        bar = tqdm(range(start, stage.steps), desc=stage.name, initial=start, total=stage.steps, mininterval=10, disable=self.rank > 0)
        for step in bar:
            rate = stage.rate * min(1.0, (step + 1) / stage.warmup)
            rate *= 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / stage.steps))
            for group in optimizer.param_groups:
                group["lr"] = rate
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = self.loss(stage, step)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            self.average_gradients()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            optimizer.step()
            average = loss.item() if step == start else 0.98 * average + 0.02 * loss.item()
            bar.set_postfix(loss=f"{average:.3f}", refresh=False)
            self.seconds[stage.name], self.computing[stage.name] = time.monotonic() - began, time.process_time() - computed
            if (step + 1) % 100 == 0 and self.rank == 0:
                self.write(part, optimizer=optimizer.state_dict(), step=step + 1)
        if self.rank == 0:
            self.write(done)
            part.unlink(missing_ok=True)


def work(rank: int, options: argparse.Namespace, meeting: str) -> None:
    """One of the processes: all stages, then process 0 writes the model's folder."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=PROCESSES)
    trainer = Trainer(options.seed, options.pool, options.runs, rank)
    for stage in STAGES:
        trainer.run(replace(stage, steps=max(1, int(stage.steps * options.scale))))
        if stage.name == options.until:
            break
    if rank == 0 and options.until == STAGES[-1].name:
        trainer.model.load_state_dict(mean([options.runs / f"{stage.name}.pt" for stage in STAGES[-2:]]))
        save(trainer.model, options.runs, options.out)
        times = {"seconds": trainer.seconds, "computing": trainer.computing}
        (options.runs / "training.json").write_text(json.dumps({"seed": options.seed, **times}))
        print(f"wrote {options.out}; training took {sum(trainer.seconds.values()) / 60:.1f} minutes")
    dist.destroy_process_group()


def mean(checkpoints: list[Path]) -> dict[str, Tensor]:
    """The mean of the weights of some checkpoints ("model soups", arXiv 2203.05482)."""
    weights = [torch.load(path, weights_only=True)["model"] for path in checkpoints]
    return {name: torch.stack([w[name].float() for w in weights]).mean(0).to(weights[0][name].dtype) for name in weights[0]}


def same_recipe(runs: Path) -> None:
    """Note in `runs` which code its files come from; files of other code are not gone on with."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    made = hashlib.sha256(b"".join(source.read_bytes() for source in sources if source.stem in RECIPE)).hexdigest()
    note = runs / "recipe.txt"
    known = note.read_text() if note.exists() else ""
    if known != made and (known or any(runs.glob("*.pt"))):
        sys.exit(f"{runs} holds the files of another recipe: move it away, or give another folder with --runs.")
    note.write_text(made)


def main() -> None:
    """Prepare tokenizer and pictures, then train."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="scale all step counts (pilots)")
    parser.add_argument("--pool", type=int, default=POOL, help="how many training pictures")
    parser.add_argument("--runs", type=Path, default=RUNS, help="checkpoints")
    parser.add_argument("--out", type=Path, default=OUT, help="the model's folder")
    parser.add_argument("--until", default=STAGES[-1].name, choices=[s.name for s in STAGES], help="stop after this stage")
    options = parser.parse_args()
    # Stopped from outside, take the two processes along (daemons go with their parent, but only when it leaves in order).
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options.runs.mkdir(parents=True, exist_ok=True)
    same_recipe(options.runs)
    if not (options.runs / "tokenizer.model").exists():
        train_tokenizer(options.runs, options.seed)
    data.picture_pool(options.runs, options.pool, options.seed)
    os.environ.update(KEPT_MEMORY)  # read by the processes when they start
    with tempfile.TemporaryDirectory() as folder:
        job = (options, f"{folder}/meeting")
        start_processes(work, args=job, nprocs=PROCESSES, daemon=True, start_method="spawn")  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
