"""What a target is: a folder here, a repository on the Hugging Face hub or nothing; and what kind of checkpoint a folder holds.

Reads configs only. Nothing from a checkpoint is ever executed: code files and `auto_map` are ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from llava.errors import CheckpointError, UserError
from llava.paths import MINI

MOST_JSON = 64 * 2**20  # bytes; the index of the largest models has a few
# "org/name" as the hub allows it: no leading dot, so "./x" and "../x" are never asked of the hub.
_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_CHECKPOINT_FILES = ("*.json", "*.safetensors", "*.bin", "tokenizer.model", "*.jinja")
_TOWER_FILES = ("config.json", "preprocessor_config.json", "model.safetensors", "pytorch_model.bin")
_HF_LLAVA = "LlavaForConditionalGeneration"
_MERGE = "merge it into its base model first (LLaVA's scripts/merge_lora_weights.py) and give the merged folder."
_LLAVA_ROLES = ("USER", "[INST]")  # in the chat templates of Vicuna, Llama 2 and Mistral
_MPT = ("LlavaMptForCausalLM", "LlavaMPTForCausalLM")


class Kind(Enum):
    """Layout of a checkpoint."""

    ORIGINAL = "original"  # haotian-liu/LLaVA's own: a language model with `mm_*` keys, the vision tower named apart
    HUGGING_FACE = "huggingface"  # transformers' LlavaForConditionalGeneration
    OTHER = "other"  # some other transformers model


def resolve(target: str | Path, *, tower: bool = False) -> Path:
    """The folder of a checkpoint, downloaded first where `target` is a hub id ("org/name"); "mini" is the embedded one.

    Raises `CheckpointError` and `UserError`.
    """
    text = str(target)
    if not text.strip():
        raise UserError("The model's name is empty: give a checkpoint folder, a hub id like org/name, or mini.")
    path = here(text)
    if path is not None and path.is_dir():
        return path
    if text == "mini":
        return MINI
    if path is not None:
        raise CheckpointError(f"{text} is a file: give the folder that holds the checkpoint.")
    if not _REPO_ID.fullmatch(text) or ".." in text:
        raise CheckpointError(
            f"There is no checkpoint folder {text[:200]}. Check the path, or give mini or a hub id like llava-hf/llava-1.5-7b-hf."
        )
    return _download(text, _TOWER_FILES if tower else _CHECKPOINT_FILES)


def here(target: str | Path) -> Path | None:
    """What is called `target` on this machine, with `~` as somebody's home; None where there is nothing."""
    try:
        path = Path(target).expanduser()
        return path if path.exists() else None
    except (OSError, RuntimeError, ValueError):  # too long a name, nobody's home, or no name of a file at all
        return None


def _download(repo_id: str, patterns: Sequence[str]) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        files = HfApi().list_repo_files(repo_id)
        twice = any(file.startswith("model") and file.endswith(".safetensors") for file in files)  # else .bin is all there is
        return Path(snapshot_download(repo_id, allow_patterns=list(patterns), ignore_patterns=["pytorch_model*"] if twice else None))
    except RepositoryNotFoundError as error:
        raise CheckpointError(f"There is neither a folder nor a (public) hub repository {repo_id}: check the name, or log in.") from error
    except Exception as unreachable:  # noqa: BLE001 the hub's client lets errors of several libraries through; a copy from earlier will do
        try:
            return Path(snapshot_download(repo_id, local_files_only=True))
        except Exception:  # noqa: BLE001 as above
            raise CheckpointError(
                f"There is no folder {repo_id}, and the Hugging Face hub cannot be reached to download it. "
                "Connect to the network, or give the path of a checkpoint folder."
            ) from unreachable


def read_json(path: Path) -> dict[str, Any]:
    """An object from a JSON file of at most `MOST_JSON` bytes; raises `CheckpointError`."""
    try:
        with path.open("rb") as file:
            text = file.read(MOST_JSON + 1)
        if len(text) > MOST_JSON:
            raise CheckpointError(f"{path} is larger than {MOST_JSON // 2**20} MiB: it is no config of a model. Copy the checkpoint again.")
        value = json.loads(text.decode("utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.parent} has no {path.name}: is it a checkpoint folder, completely copied?") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: copy the checkpoint again.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} is not a JSON object: copy the checkpoint again.")
    return value


def kind_of(folder: Path) -> Kind:
    """The layout of a checkpoint folder, by architectures and `mm_*` keys: both layouts call themselves model_type "llava".

    Raises `CheckpointError` for what is no whole checkpoint, or one that is not supported.
    """
    if not (folder / "config.json").exists():
        if (folder / "adapter_config.json").exists():
            raise CheckpointError(f"{folder} is an adapter (LoRA), which is not supported yet: {_MERGE}")
        raise CheckpointError(f"{folder} is no checkpoint: it has no config.json.")
    config = read_json(folder / "config.json")
    architectures = config.get("architectures") or []
    if not isinstance(architectures, list):
        raise CheckpointError(f"{folder}/config.json has architectures that are no list: copy the checkpoint again.")
    if config.get("model_type") in ("mpt", "llava_mpt") or any(name in _MPT for name in architectures):
        raise CheckpointError(f"{folder} is an MPT model, which is not supported: use a LLaVA checkpoint on Llama (v1.5).")
    if _HF_LLAVA in architectures or (config.get("model_type") == "llava" and "text_config" in config):
        return Kind.HUGGING_FACE if _speaks_as_llava(folder, config) else Kind.OTHER
    if any(key.startswith("mm_") for key in config):
        _check_whole(folder, config)
        return Kind.ORIGINAL
    return Kind.OTHER


def _speaks_as_llava(folder: Path, config: dict[str, Any]) -> bool:
    """Whether prompts and pixels are LLaVA 1.5's: transformers' class also serves other towers (Pixtral, SigLIP) and other prompts."""
    vision = config.get("vision_config")
    tower = vision.get("model_type", "clip_vision_model") if isinstance(vision, dict) else "clip_vision_model"
    template = _chat_template(folder)
    return tower == "clip_vision_model" and (template is None or any(role in template for role in _LLAVA_ROLES))


def _chat_template(folder: Path) -> str | None:
    if (folder / "chat_template.jinja").exists():
        return (folder / "chat_template.jinja").read_text("utf-8", "replace")
    for name in ("chat_template.json", "processor_config.json", "tokenizer_config.json"):
        template = read_json(folder / name).get("chat_template") if (folder / name).exists() else None
        if template:
            return str(template)
    return None


def _check_whole(folder: Path, config: dict[str, Any]) -> None:
    """Refuse what is not a whole v1.5-like model, saying what to do."""
    if (folder / "adapter_config.json").exists() or (folder / "non_lora_trainables.bin").exists():
        raise CheckpointError(f"{folder} is an adapter (LoRA), which is not supported yet: {_MERGE}")
    weights = [*folder.glob("*.safetensors"), *folder.glob("pytorch_model*")]
    if not weights and (folder / "mm_projector.bin").exists():
        raise CheckpointError(
            f"{folder} holds a projector only, which is not supported yet: "
            "load it with its base model in LLaVA, save the whole model and give that folder."
        )
    if "anyres" in str(config.get("image_aspect_ratio")) or str(config.get("mm_patch_merge_type") or "flat") != "flat":
        raise CheckpointError(f"{folder} is a LLaVA 1.6 checkpoint (anyres), which is not supported yet: use a LLaVA 1.5 checkpoint.")
