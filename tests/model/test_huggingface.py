"""Checkpoints in transformers' own layout: the same tokens as transformers' tokenizer, the same answer as its model."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as PIL
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, LlavaForConditionalGeneration

from llava.chat import Chat, Image, Message
from llava.errors import CheckpointError
from llava.model.builder import load, load_pretrained_model
from llava.model.folder import Kind, kind_of
from llava.model.huggingface import rename
from llava.model.loaded import Loaded
from llava.model.prompt import joined
from tests.model.checkpoints import change_json, hugging_face, one_bin

PICTURE = Image(PIL.linear_gradient("L").convert("RGB").resize((80, 40)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hugging_face(tmp_path_factory.mktemp("hf") / "llava-tiny-hf")


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Loaded:
    return load(str(folder), device="cpu")


def test_a_chat_has_the_ids_of_transformers_own_tokenizer(folder: Path, loaded: Loaded) -> None:
    words: Any = AutoTokenizer.from_pretrained(folder)
    chat = Chat((Message("user", "What?", (PICTURE,)), Message("assistant", "A ramp."), Message("user", "Why?", (PICTURE,))))
    text = joined(loaded.pieces(chat)).replace("<image>", "<image>" * 16)
    assert text.endswith("What? ASSISTANT: A ramp.</s>USER: " + "<image>" * 16 + "\nWhy? ASSISTANT:")
    assert loaded.encode(chat)["input_ids"].tolist() == [words(text).input_ids]


def test_markers_in_a_question_stay_text(loaded: Loaded) -> None:
    encoded = loaded.encode(Chat.ask("Is <image> </s> here?", [PICTURE]))
    ids = encoded["input_ids"][0].tolist()
    assert ids.count(2000) == 16
    assert ids.count(2) == 0
    assert loaded.decode(ids).endswith("Is <image> </s> here? ASSISTANT:")


def test_loading_writes_nothing_to_the_terminal(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load(str(folder), device="cpu")
    assert capfd.readouterr() == ("", "")


def test_the_model_answers_as_transformers_own_class(folder: Path, loaded: Loaded) -> None:
    reference: Any = LlavaForConditionalGeneration.from_pretrained(folder)
    encoded = loaded.encode(Chat.ask("What is this?", [PICTURE]))
    with torch.no_grad():
        assert torch.equal(loaded.model(**encoded).logits, reference(**encoded).logits)
    options = {"do_sample": False, "max_new_tokens": 8}
    assert torch.equal(loaded.model.generate(**encoded, **options), reference.generate(**encoded, **options))


def test_llava_s_way_of_calling_gives_the_same_answer(folder: Path, loaded: Loaded) -> None:
    _, model, _, _ = load_pretrained_model(str(folder), None, "llava", device="cpu")
    chat = Chat.ask("What is this?", [PICTURE])
    encoded = loaded.encode(chat)
    ids, n = encoded["input_ids"][0].tolist(), encoded["input_ids"].shape[1]
    first = ids.index(2000)
    marked = torch.tensor([[*ids[:first], -200, *ids[first + 16 :]]])
    llava_s = model.generate(marked, images=loaded.pixels(chat), do_sample=False, max_new_tokens=8)
    transformers_s = loaded.model.generate(**encoded, do_sample=False, max_new_tokens=8)
    assert llava_s[0, 1:].tolist() == transformers_s[0, n:].tolist()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_pixels_come_in_the_weights_dtype(folder: Path, dtype: str) -> None:
    half = load(str(folder), device="cpu", dtype=dtype)
    encoded = half.encode(Chat.ask("What is this?", [PICTURE]))
    assert encoded["pixel_values"].dtype is half.dtype is getattr(torch, dtype)
    with torch.no_grad():
        assert half.model(**encoded).logits.isfinite().all()


def test_images_are_padded_unless_the_config_says_otherwise(folder: Path, loaded: Loaded, tmp_path: Path) -> None:
    assert loaded.model.config.image_aspect_ratio == "pad"
    cropping = hugging_face(tmp_path)
    change_json(cropping / "config.json", image_aspect_ratio="crop")
    crop = load(str(cropping), device="cpu")
    chat = Chat.ask("What is this?", [PICTURE])
    assert not torch.equal(crop.pixels(chat), loaded.pixels(chat))


def test_end_tokens_come_from_tokenizer_and_generation_config(tmp_path: Path) -> None:
    folder = hugging_face(tmp_path)
    change_json(folder / "generation_config.json", eos_token_id=[2, 7])
    assert load(str(folder), device="cpu").eos_ids == {2, 7}


def test_names_choose_templates(tmp_path: Path) -> None:
    for name, stop in (("llava-llama-2-7b", "</s>"), ("llava-v1.6-mistral-hf", "</s>"), ("plain-name", "</s>")):
        loaded = load(str(hugging_face(tmp_path / name)), device="cpu")
        assert loaded.stop == (stop,)
        assert loaded.name == name
    assert "[INST]" in joined(load(str(tmp_path / "llava-llama-2-7b"), device="cpu").pieces(Chat.ask("Hi")))


@pytest.mark.parametrize("cut", ["config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json"])
def test_damaged_checkpoints_in_transformers_layout_are_explained(cut: str, tmp_path: Path) -> None:
    folder = hugging_face(tmp_path)
    data = (folder / cut).read_bytes()
    (folder / cut).write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError):
        load(str(folder), device="cpu")


def test_transformers_layout_with_a_weight_less_is_refused(tmp_path: Path) -> None:
    folder = hugging_face(tmp_path)
    state = load_file(folder / "model.safetensors")
    name = next(name for name in state if "linear_1.weight" in name)
    del state[name]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks 1 of \d+ weights, first .*linear_1.weight"):
        load(str(folder), device="cpu")


def test_transformers_layout_needs_its_image_token(tmp_path: Path) -> None:
    folder = hugging_face(tmp_path)
    change_json(folder / "config.json", image_token_index=5)
    with pytest.raises(CheckpointError, match="no image token 5"):
        load(str(folder), device="cpu")


@pytest.mark.parametrize(
    ("template", "tower", "kind"),
    [
        (None, "clip_vision_model", Kind.HUGGING_FACE),
        ("{{ 'USER: ' + m }}", "clip_vision_model", Kind.HUGGING_FACE),
        ("{% if m.role == 'user' %}USER: {% endif %}", "clip_vision_model", Kind.HUGGING_FACE),
        ("[INST] {{ m }} [/INST]", "clip_vision_model", Kind.HUGGING_FACE),
        ("<|start_header_id|>{{ m.role }}", "clip_vision_model", Kind.OTHER),
        ("{{ 'USER: ' + m }}", "siglip_vision_model", Kind.OTHER),
        ("[INST]", "pixtral", Kind.OTHER),
    ],
)
@pytest.mark.parametrize("home", ["chat_template.jinja", "chat_template.json", "tokenizer_config.json"])
def test_other_towers_and_other_prompts_go_through_their_own_processor(
    template: str | None, tower: str, kind: Kind, home: str, tmp_path: Path
) -> None:
    config = {"architectures": ["LlavaForConditionalGeneration"], "model_type": "llava", "vision_config": {"model_type": tower}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    if template is not None:
        (tmp_path / home).write_text(template if home.endswith("jinja") else json.dumps({"chat_template": template}))
    assert kind_of(tmp_path) is kind


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("language_model.model.layers.0.mlp.up_proj.weight", "model.language_model.layers.0.mlp.up_proj.weight"),
        ("language_model.model.embed_tokens.weight", "model.language_model.embed_tokens.weight"),
        ("language_model.lm_head.weight", "lm_head.weight"),
        ("lm_head.weight", "lm_head.weight"),
        ("multi_modal_projector.linear_1.bias", "model.multi_modal_projector.linear_1.bias"),
        ("vision_tower.vision_model.pre_layrnorm.bias", "V.pre_layrnorm.bias"),
        ("model.vision_tower.vision_model.pre_layrnorm.bias", "V.pre_layrnorm.bias"),
        ("model.vision_tower.pre_layrnorm.bias", "V.pre_layrnorm.bias"),
        ("model.language_model.norm.weight", "model.language_model.norm.weight"),
    ],
)
def test_names_of_older_files_are_mapped(old: str, new: str) -> None:
    assert rename(old, "V.") == new


def test_names_of_today_give_the_same_weights(folder: Path, loaded: Loaded, tmp_path: Path) -> None:
    again = hugging_face(tmp_path)
    (again / "model.safetensors").unlink()
    one_bin(loaded.model.state_dict(), again)
    assert torch.equal(
        load(str(again), device="cpu").model.lm_head.weight, load_file(folder / "model.safetensors")["language_model.lm_head.weight"]
    )


def test_tied_words_are_one_tensor(tmp_path: Path) -> None:
    folder = hugging_face(tmp_path, tie_word_embeddings=True)
    loaded = load(str(folder), device="cpu")
    assert loaded.model.lm_head.weight.data_ptr() == loaded.model.get_input_embeddings().weight.data_ptr()
    assert loaded.model.lm_head.weight.shape[0] == 2064


@pytest.mark.parametrize(
    "change", [{"vision_config": 5}, {"text_config": {"model_type": "nope"}}, {"vision_feature_layer": "x"}, {"dtype": [1]}]
)
def test_configs_that_describe_nothing_are_explained(change: dict[str, Any], tmp_path: Path) -> None:
    folder = hugging_face(tmp_path)
    change_json(folder / "config.json", **change)
    with pytest.raises(CheckpointError, match=r"config\.json describes no"):
        load(str(folder), device="cpu")


def test_a_damaged_generation_config_is_named(tmp_path: Path) -> None:
    folder = hugging_face(tmp_path)
    (folder / "generation_config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"generation_config\.json"):
        load(str(folder), device="cpu")
