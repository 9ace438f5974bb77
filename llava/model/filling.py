"""Builds a LLaVA model on the meta device and puts tensors into it, one by one, so that no weight is in memory twice.

Knows the shape of transformers' LLaVA, but no checkpoint layout: names of tensors are the model's own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlavaConfig

from llava.errors import CheckpointError
from llava.model import shards
from llava.model.failures import UNREADABLE, first_line
from llava.model.language_model.llava_llama import LlavaLlamaForCausalLM
from llava.model.options import How


def empty_model(config: LlavaConfig, how: How, *, image_row: bool) -> LlavaLlamaForCausalLM:
    """The model without memory for its weights (meta device); with `image_row` its embedding has one row more than the vocabulary."""
    build: Any = LlavaLlamaForCausalLM._from_config
    with torch.device("meta"):
        try:
            model: LlavaLlamaForCausalLM = build(config, dtype=how.dtype, attn_implementation=how.attn_implementation)
        except UNREADABLE as error:
            raise CheckpointError(f"The model's config.json describes no model that can be built ({first_line(error)}).") from error
        old: Any = model.get_input_embeddings()
        if image_row:
            longer = nn.Embedding(old.num_embeddings + 1, old.embedding_dim, padding_idx=old.padding_idx, dtype=how.dtype)
            model.set_input_embeddings(longer)
    return model


def vision_prefix(names: Collection[str]) -> str:
    """What the vision tower's weights begin with among the names of a model's weights; versions of transformers differ."""
    return "model.vision_tower.vision_model." if any(".vision_model." in name for name in names) else "model.vision_tower."


def read(path: Path, names: Mapping[str, str]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a file that `names` maps to the model's; each is valid until the next is taken."""
    for portion in shards.portions(path, names.keys()):
        for name in list(portion):
            yield names[name], portion.pop(name)


def fill(model: Any, tensors: Iterable[tuple[str, Tensor]], how: How, *, where: Path) -> None:
    """Copy `tensors` (name in the model, values) to the wanted device and dtype.

    Raises `CheckpointError` unless all fit and none is missing; `where` names the checkpoint in errors.
    """
    expected = {name: parameter.shape for name, parameter in model.named_parameters()}
    embedding = _name_of(model, model.get_input_embeddings())
    filled: set[str] = set()
    for name, tensor in tensors:
        if name not in expected:
            raise CheckpointError(f"{where} holds {name}, for which a LLaVA 1.5 model has no place: it is another kind of model.")
        if not tensor.is_floating_point():
            raise CheckpointError(f"{where}: {name} is of dtype {str(tensor.dtype).removeprefix('torch.')}: only floats are read.")
        rows = _rows_for(tensor, expected[name], model.config, where) if name == embedding else tensor
        if rows.shape != expected[name]:
            raise CheckpointError(_misfit(where, name, rows.shape, expected[name]))
        _set(model, name, rows.to(device=how.device, dtype=how.dtype, copy=rows is tensor))  # never a view of the file
        filled.add(name)
    _tie(model, embedding, filled)
    if missing := sorted(expected.keys() - filled):
        raise CheckpointError(f"{where} lacks {len(missing)} of {len(expected)} weights, first {missing[0]}. Copy or download it again.")
    make_buffers(model, how.device)


def make_buffers(model: nn.Module, device: torch.device) -> None:
    """Compute the buffers that no checkpoint holds: rotary frequencies (float32 as in training, whatever the weights) and positions."""
    for module in model.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            if not buffer.is_meta:
                continue
            if name == "position_ids":
                setattr(module, name, torch.arange(buffer.shape[-1], device=device).expand(buffer.shape))
            elif hasattr(module, "rope_type"):
                fresh: Any = type(module)(module.config)
                setattr(module, name, getattr(fresh, name).to(device))
            else:
                raise CheckpointError(f"This version of transformers has a buffer {name} that is not known here: use a tested version.")


def add_image_row(model: Any) -> None:
    """Give a filled model the row for the image token that `fill` makes."""
    old = model.get_input_embeddings()
    words = _longer(old.weight.detach())
    longer = nn.Embedding(words.shape[0], words.shape[1], padding_idx=old.padding_idx, device="meta")
    longer.weight = nn.Parameter(words, requires_grad=False)
    model.set_input_embeddings(longer)


def _longer(words: Tensor) -> Tensor:
    """A copy with a row of zeros more."""
    longer = words.new_zeros(words.shape[0] + 1, *words.shape[1:])
    longer[:-1] = words
    return longer


def _rows_for(words: Tensor, shape: torch.Size, config: Any, where: Path) -> Tensor:
    """The word embeddings, with a row for the image token where the model has one more than words; features always overwrite it."""
    vocabulary = config.get_text_config().vocab_size
    if words.shape[1:] != shape[1:]:
        raise CheckpointError(_misfit(where, "the word embedding", words.shape, torch.Size((vocabulary, *shape[1:]))))
    if words.shape[0] != vocabulary:
        raise CheckpointError(
            f"{where} has word embeddings for {words.shape[0]} tokens, but its config.json says vocab_size {vocabulary}: "
            "correct vocab_size or copy the checkpoint again."
        )
    return words if shape[0] == vocabulary else _longer(words)


def _misfit(where: Path, name: str, found: torch.Size, expected: torch.Size) -> str:
    sizes = f"{tuple(found)} instead of {tuple(expected)}"
    return f"{where}: {name} has shape {sizes}. The weights do not belong to this config.json (or vision tower)."


def _set(model: nn.Module, name: str, tensor: Tensor) -> None:
    owner, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(owner), attribute, nn.Parameter(tensor, requires_grad=False))


def _name_of(model: nn.Module, module: nn.Module) -> str:
    return next(f"{name}.weight" for name, candidate in model.named_modules() if candidate is module)


def _tie(model: Any, embedding: str, filled: set[str]) -> None:
    """Where words are read and said with the same weights, `lm_head` is the embedding, without the image token's own row."""
    if "lm_head.weight" in filled or not model.config.tie_word_embeddings or embedding not in filled:
        return
    words = model.get_input_embeddings().weight
    model.lm_head.weight = nn.Parameter(words[: model.config.get_text_config().vocab_size], requires_grad=False)
    filled.add("lm_head.weight")
