"""From a name to a loaded model: `load` for this package, `load_pretrained_model` with LLaVA's signature for its users.

Decides by the folder's config which reader is used. Knows no prompts, no engines and no network protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from llava.conversation import Conversation
from llava.errors import CheckpointError, UserError
from llava.mm_utils import get_model_name_from_path
from llava.model import huggingface
from llava.model.folder import Kind, here, kind_of, read_json, resolve
from llava.model.loaded import Loaded
from llava.model.options import How, attention_for, device_for, dtype_for, quantization_for
from llava.model.original import Original
from llava.model.templates import template_for

# LLaVA's settings in config.json, their type, and how to say so.
_SETTINGS: tuple[tuple[tuple[str, ...], type, str], ...] = (
    (("tokenizer_model_max_length", "max_sequence_length"), int, "a count of tokens, at least 1"),
    (("image_aspect_ratio",), str, "a word, such as pad"),
    (("mm_use_im_start_end", "mm_use_im_patch_token", "unfreeze_mm_vision_tower"), bool, "true or false"),
)


def load(
    target: str,
    *,
    device: str | None = None,
    dtype: str | None = None,
    conv_mode: str | None = None,
    attn_implementation: str | None = None,
) -> Loaded:
    """A model from a checkpoint folder or hub id ("org/name").

    `device`: auto (CUDA, else MPS, else CPU), cpu, cuda, cuda:N or mps. `dtype`: auto (float32 on a CPU, else the checkpoint's), float32,
    bfloat16 or float16. `conv_mode`: a name from `conv_templates` instead of the one that the model's name suggests. `attn_implementation`:
    sdpa, eager or flash_attention_2, instead of transformers' choice. Raises `CheckpointError` and `UserError` with what to do.
    """
    return _load(target, How(device_for(device), dtype_for(dtype), attention_for(attn_implementation)), conv_mode)


def load_pretrained_model(
    model_path: str | Path,
    model_base: str | None,
    model_name: str,
    load_8bit: bool = False,
    load_4bit: bool = False,
    device_map: Any = "auto",
    device: str = "cuda",
    use_flash_attn: bool = False,
    **kwargs: Any,
) -> tuple[Any, Any, Any, int]:
    """LLaVA's (tokenizer, model, image_processor, context_len), with LLaVA's signature; `model_name` may be anything.

    `model.generate(ids, images=...)` takes what LLaVA's takes: ids (1, N) int64 with `IMAGE_TOKEN_INDEX` for each image, and pixels
    (n, 3, H, W) of `process_images`. The device is `device`, or where that is "cuda" the one that `device_map` names ("cpu", "cuda:1", 1 or
    {"": ...}), and chosen as by `load` where there is no CUDA. Weights are float16 on CUDA and float32 on a CPU, unless `torch_dtype` says
    otherwise. `load_8bit` and `load_4bit` need CUDA and bitsandbytes.
    `context_len` is LLaVA's informative number: `max_sequence_length` of the config or 2048. Raises `CheckpointError` and `UserError`.
    """
    if model_base is not None:
        raise UserError("model_base (LoRA and projector-only checkpoints) is not supported yet: merge the checkpoint into its base first.")
    named = _device_in(device_map)
    dtype = kwargs.pop("torch_dtype", kwargs.pop("dtype", None))
    attention = "flash_attention_2" if use_flash_attn else kwargs.pop("attn_implementation", None)
    if kwargs:
        raise UserError(f"Unknown options {', '.join(sorted(kwargs))}: known are torch_dtype and attn_implementation.")
    where = device_for(device if device != "cuda" else named or ("cuda" if torch.cuda.is_available() else "auto"))
    if dtype is None and where.type == "cuda":
        dtype = torch.float16
    how = How(where, dtype_for(dtype), attention_for(attention), quantization_for(load_8bit, load_4bit))
    loaded = _load(str(model_path), how)
    context_len = int(getattr(loaded.model.config, "max_sequence_length", 2048))
    return loaded.tokenizer, loaded.model, loaded.image_processor, context_len


def _load(target: str, how: How, conv_mode: str | None = None) -> Loaded:
    name = _name(target)
    template = template_for(name, conv_mode)
    folder = resolve(target)
    kind = kind_of(folder)
    config = read_json(folder / "config.json")
    _check_settings(config, folder)
    how = how.settled(config.get("torch_dtype") or config.get("dtype"))
    if kind is Kind.OTHER:
        if conv_mode is not None or how.quantization is not None:
            raise UserError(f"{name} is no LLaVA 1.5 model and renders its own prompts: leave out conv_mode, load_8bit and load_4bit.")
        from llava.model.generic import load_generic  # not needed for LLaVA

        return load_generic(folder, name=name, device=how.device, dtype=how.dtype, attn_implementation=how.attn_implementation)
    loaded = (_original if kind is Kind.ORIGINAL else _hugging_face)(folder, name, template, how)
    _check_vocabulary(loaded, folder)
    try:
        _ = loaded.eos_ids
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{folder}: an eos_token_id in generation_config.json or config.json is no token's number.") from error
    return loaded


def _original(folder: Path, name: str, template: Conversation, how: How) -> Loaded:
    original = Original.open(folder)
    tokenizer = original.load_tokenizer()
    model = original.load(how)
    return Loaded(model, tokenizer, original.load_image_processor(), _context(model.config), name, template)


def _hugging_face(folder: Path, name: str, template: Conversation, how: How) -> Loaded:
    config = huggingface.load_config(folder)
    tokenizer = huggingface.load_tokenizer(folder)
    processor = huggingface.load_image_processor(folder)
    model = huggingface.load_model(folder, config, how)
    image_token = huggingface.image_token(tokenizer, model.config)
    return Loaded(model, tokenizer, processor, _context(model.config), name, template, image_token=image_token)


def _context(config: Any) -> int:
    """Tokens that fit: positions of the language model, or fewer where the checkpoint was trained with fewer."""
    limits = (config.text_config.max_position_embeddings, getattr(config, "tokenizer_model_max_length", None))
    return int(min(limit for limit in limits if limit))


def _check_settings(config: Mapping[str, Any], folder: Path) -> None:
    """LLaVA's own settings are what the code behind relies on, where they are there; transformers checks its own."""
    for names, kind, said in _SETTINGS:
        for name in names:
            value = config.get(name)
            fits = type(value) is kind and not (kind is int and isinstance(value, int) and value < 1)
            if value is not None and not fits:
                raise CheckpointError(f"{folder}/config.json has {name} {value!r:.100}: it is {said}. Copy the checkpoint again.")


def _check_vocabulary(loaded: Loaded, folder: Path) -> None:
    rows = loaded.model.get_output_embeddings().weight.shape[0]
    if len(loaded.tokenizer) > rows:
        raise CheckpointError(
            f"The tokenizer in {folder} has {len(loaded.tokenizer)} tokens, the model only {rows}: they do not belong together. "
            "Copy the tokenizer's files of this model again."
        )


def _device_in(device_map: Any) -> str | None:
    """The one device that a device map names, None where it leaves the choice; raises `UserError` for a model in parts."""
    if isinstance(device_map, dict) and set(device_map) == {""}:
        device_map = device_map[""]
    if device_map is None or device_map == "auto":
        return None
    if type(device_map) is int:
        return f"cuda:{device_map}"
    if not isinstance(device_map, str | torch.device) or device_map in ("balanced", "balanced_low_0", "sequential"):
        raise UserError("A model is put on one device here: leave device_map at 'auto' and name the device.")
    return str(device_map)


def _name(target: str) -> str:
    path = here(target)
    return get_model_name_from_path(target if path is None else path.resolve())
