"""The weight files of a checkpoint folder: `.bin` or safetensors, one file or many with an index.

Tensors are handed out in portions, so that a reader needs little more memory than what it keeps: a portion's memory map is dropped
before the next one is opened. `.bin` files are unpickled by torch's `weights_only` reader: plain tensors, nothing is executed.
Knows no model: names are as in the files.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from llava.errors import CheckpointError
from llava.model.folder import here, read_json

PORTION = 256 * 2**20  # bytes of tensors per portion
# Where both kinds lie in a folder they are copies of each other: safetensors are read faster.
_LAYOUTS = ("model.safetensors.index.json", "model.safetensors", "pytorch_model.bin.index.json", "pytorch_model.bin")

_COPY_AGAIN = "Copy or download the checkpoint again."


def weight_files(folder: Path) -> dict[Path, frozenset[str]]:
    """Files that hold the weights and the names that each must have (empty: not listed); raises `CheckpointError`."""
    for name in _LAYOUTS:
        if (folder / name).exists():
            return _indexed(folder / name) if name.endswith(".json") else {folder / name: frozenset()}
    raise CheckpointError(f"{folder} holds no weights: expected one of {', '.join(_LAYOUTS)}.")


def _indexed(index: Path) -> dict[Path, frozenset[str]]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(v, str) for v in weight_map.values()):
        raise CheckpointError(f"{index} has no weight_map. {_COPY_AGAIN}")
    names: dict[Path, set[str]] = {}
    for name, file in weight_map.items():
        if Path(file).name != file or file in ("", ".."):
            raise CheckpointError(f"{index} points outside its folder ({file}): do not use this checkpoint.")
        names.setdefault(index.parent / file, set()).add(name)
    missing = sorted(path.name[:100] for path in names if here(path) is None)
    if missing:
        raise CheckpointError(f"{index.parent} lacks {len(missing)} of its {len(names)} shards: {', '.join(missing[:3])}. {_COPY_AGAIN}")
    return {path: frozenset(listed) for path, listed in sorted(names.items())}


def keys(path: Path, listed: Collection[str] = ()) -> dict[str, torch.Size]:
    """Names and shapes of the tensors in a file; raises `CheckpointError` when it is damaged or lacks `listed` names."""
    with _tensors(path) as tensors:
        shapes = {name: tensors.shape(name) for name in tensors.names}
    if absent := sorted(set(listed) - set(shapes)):
        raise CheckpointError(f"{path} lacks {len(absent)} tensors that the index names, first {absent[0]}. {_COPY_AGAIN}")
    return shapes


def portions(path: Path, wanted: Collection[str], size: int = PORTION) -> Iterator[dict[str, Tensor]]:
    """The `wanted` tensors of a file, about `size` bytes at a time; valid until the next portion, so copy what is kept."""
    with _tensors(path) as tensors:
        sizes = {name: tensors.bytes(name) for name in tensors.names if name in wanted}
    if not _can_be_mapped(path):
        size = sum(sizes.values())  # such a file is read whole each time, so once must do
    group: list[str] = []
    for name, n_bytes in sizes.items():
        if group and sum(sizes[n] for n in group) + n_bytes > size:
            yield from _read(path, group)
            group = []
        group.append(name)
    if group:
        yield from _read(path, group)


def _can_be_mapped(path: Path) -> bool:
    """Whether a file can be read in part; `.bin` files from before torch 1.6 are no zip archives and cannot."""
    return path.suffix == ".safetensors" or zipfile.is_zipfile(path)


def _read(path: Path, names: list[str]) -> Iterator[dict[str, Tensor]]:
    with _tensors(path) as tensors:
        yield {name: tensors.get(name) for name in names}


class _Bin:
    def __init__(self, state: dict[str, Tensor]) -> None:
        self._state = state
        self.names = list(state)

    def shape(self, name: str) -> torch.Size:
        return self._state[name].shape

    def bytes(self, name: str) -> int:
        return self._state[name].nbytes

    def get(self, name: str) -> Tensor:
        return self._state[name]


class _Safetensors:
    def __init__(self, file: Any) -> None:  # safe_open has no types
        self._file = file
        self.names = list(file.keys())

    def shape(self, name: str) -> torch.Size:
        return torch.Size(self._file.get_slice(name).get_shape())

    def bytes(self, name: str) -> int:
        return self.shape(name).numel() * 4  # an upper bound: portions need no more

    def get(self, name: str) -> Tensor:
        tensor: Tensor = self._file.get_tensor(name)
        return tensor


@contextmanager
def _tensors(path: Path) -> Iterator[_Bin | _Safetensors]:
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                yield _Safetensors(file)
        except (SafetensorError, OSError) as error:  # OSError: a folder, a device
            raise CheckpointError(f"{path} is damaged or cut off. {_COPY_AGAIN}") from error
        return
    yield _Bin(_plain_tensors(path))


def _plain_tensors(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)  # either it reads such a file or it says why not
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=_can_be_mapped(path))
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} is cut off, or a pickle with more than plain tensors, which is never loaded.") from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged or cut off. {_COPY_AGAIN}") from error
    if not isinstance(state, dict) or not all(isinstance(k, str) and _is_plain(v) for k, v in state.items()):
        raise CheckpointError(f"{path} is not a table of plain tensors: it cannot be used as weights.")
    return state


def _is_plain(value: object) -> bool:
    """Whether a value is a tensor with numbers of its own: not sparse, not quantised, not without memory."""
    return isinstance(value, Tensor) and value.layout is torch.strided and not value.is_quantized and not value.is_meta
