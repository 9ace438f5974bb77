"""What is scripted is TorchScript where it can be, and does the same where it cannot."""

import asyncio
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from llava.chat import Call, Chat, Sampling
from llava.engines import generate
from llava.engines.local import LocalEngine, slots
from llava.engines.local.memory import is_out_of_memory
from llava.engines.local.packed import Kernel
from llava.engines.local.runner import Shared, SlotRunner
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


def test_a_layer_whose_weights_are_computed_anew_stays_as_it_is() -> None:
    layer = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)))
    assert scripted(layer) is layer


def test_many_threads_that_script_at_once_leave_the_process_its_warnings() -> None:
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        for made in pool.map(lambda _: scripted(Adds()), range(200)):
            assert isinstance(made, torch.jit.ScriptModule)
    assert list(warnings.filters) == before


def test_a_model_thread_runs_scripts_as_they_are(llama: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[tuple[str, bool]] = set()

    def watched(runner: SlotRunner, *work: Any) -> Any:
        seen.add((threading.current_thread().name, torch._C._get_graph_executor_optimize()))
        return prefill(runner, *work)

    prefill = SlotRunner.prefill
    monkeypatch.setattr(SlotRunner, "prefill", watched)

    async def ask() -> None:
        engine = LocalEngine(llama)
        await generate(engine, Call("answer", Chat.ask("what?"), Sampling(max_tokens=2)))
        await engine.close()

    asyncio.run(ask())
    assert seen == {("llava-model", False)}


def test_rows_are_copied_by_a_script() -> None:
    assert isinstance(slots._copy, torch.jit.ScriptFunction)


@pytest.mark.parametrize("kernel", Kernel)
def test_all_layers_of_a_llava_are_scripted(kernel: Kernel, llava: Loaded, llama: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llava.engines.local.runner.kernel_for", lambda _: kernel)
    for loaded in (llava, llama):
        shared = Shared.of(loaded, 2**20)
        layers: list[Any] = [shared.decoder.layers, *(shared.vision.eyes.layers if shared.vision.eyes else [])]
        assert all(isinstance(layer, torch.jit.ScriptModule) for layer in layers)
