"""Write `mini` as a Hugging Face folder that transformers' from_pretrained and AutoProcessor load as it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from transformers import LlavaForConditionalGeneration

from scripts.mini import model as net
from scripts.mini.tokenizer import PAD_ID, write_huggingface

TOKENIZER_FILES = ("tokenizer.model",)


def save(model: LlavaForConditionalGeneration, source: Path, folder: Path) -> None:
    """Write weights, configuration, tokenizer and processor; `source` holds tokenizer.model."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        shutil.copy(source / name, folder / name)
    write_huggingface(folder)
    model.train(False)
    settings = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": PAD_ID, "do_sample": False, "max_length": 2048}
    for name, value in settings.items():
        setattr(model.generation_config, name, value)
    model.save_pretrained(folder)
    image = {
        "image_processor_type": "LlavaImageProcessor", "do_convert_rgb": True, "do_pad": True, "do_resize": True,
        "size": {"shortest_edge": net.SIDE}, "resample": 3, "do_center_crop": True,
        "crop_size": {"height": net.SIDE, "width": net.SIDE}, "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": list(net.MEAN), "image_std": list(net.STD),
        "processor_class": "LlavaProcessor",
    }  # fmt: skip
    processor = {
        "processor_class": "LlavaProcessor", "image_token": "<image>", "patch_size": net.PATCH,
        "num_additional_image_tokens": 1, "vision_feature_select_strategy": "default",
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(image, indent=2) + "\n")
    (folder / "processor_config.json").write_text(json.dumps(processor, indent=2) + "\n")
