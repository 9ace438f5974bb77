"""Random LLaVA checkpoints of realistic shapes, in transformers' layout: what a step costs does not depend on what the weights know.

The words are those of the embedded model's tokenizer. A random model never says `</s>`, a byte or another control token (those rows
of its head are zero, and some other logit is always above zero): every answer has exactly as many tokens as were asked for, and two
ways of computing it can be compared by its text.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from llava.paths import MINI

FIRST_WORD, WORDS = 260, 1590  # of the embedded model's tokenizer: below are control tokens and bytes, above <image> and <pad>
SHARD = 2**30  # bytes, about


@dataclass(frozen=True, slots=True)
class Tower:
    """One transformer: its width, layers, attention heads and inner width."""

    width: int
    layers: int
    heads: int
    inner: int


@dataclass(frozen=True, slots=True)
class Shape:
    """A LLaVA model's shape. Its image takes (`edge` / `patch`) squared tokens."""

    edge: int
    patch: int
    vision: Tower
    language: Tower
    vocabulary: int
    context: int


SHAPES = {
    "tiny": Shape(56, 14, Tower(32, 2, 2, 64), Tower(64, 2, 4, 96), 1600, 1024),
    "5m": Shape(96, 8, Tower(160, 5, 4, 640), Tower(224, 5, 4, 544), 1600, 2048),  # the embedded model's
    "33m": Shape(336, 14, Tower(256, 6, 4, 1024), Tower(512, 8, 8, 1376), 2048, 2048),  # LLaVA 1.5's 576 image tokens on a laptop's scale
    "7b": Shape(336, 14, Tower(1024, 24, 16, 4096), Tower(4096, 32, 32, 11008), 32064, 4096),  # LLaVA-1.5-7B
}


def write_checkpoint(shape: Shape, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """A random checkpoint of `shape` in `folder`, the same each time, its weights stored as `dtype`; gives `folder`."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(MINI / name, folder)
    edge = {"size": {"shortest_edge": shape.edge}, "crop_size": {"height": shape.edge, "width": shape.edge}}
    _write_json(folder / "preprocessor_config.json", _read_json(MINI / "preprocessor_config.json") | edge)
    _write_json(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": WORDS + 1})
    config = _config(shape) | {"dtype": str(dtype).removeprefix("torch.")}
    _write_json(folder / "config.json", config)
    with torch.device("meta"):
        model: Any = LlavaForConditionalGeneration(LlavaConfig(**config))
    _save(_weights(model.state_dict(), dtype), folder)
    return folder


def _config(shape: Shape) -> dict[str, Any]:
    vision, language = shape.vision, shape.language
    text = {
        "model_type": "llama",
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.context,
        "num_key_value_heads": language.heads,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": WORDS + 1,
    }
    eyes = {"model_type": "clip_vision_model", "image_size": shape.edge, "patch_size": shape.patch, "projection_dim": vision.width}
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "image_token_index": WORDS,
        "image_seq_length": (shape.edge // shape.patch) ** 2,
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "text_config": text | _sizes(language),
        "vision_config": eyes | _sizes(vision),
    }


def _sizes(tower: Tower) -> dict[str, int]:
    return {
        "hidden_size": tower.width,
        "intermediate_size": tower.inner,
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
    }


def _weights(empty: dict[str, Tensor], dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """Names and random values for the tensors of `empty`: norms are one, biases zero, all else normal with deviation 0.02."""
    draw = torch.Generator().manual_seed(0)
    for name, tensor in empty.items():
        if "norm" in name and name.endswith("weight"):
            values = torch.ones(tensor.shape, dtype=dtype)
        elif name.endswith("bias"):
            values = torch.zeros(tensor.shape, dtype=dtype)
        else:
            values = torch.empty(tensor.shape, dtype=dtype).normal_(0, 0.02, generator=draw)
        if name == "lm_head.weight":
            values[:FIRST_WORD] = values[WORDS:] = 0
        yield name, values


def _save(tensors: Iterable[tuple[str, Tensor]], folder: Path) -> None:
    """In shards of about one GiB, so that a large model need not fit into memory twice."""
    weight_map: dict[str, str] = {}
    shard: dict[str, Tensor] = {}

    def flush() -> None:
        file = f"model-{len(set(weight_map.values())) + 1:05}.safetensors"
        save_file(shard, folder / file, {"format": "pt"})
        weight_map.update(dict.fromkeys(shard, file))
        shard.clear()

    for name, tensor in tensors:
        shard[name] = tensor
        if sum(t.nbytes for t in shard.values()) > SHARD:
            flush()
    if shard:
        flush()
    _write_json(folder / "model.safetensors.index.json", {"weight_map": weight_map})


def _read_json(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return value


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1), "utf-8")
