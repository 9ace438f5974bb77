"""What a run is, decided once: the resolved options of `llava eval`, and what of them stands in the head of its records."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any

from llava.ecso import DEFENCES, PAPER, Policy
from llava.engines import is_scripted
from llava.errors import UserError, unknown
from llava.eval.presets import PRESETS, Preset
from llava.eval.provenance import Model, data_of, git_commit, versions
from llava.eval.sample import Sample, Task


@dataclass(frozen=True, slots=True)
class Shard:
    """Every `count`-th sample, beginning with number `index` (from 0)."""

    index: int
    count: int

    @classmethod
    def of(cls, text: str) -> Shard:
        """From "0/4"; raises `UserError`."""
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if not found or not 0 <= int(found[1]) < int(found[2]):
            raise UserError(f"--shard is i/n with i from 0 to n-1, such as 0/4, not {text[:40]!r}.")
        return cls(int(found[1]), int(found[2]))


@dataclass(frozen=True, slots=True)
class Plan:
    """A run: `tasks` of `data` put to `target` with `methods`, recorded below `out`.

    `limit`: only the first samples of each task. `drafts`: where first answers stand already. `originals`: below which folder the
    original's answer files are written, too. `concurrency`: samples under way at most. `ray`: a cluster for a local model.
    Raises `UserError` for what cannot be.
    """

    target: str
    tasks: tuple[Task, ...]
    data: Path
    out: Path
    methods: tuple[str, ...] = ("direct", "ecso")
    options: dict[str, Any] = field(default_factory=dict)
    model_name: str | None = None
    preset: str = "paper"
    policy: Policy = PAPER
    max_tokens: int | None = None
    limit: int | None = None
    shard: Shard | None = None
    drafts: Path | None = None
    originals: Path | None = None
    concurrency: int | None = None
    strict: bool = False
    ray: str | None = None

    def __post_init__(self) -> None:
        for name in self.methods:
            if name not in DEFENCES:
                raise unknown("method", name, DEFENCES)
        for what, names in (("task", [task.name for task in self.tasks]), ("method", self.methods)):
            if not names or len(set(names)) < len(names):
                raise UserError(f"Name at least one {what}, and each only once.")
        for what, number in (("--limit", self.limit), ("--concurrency", self.concurrency), ("--max-tokens", self.max_tokens)):
            if number is not None and number < 1:
                raise UserError(f"{what} is {number}: give at least 1.")
        if self.preset not in PRESETS:
            raise unknown("preset", self.preset, PRESETS)
        if self.ray is not None and ("://" in self.target or is_scripted(self.target)):
            raise UserError(f"--ray spreads a model's folder, a hub id or mini over a cluster, not {self.target[:40]}.")
        for task in self.tasks:
            self.preset_of(task)  # raises for what does not go together

    @property
    def folder(self) -> Path:
        """Where this process writes: `out`, or the shard's place in it."""
        return self.out / "shards" / f"{self.shard.index}-of-{self.shard.count}" if self.shard else self.out

    def preset_of(self, task: Task, model: Model | None = None) -> Preset:
        """How the task is asked."""
        preset = Preset(task, self.preset, self.policy, self.max_tokens)
        return replace(preset, edge=model.edge) if model else preset

    def chosen(self, samples: Sequence[Sample]) -> list[tuple[int, Sample]]:
        """This process's samples with their numbers: at most `limit`, of these the shard's."""
        numbered = list(enumerate(samples))[: self.limit]
        return numbered[self.shard.index :: self.shard.count] if self.shard else numbered

    def header(self, task: Task, model: Model, samples: Sequence[Sample]) -> dict[str, Any]:
        """The head of the records of one task, without its method. Equal for all shards, and whatever the limit is."""
        options: dict[str, Any] = asdict(task) if is_dataclass(task) and not isinstance(task, type) else {}
        return {
            "task": {"name": task.name, "options": options, "samples": len(samples)},
            "model": model.described(),
            "data": data_of(task, self.data, samples),
            "drafts": "given" if self.drafts else None,
            "versions": versions(),
            "git": git_commit(),
        }
