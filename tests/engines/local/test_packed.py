"""Linear layers over copies give what torch's give, in blocks and side by side, and leave the model as it was."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from llava.engines.local import packed
from llava.engines.local.packed import Kernel, fastest, joined, kernel_for
from llava.model.builder import load
from llava.model.loaded import Loaded

COPIES = [Kernel.MKL, Kernel.ONEDNN]
CPU = torch.device("cpu")


def on(processor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if torch said that this machine has another processor."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": processor}, raising=False)
    packed._is_intels.cache_clear()


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    yield
    packed._is_intels.cache_clear()
    packed._works.cache_clear()


@pytest.mark.parametrize("kernel", COPIES)
@pytest.mark.parametrize("width", [40, 30_000], ids=["small", "large"])
@pytest.mark.parametrize("count", [1, 7, 16, 17, 32, 33, 255, 256, 257, 300, 800])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_any_number_of_rows_gives_what_the_layers_give_side_by_side(width: int, count: int, bias: bool, kernel: Kernel) -> None:
    torch.manual_seed(count)
    layers, rows = [nn.Linear(24, width, bias=bias), nn.Linear(24, 16, bias=bias)], torch.randn(count, 24)
    with torch.inference_mode():
        found = joined(layers, kernel)(rows)
        torch.testing.assert_close(found, torch.cat([layer(rows) for layer in layers], -1), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(joined(layers, Kernel.TORCH)(rows), found, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kernel", COPIES)
def test_leading_dimensions_stay(kernel: Kernel) -> None:
    layer, rows = nn.Linear(24, 40, bias=False), torch.randn(3, 5, 24)
    with torch.inference_mode():
        torch.testing.assert_close(joined([layer], kernel)(rows), layer(rows), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kernel", COPIES)
def test_layers_of_another_kind_are_called_as_they_are(kernel: Kernel) -> None:
    class Doubled(nn.Linear):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(rows)

    rows = torch.randn(2, 24)
    for layers in [nn.Linear(24, 40), Doubled(24, 16)], [nn.Linear(24, 40), nn.Linear(24, 16, bias=False)]:
        with torch.inference_mode():
            assert torch.equal(joined(layers, kernel)(rows), torch.cat([layer(rows) for layer in layers], -1))


@pytest.mark.parametrize(("processor", "kernel", "copies"), [("Intel Xeon", Kernel.MKL, 1), ("AMD EPYC", Kernel.ONEDNN, 2)])
def test_only_float32_on_a_cpu_with_room_for_the_copy_is_packed(
    processor: str, kernel: Kernel, copies: int, llava: Loaded, tiny_llava: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(processor, monkeypatch)
    assert kernel_for(llava) is kernel
    assert kernel_for(load(str(tiny_llava), device="cpu", dtype="bfloat16")) is Kernel.TORCH
    taken = copies * sum(module.weight.nbytes for module in llava.model.modules() if isinstance(module, nn.Linear))
    for free, chosen in ((4 * taken, kernel), (4 * taken - 4, Kernel.TORCH)):
        monkeypatch.setattr(packed, "free_bytes", lambda free=free: free)
        assert kernel_for(llava) is chosen


def test_a_torch_without_the_product_packs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> torch.Tensor:
        raise RuntimeError("not compiled with oneDNN")

    on("AMD EPYC", monkeypatch)
    monkeypatch.setattr(packed, "multiplied", missing)
    packed._works.cache_clear()
    assert fastest(CPU, torch.float32) is Kernel.TORCH


def test_a_torch_that_does_not_know_the_processor_uses_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    packed._is_intels.cache_clear()
    assert fastest(CPU, torch.float32) is Kernel.ONEDNN
