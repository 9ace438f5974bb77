"""Puts tensors into a model that was built on the meta device, one by one, so that no weight is in memory twice.

Knows the shape of transformers' LLaVA (one input embedding row more than words, see `llava_llama`), but no file and no checkpoint layout.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llava.errors import CheckpointError


def fill(model: Any, tensors: Iterable[tuple[str, Tensor]], *, device: torch.device, dtype: torch.dtype | None, where: Path) -> None:
    """Copy `tensors` (name in the model, values) to `device` and `dtype` (None: as stored).

    Raises `CheckpointError` unless all fit and none is missing; `where` names the checkpoint in errors.
    """
    expected = {name: parameter.shape for name, parameter in model.named_parameters()}
    embedding = _name_of(model, model.get_input_embeddings())
    filled: set[str] = set()
    for name, tensor in tensors:
        if name not in expected:
            raise CheckpointError(f"{where} holds {name}, for which a LLaVA 1.5 model has no place: it is another kind of model.")
        if name == embedding:
            tensor = _with_image_row(tensor, expected[name], where)
        if tensor.shape != expected[name]:
            raise CheckpointError(_misfit(where, name, tensor.shape, expected[name]))
        _set(model, name, tensor.to(device=device, dtype=dtype, copy=name != embedding))
        filled.add(name)
    _tie(model, embedding, filled)
    if missing := sorted(expected.keys() - filled):
        raise CheckpointError(f"{where} lacks {len(missing)} of {len(expected)} weights, first {missing[0]}. Copy or download it again.")
    make_buffers(model, device)


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


def _with_image_row(words: Tensor, shape: torch.Size, where: Path) -> Tensor:
    """The word embeddings and one row more, for the image token; it is always overwritten by an image's features."""
    if words.shape[1:] != shape[1:]:
        raise CheckpointError(_misfit(where, "the word embedding", words.shape, torch.Size((shape[0] - 1, *shape[1:]))))
    if words.shape[0] + 1 != shape[0]:
        raise CheckpointError(
            f"{where} has word embeddings for {words.shape[0]} tokens, but its config.json says vocab_size {shape[0] - 1}: "
            "correct vocab_size or copy the checkpoint again."
        )
    return _longer(words)


def _misfit(where: Path, name: str, found: torch.Size, expected: torch.Size) -> str:
    sizes = f"{tuple(found)} instead of {tuple(expected)}"
    return f"{where}: {name} has shape {sizes}. The weights do not belong to this config.json (or vision tower)."


def _set(model: nn.Module, name: str, tensor: Tensor) -> None:
    owner, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(owner), attribute, nn.Parameter(tensor, requires_grad=False))


def _name_of(model: nn.Module, module: nn.Module) -> str:
    return next(f"{name}.weight" for name, candidate in model.named_modules() if candidate is module)


def _tie(model: Any, embedding: str, filled: set[str]) -> None:
    """Where words are read and said with the same weights, `lm_head` is a view of the embedding without the image token's row."""
    if "lm_head.weight" in filled or not model.config.tie_word_embeddings or embedding not in filled:
        return
    model.lm_head.weight = nn.Parameter(model.get_input_embeddings().weight[:-1], requires_grad=False)
    filled.add("lm_head.weight")
