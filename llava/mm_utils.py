"""LLaVA's helpers between a user's image or prompt and a model's tensors, under LLaVA's names (haotian-liu/LLaVA 1.2, `llava/mm_utils.py`).

`tokenizer_image_token` reads markers in its string as LLaVA does; for text that users wrote use `Loaded.encode`, which does not.
Nothing here knows a checkpoint's files or a network.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, overload

import torch
from PIL import Image
from torch import Tensor
from transformers import StoppingCriteria

from llava.constants import DEFAULT_IMAGE_TOKEN, IMAGE_TOKEN_INDEX
from llava.errors import ImageError, UserError
from llava.image import upright_rgb

__all__ = [
    "KeywordsStoppingCriteria",
    "expand2square",
    "get_model_name_from_path",
    "load_image_from_base64",
    "process_images",
    "tokenizer_image_token",
]


def load_image_from_base64(image: str | bytes) -> Image.Image:
    """The Pillow image of base64 text, its pixels not yet decoded; raises `ImageError` where no picture file begins there.

    For texts of strangers take `llava.image.Image.open`: it holds the limits on size and formats.
    """
    try:
        return Image.open(io.BytesIO(base64.b64decode(image)))
    except (binascii.Error, ValueError, OSError) as error:
        raise ImageError("The image is not base64 of an image file.") from error
    except Image.DecompressionBombError as error:
        raise ImageError("The image has far more pixels than a model can see: scale it down.") from error


def expand2square(pil_img: Image.Image, background_color: tuple[int, int, int]) -> Image.Image:
    """The image centred on a square of its longer side (pixels); an odd pixel goes to the right or bottom. `background_color`: a value from
    0 to 255 for each band of the image's mode. A square image comes back as it is."""
    width, height = pil_img.size
    if width == height:
        return pil_img
    side = max(width, height)
    square = Image.new(pil_img.mode, (side, side), background_color)
    square.paste(pil_img, ((side - width) // 2, (side - height) // 2))
    return square


def process_images(images: Sequence[Image.Image], image_processor: Any, model_cfg: Any) -> Tensor:
    """Pixels (n, 3, H, W), float32, normalised, as `model_cfg.image_aspect_ratio` ("pad", or unset for a centre crop) wants them.

    Images are made upright RGB first; LLaVA leaves that to its caller. Raises `UserError` for "anyres" and for what is no list of Pillow
    images.
    """
    if isinstance(images, Image.Image | str) or not all(isinstance(image, Image.Image) for image in images):
        raise UserError("process_images takes a list of Pillow images, such as [PIL.Image.open(path)].")
    mode = getattr(model_cfg, "image_aspect_ratio", None)
    if mode is not None and "anyres" in mode:
        raise UserError("image_aspect_ratio 'anyres' (LLaVA 1.6) is not supported yet: use a LLaVA 1.5 checkpoint.")
    upright = [upright_rgb(image) for image in images]
    if mode == "pad":
        background = tuple(int(mean * 255) for mean in image_processor.image_mean)
        upright = [expand2square(image, (background[0], background[1], background[2])) for image in upright]
    pixels: Tensor = image_processor.preprocess(upright, return_tensors="pt", input_data_format="channels_last")["pixel_values"]
    return pixels


@overload
def tokenizer_image_token(prompt: str, tokenizer: Any, image_token_index: int = ..., return_tensors: None = ...) -> list[int]: ...
@overload
def tokenizer_image_token(prompt: str, tokenizer: Any, image_token_index: int = ..., *, return_tensors: Literal["pt"]) -> Tensor: ...
@overload
def tokenizer_image_token(prompt: str, tokenizer: Any, image_token_index: int, return_tensors: Literal["pt"]) -> Tensor: ...
def tokenizer_image_token(
    prompt: str, tokenizer: Any, image_token_index: int = IMAGE_TOKEN_INDEX, return_tensors: str | None = None
) -> list[int] | Tensor:
    """Ids of a prompt with `image_token_index` for each `<image>`; a list, or a tensor (N,) int64 with `return_tensors="pt"`.

    The text between images is encoded apart and only the first BOS is kept. Raises `UserError` for another `return_tensors`.
    """
    if return_tensors not in (None, "pt"):
        raise UserError(f"Unknown return_tensors {return_tensors!r}: use 'pt' or None.")
    ids: list[int] = []
    for i, chunk in enumerate(prompt.split(DEFAULT_IMAGE_TOKEN)):
        words = list(tokenizer(chunk).input_ids)
        if i:
            words = words[1:] if words[:1] == [tokenizer.bos_token_id] else words
            ids.append(image_token_index)
        ids += words
    return torch.tensor(ids, dtype=torch.long) if return_tensors else ids


def get_model_name_from_path(model_path: str | Path) -> str:
    """The last part of a path, with its parent's name before it where it is a training checkpoint ("run_checkpoint-500")."""
    parts = str(model_path).strip("/").split("/")
    return "_".join(parts[-2:]) if parts[-1].startswith("checkpoint-") else parts[-1]


class KeywordsStoppingCriteria(StoppingCriteria):
    """Stops generation once every sequence has a keyword among its new tokens, or in the text of the last few of them.

    `input_ids` (B, N): the prompts, as long as all of them are together with their padding; new tokens come behind.
    """

    def __init__(self, keywords: Sequence[str], tokenizer: Any, input_ids: Tensor) -> None:
        self.keywords = list(keywords)
        self.tokenizer = tokenizer
        self.start_len = input_ids.shape[1]
        self.keyword_ids = []
        for keyword in keywords:
            ids = list(tokenizer(keyword).input_ids)
            if len(ids) > 1 and ids[0] == tokenizer.bos_token_id:
                ids = ids[1:]
            self.keyword_ids.append(torch.tensor(ids, dtype=torch.long))
        self.max_keyword_len = max((len(ids) for ids in self.keyword_ids), default=0)

    def call_for_batch(self, output_ids: Tensor, scores: Any, **kwargs: Any) -> bool:
        """Whether the one sequence (1, N) has come to a keyword."""
        row = output_ids[0].cpu()
        if any(len(ids) <= len(row) and torch.equal(row[len(row) - len(ids) :], ids) for ids in self.keyword_ids):
            return True
        if len(row) <= self.start_len:
            self.start_len = 0  # generation from embeddings: the ids hold new tokens only
        # LLaVA decodes the last tokens only: as many as the longest keyword has, and never those of the prompt.
        tail = min(len(row) - self.start_len, self.max_keyword_len)
        text = self.tokenizer.decode(row[len(row) - tail :], skip_special_tokens=True) if tail else ""
        return any(keyword in text for keyword in self.keywords)

    def __call__(self, output_ids: Tensor, scores: Any, **kwargs: Any) -> Any:
        """Whether all sequences (B, N) have come to a keyword."""
        return all(self.call_for_batch(row.unsqueeze(0), scores) for row in output_ids)
