"""LLaVA checkpoints in transformers' own layout (`LlavaForConditionalGeneration`), such as llava-hf/llava-1.5-7b-hf and our mini.

Knows no prompts and no original layout.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import AutoImageProcessor, AutoTokenizer, GenerationConfig, LlavaConfig, LlavaForConditionalGeneration
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.utils import logging

from llava.errors import CheckpointError
from llava.model import shards
from llava.model.failures import UNREADABLE, first_line
from llava.model.filling import empty_model, fill, read, vision_prefix
from llava.model.folder import read_json
from llava.model.language_model.llava_llama import LlavaLlamaForCausalLM
from llava.model.options import How

_RENAMES = (
    (re.compile(r"^language_model\.model\."), "model.language_model."),
    (re.compile(r"^language_model\.lm_head\."), "lm_head."),
    (re.compile(r"^(vision_tower|multi_modal_projector)\."), r"model.\1."),
)
_VISION = re.compile(r"^model\.vision_tower\.(vision_model\.)?")
_SETTINGS = {"image_aspect_ratio": "pad", "mm_use_im_start_end": False, "mm_use_im_patch_token": False}
_BUFFERS = (".inv_freq", ".position_ids")  # computed, whatever old files hold


def load_model(folder: Path, config: LlavaConfig, how: How) -> LlavaLlamaForCausalLM:
    """The model in eval mode; raises `CheckpointError` for files that are missing, damaged or do not fit each other."""
    text: Any = config.text_config
    if how.quantization is not None or text.model_type not in ("llama", "mistral", "qwen2"):
        return read_weights(folder, how, config=config, local_files_only=True)
    model = empty_model(config, how, image_row=False)
    fill(model, _tensors(folder, model.state_dict().keys()), how, where=folder)
    if (folder / "generation_config.json").exists():
        model.generation_config = _generation_config(folder)
    model.train(False)
    return model


def rename(name: str, vision: str) -> str:
    """Today's name of a tensor: files from before transformers 4.52 have the language model's head within it, and no `model.`.

    `vision` is the prefix of the vision tower's tensors in the model.
    """
    for pattern, new in _RENAMES:
        name = pattern.sub(new, name)
    return _VISION.sub(vision, name)


def _tensors(folder: Path, expected: Collection[str]) -> Iterator[tuple[str, Tensor]]:
    vision = vision_prefix(expected)
    for path, listed in shards.weight_files(folder).items():
        names = {name: rename(name, vision) for name in shards.keys(path, listed) if not name.endswith(_BUFFERS)}
        yield from read(path, names)


def _generation_config(folder: Path) -> GenerationConfig:
    try:
        config: GenerationConfig = GenerationConfig.from_pretrained(folder, local_files_only=True)
    except UNREADABLE as error:
        raise CheckpointError(f"{folder}/generation_config.json cannot be read ({first_line(error)}).") from error
    return config


def read_weights(folder: Path, how: How, *, state: dict[str, Tensor] | None = None, **options: Any) -> LlavaLlamaForCausalLM:
    """The model from the folder's files, or from the tensors of `state` under transformers' names."""
    bars = logging.is_progress_bar_enabled()
    try:
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # a library does not write to its user's terminal
        result: Any = LlavaForConditionalGeneration.from_pretrained(
            folder if state is None else None,
            state_dict=state,
            dtype=how.dtype,
            device_map={"": how.device},
            attn_implementation=how.attn_implementation,
            quantization_config=how.quantization,
            output_loading_info=True,
            **options,
        )
    except UNREADABLE as error:
        raise CheckpointError(f"The weights in {folder} cannot be loaded ({first_line(error)}). Copy or download it again.") from error
    finally:
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
    model, report = result
    if missing := sorted(report["missing_keys"]):
        raise CheckpointError(f"{folder} lacks {len(missing)} weights, first {missing[0]}. Copy or download it again.")
    model.__class__ = LlavaLlamaForCausalLM  # only now: transformers maps the names of stored weights by the class's own name
    loaded: LlavaLlamaForCausalLM = model.eval()
    return loaded


def load_config(folder: Path) -> LlavaConfig:
    """The config, with settings that LLaVA's users read; where it leaves them open, those of LLaVA 1.5: images are padded to a square."""
    try:
        config = LlavaConfig.from_pretrained(folder, local_files_only=True)
    except UNREADABLE as error:
        raise CheckpointError(f"{folder}/config.json describes no LLaVA model ({first_line(error)}).") from error
    for name, value in _SETTINGS.items():
        if not hasattr(config, name):
            setattr(config, name, value)
    loaded: LlavaConfig = config
    return loaded


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer that the folder brings; code in the folder is never run."""
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except UNREADABLE as error:
        raise CheckpointError(f"The tokenizer in {folder} is missing or damaged ({first_line(error)}).") from error


def load_image_processor(folder: Path) -> Any:
    """The image processor, without torchvision: its resizing differs from Pillow's, with which LLaVA was trained."""
    present = [folder / name for name in ("preprocessor_config.json", "processor_config.json") if (folder / name).exists()]
    if not present:
        raise CheckpointError(f"{folder} has no preprocessor_config.json: copy it from the model (or its vision tower).")
    try:
        settings = read_json(present[0])
        kind = str(settings.get("image_processor", settings).get("image_processor_type", "CLIP"))
        if kind.startswith(("CLIP", "Llava")):
            # Padding is `process_images`' work: the processor's own would round the offset and crop in another order.
            return CLIPImageProcessorPil.from_pretrained(folder, do_pad=False, local_files_only=True)
        other: Any = AutoImageProcessor
        return other.from_pretrained(folder, backend="pil", local_files_only=True, trust_remote_code=False)
    except UNREADABLE as error:
        raise CheckpointError(f"The image processor's settings in {folder} are missing or damaged ({first_line(error)}).") from error


def image_token(tokenizer: Any, config: LlavaConfig) -> str:
    """The tokenizer's name for an image; raises `CheckpointError` when it has none."""
    token = tokenizer.convert_ids_to_tokens(config.image_token_id) if config.image_token_id < len(tokenizer) else None
    if token is None or token not in tokenizer.get_added_vocab():
        raise CheckpointError(f"The tokenizer has no image token {config.image_token_id}: it does not belong to this model.")
    return str(token)
