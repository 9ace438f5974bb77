"""Outputs of the original LLaVA that ours must equal; see README.md for how they were made."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
CHECKPOINTS = HERE / "ckpt"
MODELS = ("llava-v1.5-tiny", "llava-v1-tiny-imse")


def read(name: str) -> Any:
    return json.loads((HERE / name).read_text("utf-8"))


def arrays(name: str) -> dict[str, np.ndarray[Any, Any]]:
    with np.load(HERE / name) as file:
        return {key: file[key] for key in file}


def bare_rgb(name: str) -> Image.Image:
    """A picture as the original saw it: pixels made RGB by Pillow, EXIF rotation and transparency ignored."""
    with Image.open(HERE / "images" / name) as image:
        rgb = image.convert("RGB")
    return Image.frombytes("RGB", rgb.size, rgb.tobytes())
