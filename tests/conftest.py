"""Every test runs as if on a bare machine: no keys, no proxies, no hub, one thread per library."""

import os

for name in list(os.environ):
    if name.startswith(("OPENAI_", "LLAVA_", "HF_", "TRANSFORMERS_")) or name.lower().endswith("_proxy"):
        del os.environ[name]
# Set before anything imports torch or transformers; subprocesses inherit it.
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1")

from pathlib import Path  # noqa: E402

import hypothesis  # noqa: E402
import pytest  # noqa: E402

from tests import factories  # noqa: E402

# A busy machine is no failure, and every run draws the same examples.
hypothesis.settings.register_profile("calm", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("calm")


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
