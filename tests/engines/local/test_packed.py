"""Linear layers in oneDNN's layout give what torch's give, in blocks and side by side, and leave the model as it was."""

from pathlib import Path

import pytest
import torch
from torch import nn

from llava.engines.local.packed import Packed, _works, joined, packable, packs
from llava.model.builder import load
from llava.model.loaded import Loaded


@pytest.mark.parametrize("width", [40, 30_000], ids=["small", "large"])
@pytest.mark.parametrize("count", [1, 7, 16, 17, 32, 33, 255, 256, 257, 300, 800])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_any_number_of_rows_gives_what_the_layers_give_side_by_side(width: int, count: int, bias: bool) -> None:
    torch.manual_seed(count)
    layers, rows = [nn.Linear(24, width, bias=bias), nn.Linear(24, 16, bias=bias)], torch.randn(count, 24)
    with torch.inference_mode():
        found = joined(layers, pack=True)(rows)
        torch.testing.assert_close(found, torch.cat([layer(rows) for layer in layers], -1), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(joined(layers, pack=False)(rows), found, atol=1e-5, rtol=1e-5)


def test_leading_dimensions_stay() -> None:
    layer, rows = nn.Linear(24, 40, bias=False), torch.randn(3, 5, 24)
    with torch.inference_mode():
        torch.testing.assert_close(Packed(layer)(rows), layer(rows), atol=1e-5, rtol=1e-5)


def test_layers_of_another_kind_are_called_as_they_are() -> None:
    class Doubled(nn.Linear):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(rows)

    layers, rows = [nn.Linear(24, 40), Doubled(24, 16)], torch.randn(2, 24)
    with torch.inference_mode():
        assert torch.equal(joined(layers, pack=True)(rows), torch.cat([layer(rows) for layer in layers], -1))
    mixed = [nn.Linear(24, 40), nn.Linear(24, 16, bias=False)]
    assert not isinstance(joined(mixed, pack=True), Packed)


def test_only_float32_on_a_cpu_with_room_for_the_copy_is_packed(llava: Loaded, tiny_llava: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert packs(llava)
    assert not packs(load(str(tiny_llava), device="cpu", dtype="bfloat16"))
    linears = sum(module.weight.nbytes for module in llava.model.modules() if isinstance(module, nn.Linear))
    copies = 2 * linears  # of small matrices there are two
    for free, fits in ((4 * copies, True), (4 * copies - 4, False)):
        monkeypatch.setattr("llava.engines.local.packed.free_bytes", lambda free=free: free)
        assert packs(llava) == fits


def test_a_torch_without_the_product_packs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> torch.Tensor:
        raise RuntimeError("not compiled with oneDNN")

    monkeypatch.setattr("llava.engines.local.packed.multiplied", missing)
    _works.cache_clear()
    try:
        assert not packable(torch.device("cpu"), torch.float32)
    finally:
        _works.cache_clear()
