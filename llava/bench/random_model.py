"""The random model that a benchmark measures: made on disk, loaded, and gone when it is done."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from llava.bench.options import check_least, check_names
from llava.bench.shapes import SHAPES, write_checkpoint
from llava.engines.local import cores
from llava.model.builder import load
from llava.model.loaded import Loaded
from llava.model.options import device_for, dtype_for

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class RandomModel:
    """What every plan says of its model; `threads` are torch's, None leaves the choice. Raises `UserError`."""

    shape: str = "33m"
    device: str = "cpu"
    dtype: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        check_names(self, shape=SHAPES)
        check_least(self, threads=1)

    @contextmanager
    def made(self, say: Say) -> Iterator[tuple[Loaded, Path]]:
        """The model and its folder, which is alone in one that is removed at the end. Raises `UserError` for a device or dtype that there
        is not."""
        device, dtype = device_for(self.device), dtype_for(self.dtype)
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        with tempfile.TemporaryDirectory(prefix="llava-bench-") as scratch:
            say(f"making a random checkpoint of shape {self.shape}")
            stored = dtype or (torch.float32 if device.type == "cpu" else torch.bfloat16)
            with cores.one():
                folder = write_checkpoint(SHAPES[self.shape], Path(scratch) / f"llava-random-{self.shape}", stored)
                loaded = load(str(folder), device=str(device), dtype=str(stored))
            yield loaded, folder
