"""Factories of small checkpoints: the golden ones with something changed, random ones in either layout."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import CLIPVisionConfig, LlamaConfig, LlamaTokenizer, LlavaConfig, LlavaForConditionalGeneration

from llava.errors import LlavaError, UserError
from llava.model.builder import load
from tests import golden

State = dict[str, Tensor]


def copied(tmp_path: Path, name: str = "llava-v1.5-tiny", **config: Any) -> Path:
    """A golden checkpoint of one's own, beside its vision tower; `config` changes or (None) removes keys of config.json."""
    for part in (name, "clip-tiny-56"):
        if not (tmp_path / part).exists():
            shutil.copytree(golden.CHECKPOINTS / part, tmp_path / part)
    change_json(tmp_path / name / "config.json", **config)
    return tmp_path / name


def change_json(path: Path, **values: Any) -> None:
    """Set keys of a JSON file; None removes."""
    settings = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))


def state_of(folder: Path) -> State:
    """All tensors of an original checkpoint's `.bin` shards."""
    state: State = {}
    for shard in sorted(folder.glob("pytorch_model*.bin")):
        state.update(torch.load(shard, weights_only=True))
    return state


def rewritten(folder: Path, save: Callable[[State, Path], None], change: Callable[[State], None] = lambda state: None) -> Path:
    """The checkpoint with its weights changed and saved another way."""
    state = state_of(folder)
    change(state)
    for old in folder.glob("pytorch_model*"):
        old.unlink()
    save(state, folder)
    return folder


def one_bin(state: State, folder: Path) -> None:
    torch.save(state, folder / "pytorch_model.bin")


def one_safetensors(state: State, folder: Path) -> None:
    from safetensors.torch import save_file

    save_file({key: value.contiguous() for key, value in state.items()}, folder / "model.safetensors")


def sharded_safetensors(state: State, folder: Path) -> None:
    from safetensors.torch import save_file

    names = sorted(state)
    weight_map = {}
    for i, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-0000{i}-of-00002.safetensors"
        save_file({key: state[key].contiguous() for key in part}, folder / file)
        weight_map.update(dict.fromkeys(part, file))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def hugging_face(folder: Path, **config: Any) -> Path:
    """A random checkpoint in transformers' layout, its tokenizer with `<image>` as token 2000."""
    tokenizer: Any = LlamaTokenizer.from_pretrained(golden.CHECKPOINTS / "llava-v1.5-tiny")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    vision = CLIPVisionConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, patch_size=14, image_size=56, projection_dim=32
    )
    text = LlamaConfig(vocab_size=2064, hidden_size=64, intermediate_size=96, num_hidden_layers=1, num_attention_heads=4)
    settings = LlavaConfig(vision_config=vision, text_config=text, image_token_index=2000, image_seq_length=16, **config)
    torch.manual_seed(0)
    model: Any = LlavaForConditionalGeneration(settings)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    shutil.copy(golden.CHECKPOINTS / "clip-tiny-56" / "preprocessor_config.json", folder)
    return folder


def refused(folder: Path | str, words: str, **options: Any) -> str:
    """Loading ends in a `UserError` that says `words` (a pattern); gives its sentence."""
    with pytest.raises(LlavaError, match=words) as caught:
        load(str(folder), device="cpu", **options)
    assert isinstance(caught.value, UserError)
    return str(caught.value)
