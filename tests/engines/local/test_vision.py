"""The engine's copy of the tower gives the features of transformers' own, whichever layers they come from."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration

from llava.engines.local.pixels import Pixels
from llava.engines.local.prefixes import Prefixes
from llava.engines.local.vision import Vision
from llava.model.loaded import Loaded


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize(("wanted", "layers"), [(-2, 1), (-1, 2), (1, 1), ([1, -1], 2), ([-3, -2], 2), (-3, 2)])
def test_the_tower_runs_no_further_than_its_features_come_from(llava: Loaded, wanted: int | list[int], layers: int, pack: bool) -> None:
    old = llava.model.config
    torch.manual_seed(3)
    model: Any = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=old.vision_config, text_config=old.text_config, vision_feature_layer=wanted)
    )
    model.eval()
    loaded = replace(llava, model=model)
    vision = Vision(loaded, Pixels(loaded), Prefixes(0), pack)
    assert len(vision.eyes.vision_tower.encoder.layers) == (layers if pack else 2)
    pixels = torch.randn(2, 3, old.vision_config.image_size, old.vision_config.image_size)
    with torch.inference_mode():
        pairs = zip(vision.eyes.get_image_features(pixels).pooler_output, model.get_image_features(pixels).pooler_output, strict=True)
        for found, own in pairs:
            torch.testing.assert_close(found, own, atol=1e-5, rtol=1e-4)
    assert len(model.model.vision_tower.encoder.layers) == 2
    assert model.config.vision_feature_layer == wanted
