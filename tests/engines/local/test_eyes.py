"""The engine's way through tower and projector gives transformers' own features, whichever layers they come from."""

from typing import Any

import pytest
import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration

from llava.engines.local.eyes import Eyes
from llava.engines.local.packed import Kernel
from llava.model.loaded import Loaded


@pytest.mark.parametrize("kernel", Kernel)
@pytest.mark.parametrize(
    ("wanted", "layers"), [(-2, 1), (-1, 2), (1, 1), ([1, -1], 2), ([-3, -2], 1), ([-1, 0], 2), ([0, 0], 0), (-3, 0), ([2, 2], 2)]
)
@pytest.mark.parametrize("strategy", ["default", "full"])
def test_no_further_than_its_features_come_from(llava: Loaded, wanted: int | list[int], layers: int, strategy: str, kernel: Kernel) -> None:
    model = remade(llava, vision_feature_layer=wanted, vision_feature_select_strategy=strategy)
    eyes = Eyes(model.model, kernel)
    assert len(eyes.layers) == layers
    pixels = torch.randn(2, 3, *[model.config.vision_config.image_size] * 2)
    with torch.inference_mode():
        before = pixels.clone()
        own = model.get_image_features(pixels).pooler_output
        for _ in range(2):  # what is written over is nobody else's
            torch.testing.assert_close(eyes(pixels), torch.stack(list(own)), atol=1e-5, rtol=1e-4)
        assert torch.equal(pixels, before)


@pytest.mark.parametrize("kernel", Kernel)
@pytest.mark.parametrize(("act", "attention"), [("gelu", "eager"), ("quick_gelu", "sdpa"), ("relu", "sdpa")])
def test_any_activation_and_attention(llava: Loaded, act: str, attention: str, kernel: Kernel) -> None:
    model = remade(llava, hidden_act=act)
    model.set_attn_implementation(attention)
    pixels = torch.randn(9, 3, *[model.config.vision_config.image_size] * 2)  # more rows than go together
    with torch.inference_mode():
        own = torch.stack(list(model.get_image_features(pixels).pooler_output))
        torch.testing.assert_close(Eyes(model.model, kernel)(pixels), own, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kernel", Kernel)
def test_the_model_s_own_layers_stay_as_they_are(llava: Loaded, kernel: Kernel) -> None:
    def weights() -> dict[str, tuple[int, tuple[int, ...]]]:
        return {name: (weight.data_ptr(), weight.stride()) for name, weight in llava.model.state_dict().items()}

    before = weights()
    Eyes(llava.model.model, kernel)
    assert weights() == before


def remade(llava: Loaded, hidden_act: str | None = None, **changes: Any) -> Any:
    """A model of the same shape with random weights and these changes."""
    old = llava.model.config
    tower = old.vision_config.to_dict() | ({"hidden_act": hidden_act} if hidden_act else {})
    torch.manual_seed(3)
    model: Any = LlavaForConditionalGeneration(LlavaConfig(vision_config=tower, text_config=old.text_config, **changes))
    return model.eval()
