"""Weights that are missing, damaged, strange or hostile end in a sentence, and nothing in them is ever executed."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.model.checkpoints import State, copied, one_bin, one_safetensors, refused, rewritten, sharded_safetensors

SHARD = "pytorch_model-00002-of-00002.bin"
INDEX = "pytorch_model.bin.index.json"


def _write_pickle(state: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(state))


class Trap:
    """Would write a file when unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (Path.touch, (self.marker,))


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / SHARD).unlink()
    assert SHARD in refused(folder, "lacks 1 of its 2 shards")


def test_missing_weights_are_named(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    for shard in folder.glob("pytorch_model*"):
        shard.unlink()
    (folder / "mm_projector.bin").unlink()
    refused(folder, "holds no weights: expected one of")


@pytest.mark.parametrize("index", ["{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}'])
def test_an_index_without_a_map_is_refused(index: str, tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / INDEX).write_text(index)
    refused(folder, "has no weight_map")


@pytest.mark.parametrize("file", ["../evil.bin", "/etc/passwd", "..", ""])
def test_an_index_may_not_point_outside_its_folder(file: str, tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / INDEX).write_text(json.dumps({"weight_map": {"lm_head.weight": file}}))
    refused(folder, "points outside its folder")


@pytest.mark.parametrize("file", ["a" * 300 + ".bin", "gone\0.bin"])
def test_an_index_whose_names_can_be_no_files_lacks_them(file: str, tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / INDEX).write_text(json.dumps({"weight_map": {"lm_head.weight": file}}))
    refused(folder, "lacks 1 of its 1 shards")


def test_an_index_that_names_what_is_not_there_is_refused(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"]["model.layers.9.mlp.up_proj.weight"] = SHARD
    (folder / INDEX).write_text(json.dumps(index))
    refused(folder, "lacks 1 tensors that the index names, first model.layers.9")


def test_a_weight_missing_from_a_single_file_is_named(tmp_path: Path) -> None:
    def without_head(state: State) -> None:
        del state["lm_head.weight"]

    refused(rewritten(copied(tmp_path), one_bin, without_head), r"lacks 1 of \d+ weights, first lm_head.weight")


def test_a_surplus_weight_is_named(tmp_path: Path) -> None:
    def with_surplus(state: State) -> None:
        state["model.mm_resampler.query"] = torch.zeros(2)

    refused(rewritten(copied(tmp_path), one_bin, with_surplus), "model.mm_resampler.query, for which .* no place")


@pytest.mark.parametrize("kept", [0, 1, 300, 0.5, 0.999])
def test_truncated_files_are_noticed(kept: float, tmp_path: Path) -> None:
    for save, pattern in ((one_bin, "*model.bin"), (one_safetensors, "*.safetensors")):
        folder = rewritten(copied(tmp_path / save.__name__), save)
        file = next(folder.glob(pattern))
        data = file.read_bytes()
        file.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
        refused(folder, "damaged or cut off|is cut off")


def test_a_pickle_that_is_more_than_tensors_is_never_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    writers: tuple[Callable[[Any, Path], Any], ...] = (torch.save, _write_pickle)
    for i, write in enumerate(writers):
        folder = copied(tmp_path / str(i))
        write({"lm_head.weight": Trap(marker)}, folder / SHARD)
        refused(folder, "plain tensors, which is never loaded|damaged")
    folder = rewritten(copied(tmp_path / "3"), one_bin)
    torch.save([torch.zeros(2)], folder / "pytorch_model.bin")
    refused(folder, "not a table of plain tensors")
    assert not marker.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_or_a_device_in_place_of_the_weights_is_refused(name: str, tmp_path: Path) -> None:
    for what in ("folder", "device"):
        folder = rewritten(copied(tmp_path / what), lambda _, folder: (folder / name).unlink(missing_ok=True))
        (folder / name).mkdir() if what == "folder" else (folder / name).symlink_to("/dev/null")
        refused(folder, "damaged or cut off")


@pytest.mark.parametrize(
    "strange",
    [
        lambda weight: weight.to_sparse(),
        lambda weight: weight.to("meta"),
        lambda weight: weight.to(torch.int8),
        lambda weight: weight.to(torch.complex64),
    ],
    ids=["sparse", "no memory", "whole numbers", "complex"],
)
def test_weights_that_are_no_plain_numbers_are_refused(strange: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    folder = rewritten(copied(tmp_path), one_bin, lambda state: state.update({"lm_head.weight": strange(state["lm_head.weight"])}))
    refused(folder, "not a table of plain tensors|lm_head.weight is of dtype (int8|complex64): only floats")


def test_sharded_safetensors_may_lack_nothing(tmp_path: Path) -> None:
    folder = rewritten(copied(tmp_path), sharded_safetensors)
    next(folder.glob("model-00001*")).unlink()
    refused(folder, "lacks 1 of its 2 shards")
