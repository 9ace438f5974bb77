"""Whatever is wrong with a checkpoint, loading ends in a sentence that says what to do, and nothing in it is ever executed."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from llava.errors import CheckpointError, UserError
from llava.model.builder import load, load_pretrained_model
from llava.model.folder import Kind, kind_of, resolve
from tests import golden
from tests.model.checkpoints import change_json, copied, hugging_face, refused


@pytest.mark.parametrize("target", ["./x", "../x/y", "/nowhere/llava", "llava-typo", "a/b/c", "a/../b", "-x/y", "a b/c", "x/y?z"])
def test_paths_and_typos_never_reach_the_hub(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llava.model.folder._download", lambda *_: pytest.fail("asked the hub"))
    refused(target, "There is no checkpoint folder .* Check the path")


@pytest.mark.parametrize("target", ["x" * 300, "x/" * 5000, "~nobody-of-that-name/llava", "a\0b"])
def test_what_can_be_no_path_is_no_folder_either(target: str) -> None:
    assert len(refused(target, "There is no checkpoint folder .* or give mini or a hub id")) < 400


@pytest.mark.parametrize("tower", ["x" * 300, "~nobody-of-that-name/clip", "a\0b", 5, ["clip-tiny-56"]])
def test_a_vision_tower_that_can_be_no_path_is_missing(tower: object, tmp_path: Path) -> None:
    refused(copied(tmp_path, mm_vision_tower=tower), "vision tower .* is missing. Put its folder beside")


@pytest.mark.parametrize("target", ["", "  "])
def test_an_empty_name_is_an_error(target: str) -> None:
    refused(target, "name is empty")


def test_a_hub_id_without_network_is_an_error_that_says_what_to_do() -> None:
    refused("liuhaotian/llava-v1.5-7b", "hub cannot be reached.*give the path of a checkpoint folder")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "model.bin").touch()
    refused(tmp_path / "model.bin", "is a file: give the folder")


def test_a_path_may_be_a_path_and_is_no_name_where_nothing_is(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no checkpoint folder"):
        load_pretrained_model(tmp_path / "gone", None, "llava")


def test_an_empty_folder_is_no_checkpoint(tmp_path: Path) -> None:
    refused(tmp_path, "no checkpoint: it has no config.json")


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_a_broken_config_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    refused(tmp_path, "config.json (cannot be read|is not) .*copy the checkpoint again")


def test_a_config_without_an_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "config.json").symlink_to("/dev/zero")
    refused(tmp_path, "larger than 64 MiB: it is no config")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("llava-v1.5-tiny-lora", "adapter .* not supported yet: merge it into its base model first"),
        ("llava-v1.5-tiny-pretrain", "projector only.*not supported yet"),
        ("llava-v1.6-vicuna-tiny", "LLaVA 1.6.*not supported yet"),
    ],
)
def test_checkpoints_that_are_not_supported_yet_say_so(name: str, words: str) -> None:
    refused(golden.CHECKPOINTS / name, words)


def test_an_adapter_without_a_config_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    refused(tmp_path, "adapter")


def test_model_base_quantised_weights_and_split_devices_are_refused_for_now() -> None:
    path = str(golden.CHECKPOINTS / "llava-v1.5-tiny")
    with pytest.raises(UserError, match=r"model_base .* merge"):
        load_pretrained_model(path, "vicuna", "llava")
    with pytest.raises(UserError, match="load_8bit"):
        load_pretrained_model(path, None, "llava", load_8bit=True)
    with pytest.raises(UserError, match="load_4bit"):
        load_pretrained_model(path, None, "llava", load_4bit=True)
    for split in ({"a": 0, "b": 1}, {"model": "cpu"}, "balanced", "sequential", ["cpu"], {"": None, "model": "cpu"}):
        with pytest.raises(UserError, match="one device"):
            load_pretrained_model(path, None, "llava", device_map=split)
    with pytest.raises(UserError, match="Unknown options temperature"):
        load_pretrained_model(path, None, "llava", temperature=1)


@pytest.mark.parametrize("device_map", ["cpu", {"": "cpu"}, torch.device("cpu"), {"": torch.device("cpu")}])
def test_a_device_map_that_names_one_device_is_obeyed(device_map: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(golden.CHECKPOINTS / "llava-v1.5-tiny")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)  # where there is one, the map decides all the same
    assert load_pretrained_model(path, None, "llava", device_map=device_map)[1].device == torch.device("cpu")
    assert load_pretrained_model(path, None, "llava", device_map="cuda:1", device="cpu")[1].device == torch.device("cpu")


@pytest.mark.parametrize("device_map", ["cuda:1", {"": "cuda:1"}, {"": 1}, 1])
def test_a_device_that_is_not_there_is_not_replaced_in_silence(device_map: Any) -> None:
    if torch.cuda.device_count() > 1:
        pytest.skip("this machine has that device")
    with pytest.raises(UserError, match="There is no device cuda:1 here"):
        load_pretrained_model(str(golden.CHECKPOINTS / "llava-v1.5-tiny"), None, "llava", device_map=device_map)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architectures": ["LlavaMPTForCausalLM"]}, "MPT model"),
        ({"model_type": "mpt"}, "MPT model"),
        ({"architectures": ["LlavaQwenForCausalLM"]}, "LlavaQwenForCausalLM; supported are"),
        ({"architectures": 5}, "architectures that are no list"),
        ({"mm_projector_type": "linear"}, "projector of type 'linear'"),
        ({"mm_projector_type": ["mlp2x_gelu"]}, r"projector of type \['mlp2x_gelu'\]"),
        ({"mm_vision_tower": None, "mm_hidden_size": 64}, "names no mm_vision_tower"),
        ({"mm_vision_tower": "clip-gone"}, "vision tower clip-gone .* missing. Put its folder beside"),
        ({"mm_vision_tower": "openai/clip-gone"}, "vision tower openai/clip-gone .* missing"),
        ({"vocab_size": 2010}, "embeddings for 2000 tokens, but its config.json says vocab_size 2010"),
        ({"hidden_size": 32}, "do not belong to this config.json|has shape"),
        ({"num_hidden_layers": 3}, "lacks 9 of"),
        ({"num_hidden_layers": 1}, "has no place"),
        ({"hidden_size": "many"}, "config.json"),
        ({"num_attention_heads": 0}, "does not describe a model"),
        ({"vocab_size": -3}, "describes no model that can be built"),
        ({"hidden_act": "magic"}, "describes no model that can be built"),
        ({"rope_scaling": {"type": "magic"}}, "describes no model that can be built"),
        ({"mm_vision_select_layer": 9}, "layer 9 of a vision tower with 2 layers"),
        ({"mm_vision_select_feature": "all"}, "mm_vision_select_feature 'all'"),
        ({"tokenizer_model_max_length": "2048"}, "tokenizer_model_max_length '2048': it is a count of tokens"),
        ({"tokenizer_model_max_length": -5}, "it is a count of tokens, at least 1"),
        ({"max_sequence_length": [1]}, "max_sequence_length"),
        ({"image_aspect_ratio": ["pad"]}, "image_aspect_ratio .* it is a word"),
        ({"mm_use_im_patch_token": "no"}, "mm_use_im_patch_token 'no': it is true or false"),
        ({"mm_use_im_start_end": True}, "tokenizer .* has 2002 tokens, the model only 2000"),
    ],
)
def test_configs_that_do_not_fit_are_explained(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    refused(copied(tmp_path, **changes), words)


def test_code_in_a_checkpoint_folder_is_never_imported(tmp_path: Path) -> None:
    marker = tmp_path / "imported"
    code = f"from pathlib import Path\nPath({str(marker)!r}).touch()\nfrom transformers import *\nEvil = LlamaTokenizer\n"
    original, modern = copied(tmp_path), hugging_face(tmp_path / "hf")
    for folder in (original, modern):
        (folder / "evil.py").write_text(code)
        names = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}
        change_json(folder / "config.json", auto_map=names)
        change_json(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", None]})
    for folder in (modern, tmp_path / "clip-tiny-56"):
        change_json(folder / "preprocessor_config.json", auto_map={"AutoImageProcessor": "evil.Evil"})
    for folder in (original, modern):
        load(str(folder), device="cpu")
    assert not marker.exists()
    assert not any("evil" in name for name in sys.modules)


@pytest.mark.parametrize("end", ["x", [2, "</s>"], {"id": 2}])
def test_an_end_token_that_is_no_number_is_refused(end: object, tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": end}))
    refused(folder, "eos_token_id .* no token's number")


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / "tokenizer.model").unlink()
    refused(folder, "has no tokenizer.model: copy it")


def test_a_damaged_tokenizer_is_named(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / "tokenizer.model").write_bytes(b"no protobuf")
    refused(folder, "tokenizer in .* is damaged")


def test_a_damaged_image_processor_is_named(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (tmp_path / "clip-tiny-56" / "preprocessor_config.json").write_text("{")
    refused(folder, "preprocessor_config.json cannot be read")


def test_a_missing_image_processor_is_named(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (tmp_path / "clip-tiny-56" / "preprocessor_config.json").unlink()
    refused(folder, "has no preprocessor_config.json: copy it")


def test_unknown_options_list_what_is_known() -> None:
    path = golden.CHECKPOINTS / "llava-v1.5-tiny"
    assert "vicuna_v1" in refused(path, "Unknown conv_mode 'vicuna'", conv_mode="vicuna")
    refused(path, "Unknown dtype 'int8': use auto, float32, bfloat16, float16", dtype="int8")
    for device, words in (("gpu", "Unknown device"), ("cuda:99", "There is no device"), ("meta", "There is no device")):
        with pytest.raises(UserError, match=words):
            load(str(path), device=device)
    refused(path, "attn_implementation", attn_implementation="magic")


def test_layouts_are_told_apart_by_architecture_and_keys(tmp_path: Path) -> None:
    assert kind_of(golden.CHECKPOINTS / "llava-v1.5-tiny") is Kind.ORIGINAL
    assert kind_of(hugging_face(tmp_path)) is Kind.HUGGING_FACE
    change_json(tmp_path / "config.json", architectures=["LlamaForCausalLM"], model_type="llama")
    assert kind_of(tmp_path) is Kind.OTHER


def test_a_home_folder_and_relative_paths_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(golden.CHECKPOINTS))
    assert resolve("~/clip-tiny-56").is_dir()
    monkeypatch.chdir(golden.CHECKPOINTS)
    assert resolve("llava-v1.5-tiny").is_dir()


def test_an_absolute_vision_tower_path_is_taken(tmp_path: Path) -> None:
    folder = copied(tmp_path, mm_vision_tower=str(tmp_path / "clip-tiny-56"))
    assert load(str(folder), device="cpu").image_processor.crop_size["height"] == 56
