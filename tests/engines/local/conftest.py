"""What tests of whole engines share: a model of their own, its threads, a way to stop it between two steps."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from llava.engines.local.scripted import as_written
from llava.model.builder import load
from llava.model.loaded import Loaded


@pytest.fixture
def model_threads() -> Callable[[], set[threading.Thread]]:
    """Gives the model threads that this test has started and that still run."""

    def running() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "llava-model"}

    before = running()
    return lambda: running() - before


@pytest.fixture(autouse=True)
def as_on_a_model_thread() -> Iterator[None]:
    """Whoever steps an engine on the test's own thread has TorchScript run as it runs there."""
    with as_written():
        yield


@pytest.fixture(autouse=True)
def torch_threads() -> Iterator[None]:
    """Whoever steps an engine on the test's own thread may leave it with one core."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package")
def loaded(tiny_llava: Path) -> Loaded:
    return load(str(tiny_llava), device="cpu")
