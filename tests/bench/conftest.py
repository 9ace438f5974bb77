"""A tiny random model for the benchmark's own tests."""

from pathlib import Path

import pytest
import torch

from llava.bench.floor import Size
from llava.bench.machine import Rates
from llava.bench.setup import Setup
from llava.bench.shapes import SHAPES, write_checkpoint
from llava.model.builder import load
from llava.model.loaded import Loaded


@pytest.fixture(scope="session")
def random_tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(SHAPES["tiny"], tmp_path_factory.mktemp("bench") / "llava-random-tiny", torch.float32)


@pytest.fixture(scope="session")
def random_llava(random_tiny: Path) -> Loaded:
    return load(str(random_tiny), device="cpu", dtype="float32")


@pytest.fixture
def setup(random_llava: Loaded) -> Setup:
    return Setup(random_llava, Size.of(random_llava), Rates(1e9, 1e9), tokens=6, samples=4, used=8)
