"""Weight files are read in portions, so that little more than what is kept is ever in memory."""

from pathlib import Path

import pytest
import torch

from llava.errors import CheckpointError
from llava.model import shards
from tests import golden
from tests.model.checkpoints import copied, one_bin, one_safetensors, rewritten, state_of

WRITERS = {"pytorch_model.bin": one_bin, "model.safetensors": one_safetensors}


@pytest.mark.parametrize("file", WRITERS)
@pytest.mark.parametrize("size", [1, 100_000, 2**30])
def test_portions_hold_everything_wanted_once_and_keep_to_their_size(file: str, size: int, tmp_path: Path) -> None:
    folder = rewritten(copied(tmp_path), WRITERS[file])
    state = state_of(golden.CHECKPOINTS / "llava-v1.5-tiny")
    wanted = {name for name in state if "inv_freq" not in name}
    seen: list[str] = []
    for portion in shards.portions(folder / file, wanted, size):
        assert len(portion) == 1 or sum(tensor.nbytes for tensor in portion.values()) <= size
        for name, tensor in portion.items():
            assert torch.equal(tensor, state[name])
        seen += portion
    assert sorted(seen) == sorted(wanted)


@pytest.mark.parametrize("file", WRITERS)
def test_keys_and_shapes_are_read_without_the_tensors(file: str, tmp_path: Path) -> None:
    folder = rewritten(copied(tmp_path), WRITERS[file])
    found = shards.keys(folder / file)
    assert found["model.embed_tokens.weight"] == (2000, 64)
    assert len(found) == 27


def test_files_from_before_torch_1_6_are_read_at_once(tmp_path: Path) -> None:
    state = {"a": torch.ones(3), "b": torch.zeros(3)}
    torch.save(state, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    (portion,) = shards.portions(tmp_path / "pytorch_model.bin", {"a", "b"}, 1)
    assert [portion["a"].tolist(), portion["b"].tolist()] == [[1, 1, 1], [0, 0, 0]]


def test_an_index_comes_before_a_single_file(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    torch.save({}, folder / "pytorch_model.bin")
    assert [path.name for path in shards.weight_files(folder)] == [
        "pytorch_model-00001-of-00002.bin",
        "pytorch_model-00002-of-00002.bin",
    ]
    one_safetensors(state_of(folder), folder)
    assert [path.name for path in shards.weight_files(folder)] == ["model.safetensors"]  # not the copy as pickles
    with pytest.raises(CheckpointError, match="holds no weights"):
        shards.weight_files(tmp_path)
