"""Every test runs as if on a bare machine: no keys, no proxies, no hub, one thread per library."""

import os

for name in list(os.environ):
    if name.startswith(("OPENAI_", "LLAVA_", "HF_", "TRANSFORMERS_")) or name.lower().endswith("_proxy"):
        del os.environ[name]
# Set before anything imports torch or transformers; subprocesses inherit it.
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1")

from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING  # noqa: E402

import hypothesis  # noqa: E402
import pytest  # noqa: E402

# Helpers may assert, under python -O too: pytest rewrites them as it rewrites tests.
pytest.register_assert_rewrite(*(f"tests.{path.stem}" for path in Path(__file__).parent.iterdir() if path.name != "conftest.py"))

from tests import factories  # noqa: E402

if TYPE_CHECKING:
    from llava.model.loaded import Loaded

# A busy machine is no failure, and every run draws the same examples.
hypothesis.settings.register_profile("calm", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("calm")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Processes of `pytest -n auto`: one more than cores, because tests wait a lot: for servers, time-outs, programs that start."""
    return min(8, (os.cpu_count() or 1) + 1)


@pytest.fixture(scope="session")
def tiny_llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face-format LLaVA of random weights."""
    return factories.llava_checkpoint(tmp_path_factory.mktemp("models") / "llava-tiny")


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text-only model of random weights."""
    return factories.llama_checkpoint(tmp_path_factory.mktemp("models") / "llama-tiny")


@pytest.fixture(scope="session")
def tiny_idefics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another vision-language model of random weights."""
    return factories.idefics_checkpoint(tmp_path_factory.mktemp("models") / "idefics-tiny")


def _loaded(folder: Path) -> "Loaded":
    from llava.model.builder import load  # only tests that need a model wait for torch

    return load(str(folder), device="cpu")


@pytest.fixture(scope="session")
def llava(tiny_llava: Path) -> "Loaded":
    """`tiny_llava`, loaded once for all tests that only ask it."""
    return _loaded(tiny_llava)


@pytest.fixture(scope="session")
def llama(tiny_llama: Path) -> "Loaded":
    """`tiny_llama`, loaded once."""
    return _loaded(tiny_llama)


@pytest.fixture(scope="session")
def idefics(tiny_idefics: Path) -> "Loaded":
    """`tiny_idefics`, loaded once."""
    return _loaded(tiny_idefics)
