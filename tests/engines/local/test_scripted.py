"""What is scripted is TorchScript where it can be, and does the same where it cannot."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from llava.engines.local.memory import is_out_of_memory
from llava.engines.local.packed import Kernel
from llava.engines.local.runner import Shared
from llava.engines.local.scripted import as_written, scripted
from llava.model.loaded import Loaded


class Adds(nn.Module):
    """A layer that TorchScript takes."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows + 1


class Counts(nn.Module):
    """A layer with what TorchScript has no word for."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: set[Callable[[], None]] = set()

    def forward(self, rows: Tensor) -> Tensor:
        return rows + len(self.calls | {lambda: None})


@pytest.mark.parametrize(("layer", "taken"), [(Adds(), True), (Counts(), False)])
def test_a_layer_gives_the_same_either_way(layer: nn.Module, taken: bool) -> None:
    found = scripted(layer)
    assert isinstance(found, torch.jit.ScriptModule) is taken
    with as_written():
        assert torch.equal(found(torch.zeros(3)), torch.ones(3))


def test_a_layer_elsewhere_than_on_a_cpu_stays_as_it_is() -> None:
    layer = nn.Linear(2, 2, device="meta")
    assert scripted(layer) is layer


def test_without_torchscript_everything_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: object) -> None:
        raise RuntimeError("torch.jit.script is not supported in this version of Python")

    monkeypatch.setattr(torch.jit, "script", gone)
    layer = Adds()
    assert scripted(layer) is layer


class Grows(nn.Module):
    """A layer that asks for more memory than there is."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows.new_empty([1 << 50])


def test_memory_that_runs_out_in_a_script_is_known_for_what_it_is() -> None:
    layer = scripted(Grows())
    assert isinstance(layer, torch.jit.ScriptModule)
    with pytest.raises(RuntimeError) as failure:
        layer(torch.zeros(3))
    assert is_out_of_memory(failure.value)


@pytest.mark.parametrize("kernel", Kernel)
def test_all_layers_of_a_llava_are_scripted(kernel: Kernel, llava: Loaded, llama: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llava.engines.local.runner.kernel_for", lambda _: kernel)
    for loaded in (llava, llama):
        shared = Shared.of(loaded, 2**20)
        layers: list[Any] = [shared.decoder.layers, *(shared.vision.eyes.layers if shared.vision.eyes else [])]
        assert all(isinstance(layer, torch.jit.ScriptModule) for layer in layers)
