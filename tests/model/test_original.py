"""Checkpoints in LLaVA's own layout give the original's logits and tokens, however their files are laid out."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TextIteratorStreamer

from llava.chat import Chat, Image
from llava.conversation import conv_templates
from llava.errors import ContextTooLong, UserError
from llava.mm_utils import KeywordsStoppingCriteria, process_images, tokenizer_image_token
from llava.model import huggingface
from llava.model.builder import load, load_pretrained_model
from llava.model.filling import add_image_row, empty_model
from llava.model.loaded import Loaded
from llava.model.options import How
from llava.model.original import Original, rename
from tests import golden
from tests.model.checkpoints import State, change_json, copied, one_bin, one_safetensors, rewritten, sharded_safetensors, state_of

CASES = [(name, case) for name in golden.MODELS for case in golden.read(f"models/{name}.json")["cases"]]
EQUAL = [(name, case) for name, case in CASES if "output_ids" in case and case["case"] != "image_given_but_no_token"]
COUNTS = [(name, case) for name, case in CASES if case["case"] in ("image_given_but_no_token", "two_tokens_one_image")]


def label(value: Any) -> str:
    return value["case"] if isinstance(value, dict) else str(value)


@pytest.fixture(scope="module")
def models() -> dict[str, Loaded]:
    return {name: load(str(golden.CHECKPOINTS / name), device="cpu") for name in golden.MODELS}


def inputs(loaded: Loaded, case: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor | None]:
    images = [golden.bare_rgb(name) for name in case["images"]]
    pixels = process_images(images, loaded.image_processor, loaded.model.config) if images else None
    return tokenizer_image_token(case["prompt"], loaded.tokenizer, return_tensors="pt").unsqueeze(0), pixels


@pytest.mark.parametrize(("name", "case"), EQUAL, ids=label)
def test_ids_logits_and_greedy_tokens_equal_the_original_s(name: str, case: dict[str, Any], models: dict[str, Loaded]) -> None:
    loaded, stored = models[name], golden.arrays(f"models/{name}.npz")
    ids, pixels = inputs(loaded, case)
    assert ids[0].tolist() == case["input_ids"]
    with torch.no_grad():
        logits = loaded.model(**loaded.inputs(case["input_ids"], pixels)).logits[0, -1].numpy()
    np.testing.assert_allclose(logits, stored[f"{case['case']}.logits"], rtol=0, atol=1e-4)
    beams = case.get("num_beams", 1)
    if beams == 1:
        assert stored[f"{case['case']}.margins"].min() >= 1e-3  # no step where another kernel could flip a token
    output = loaded.model.generate(ids, images=pixels, do_sample=False, num_beams=beams, max_new_tokens=48)
    assert output[0].tolist() == case["output_ids"]
    assert loaded.decode(output[0]).strip() == case["text"].strip()


@pytest.mark.parametrize(("name", "case"), COUNTS, ids=label)
def test_as_many_images_as_image_marks_are_wanted(name: str, case: dict[str, Any], models: dict[str, Loaded]) -> None:
    ids, pixels = inputs(models[name], case)
    with pytest.raises(UserError, match="one image for each <image>"):
        models[name].model.generate(ids, images=pixels)


def test_image_features_equal_the_original_s(models: dict[str, Loaded]) -> None:
    for name, loaded in models.items():
        pixels = process_images([golden.bare_rgb("tall_37x151.png")], loaded.image_processor, loaded.model.config)
        with torch.no_grad():
            features = loaded.model.get_image_features(pixels).pooler_output[0].numpy()
        np.testing.assert_allclose(features, golden.arrays(f"models/{name}.npz")["img_tall.image_features"][0], rtol=0, atol=1e-5)


def test_a_chat_is_encoded_as_the_original_s_prompt(models: dict[str, Loaded]) -> None:
    for name, loaded in models.items():
        case = golden.read(f"models/{name}.json")["cases"][0]
        chat = Chat.ask("What is in the image?", [Image(golden.bare_rgb("tall_37x151.png"))])
        encoded = loaded.encode(chat)
        expected = [i for token in case["input_ids"] for i in ([loaded.model.config.image_token_id] * 16 if token == -200 else [token])]
        assert encoded["input_ids"].tolist() == [expected]
        assert encoded["attention_mask"].tolist() == [[1] * len(expected)]
        assert encoded["pixel_values"].shape == (1, 3, 56, 56)
        new = loaded.model.generate(**encoded, do_sample=False, max_new_tokens=48)[0, len(expected) :]
        assert new.tolist() == case["output_ids"][1:]
        assert "pixel_values" not in loaded.encode(chat.blind())


def test_an_image_token_is_never_said(models: dict[str, Loaded]) -> None:
    for loaded in models.values():
        words = len(loaded.tokenizer)
        assert loaded.model.config.image_token_id == words
        assert loaded.model.get_input_embeddings().weight.shape[0] == words + 1
        assert loaded.model.get_output_embeddings().weight.shape[0] == words


@pytest.mark.parametrize("save", [one_bin, one_safetensors, sharded_safetensors])
def test_every_file_layout_gives_the_same_weights(save: Any, tmp_path: Path, models: dict[str, Loaded]) -> None:
    loaded = load(str(rewritten(copied(tmp_path), save)), device="cpu")
    for (name, ours), reference in zip(loaded.model.named_parameters(), models["llava-v1.5-tiny"].model.parameters(), strict=True):
        assert torch.equal(ours, reference), name


def test_the_projector_may_lie_in_a_file_of_its_own(tmp_path: Path, models: dict[str, Loaded]) -> None:
    def without_projector(state: State) -> None:
        for name in [name for name in state if "mm_projector" in name]:
            del state[name]

    loaded = load(str(rewritten(copied(tmp_path), one_bin, without_projector)), device="cpu")
    projector = loaded.model.model.multi_modal_projector
    assert torch.equal(projector.linear_1.weight, models["llava-v1.5-tiny"].model.model.multi_modal_projector.linear_1.weight)


@pytest.mark.parametrize("unfrozen", [False, True])
def test_a_tower_in_the_shards_counts_only_where_it_was_trained(unfrozen: bool, tmp_path: Path, models: dict[str, Loaded]) -> None:
    tower = torch.load(golden.CHECKPOINTS / "clip-tiny-56" / "pytorch_model.bin", weights_only=True)

    def with_tower(state: State) -> None:
        vision = {name: value for name, value in tower.items() if name.startswith("vision_model.")}
        state.update({f"model.vision_tower.vision_tower.{name}": value + 1 for name, value in vision.items()})

    folder = rewritten(copied(tmp_path, unfreeze_mm_vision_tower=unfrozen), one_bin, with_tower)
    ours = load(str(folder), device="cpu").model.model.vision_tower.embeddings.class_embedding
    assert torch.equal(ours, models["llava-v1.5-tiny"].model.model.vision_tower.embeddings.class_embedding + unfrozen)


def test_config_settings_reach_the_model(tmp_path: Path) -> None:
    def grouped(state: State) -> None:
        for name in [name for name in state if name.endswith(("k_proj.weight", "v_proj.weight"))]:
            state[name] = state[name][:32].clone()  # two key-value heads of 16
        del state["lm_head.weight"]

    changes: dict[str, Any] = {"num_key_value_heads": 2, "rope_theta": 5e5, "tie_word_embeddings": True, "tokenizer_model_max_length": 128}
    folder = copied(tmp_path, **changes, mm_vision_select_layer=-1, mm_vision_select_feature="cls_patch", image_aspect_ratio=None)
    loaded = load(str(rewritten(folder, one_bin, grouped)), device="cpu", dtype="bfloat16")
    config = loaded.model.config
    assert config.text_config.rope_parameters["rope_theta"] == 5e5
    assert (config.vision_feature_layer, config.vision_feature_select_strategy, loaded.image_tokens) == (-1, "full", 17)
    assert loaded.context_len == 128
    assert loaded.dtype is torch.bfloat16
    rotary = loaded.model.model.language_model.rotary_emb.inv_freq
    assert rotary.dtype is torch.float32
    assert rotary[1].item() == pytest.approx(5e5 ** (-2 / 16))
    head, embedding = loaded.model.lm_head.weight, loaded.model.get_input_embeddings().weight
    assert head.data_ptr() == embedding.data_ptr()
    assert not hasattr(config, "image_aspect_ratio")  # a centre crop
    picture = Image(golden.bare_rgb("wide_203x31.png"))
    answer = loaded.model.generate(**loaded.encode(Chat.ask("What?", [picture])), max_new_tokens=3, do_sample=False)
    assert answer.shape[1] > 17


def test_a_prompt_over_the_trained_length_is_an_error_not_a_cut(tmp_path: Path) -> None:
    tokenizer, model, _, _ = load_pretrained_model(str(copied(tmp_path, tokenizer_model_max_length=20)), None, "llava", device="cpu")
    with pytest.raises(ContextTooLong, match="holds 20"):
        model.generate(tokenizer_image_token("Hi " * 40, tokenizer, return_tensors="pt").unsqueeze(0), images=None)


def test_load_pretrained_model_gives_llava_s_four(tmp_path: Path) -> None:
    path = str(golden.CHECKPOINTS / "llava-v1.5-tiny")
    tokenizer, model, image_processor, context_len = load_pretrained_model(path, None, "llava-v1.5-tiny")
    assert (context_len, tokenizer.eos_token, image_processor.crop_size["height"]) == (2048, "</s>", 56)
    assert not model.training
    assert model.config.mm_use_im_start_end is False
    prompt = tokenizer_image_token("<image>\nHi", tokenizer, return_tensors="pt").unsqueeze(0).to(model.device)
    images = [process_images([golden.bare_rgb("exact_56.png")], image_processor, model.config)[0]]
    output = model.generate(prompt, images=images, image_sizes=[(56, 56)], do_sample=True, temperature=0.2, top_p=0.9, max_new_tokens=4)
    assert output[0, 0] == tokenizer.bos_token_id
    assert output.shape[1] <= 5
    assert load_pretrained_model(str(copied(tmp_path, max_sequence_length=4096)), None, "x", torch_dtype=torch.bfloat16)[3] == 4096


def test_keywords_stop_generation(models: dict[str, Loaded]) -> None:
    loaded = models["llava-v1.5-tiny"]
    case = next(case for name, case in CASES if name == "llava-v1.5-tiny" and case["case"] == "text_short")
    ids = torch.tensor([case["input_ids"]])
    criteria = KeywordsStoppingCriteria(["headers"], loaded.tokenizer, ids)
    answer = loaded.model.generate(ids, images=None, do_sample=False, max_new_tokens=48, stopping_criteria=[criteria])
    text = loaded.decode(answer[0])
    assert text.endswith("headers")
    assert case["text"].startswith(text)


def test_an_answer_streams_through_transformers_streamer(models: dict[str, Loaded]) -> None:
    loaded = models["llava-v1.5-tiny"]
    case = next(case for name, case in CASES if name == "llava-v1.5-tiny" and case["case"] == "img_tall")
    ids, pixels = inputs(loaded, case)
    streamer = TextIteratorStreamer(loaded.tokenizer, skip_prompt=True, skip_special_tokens=True)
    loaded.model.generate(ids, images=pixels, do_sample=False, max_new_tokens=48, streamer=streamer)
    assert "".join(streamer) == case["text"]


def test_several_images_take_their_places_in_order(models: dict[str, Loaded]) -> None:
    loaded = models["llava-v1.5-tiny"]
    pictures = [Image(golden.bare_rgb(name)) for name in ("exact_56.png", "odd_55x57.png")]
    encoded = loaded.encode(Chat.ask("Compare.", pictures))
    assert encoded["pixel_values"].shape == (2, 3, 56, 56)
    assert (encoded["input_ids"] == loaded.model.config.image_token_id).sum() == 32
    swapped = loaded.encode(Chat.ask("Compare.", pictures[::-1]))
    with torch.no_grad():
        assert not torch.equal(loaded.model(**encoded).logits, loaded.model(**swapped).logits)


def test_the_template_goes_by_the_model_s_name_or_by_option(models: dict[str, Loaded]) -> None:
    assert models["llava-v1.5-tiny"].template is conv_templates["vicuna_v1"]
    assert models["llava-v1.5-tiny"].stop == ("</s>",)
    assert models["llava-v1.5-tiny"].eos_ids == {2}
    path = str(golden.CHECKPOINTS / "llava-v1.5-tiny")
    assert load(path, device="cpu", conv_mode="llava_v0").stop == ("###",)


@pytest.mark.parametrize(
    ("name", "vision", "new"),
    [
        ("model.layers.3.mlp.up_proj.weight", None, "model.language_model.layers.3.mlp.up_proj.weight"),
        ("model.embed_tokens.weight", None, "model.language_model.embed_tokens.weight"),
        ("model.norm.weight", None, "model.language_model.norm.weight"),
        ("lm_head.weight", None, "lm_head.weight"),
        ("model.mm_projector.2.bias", None, "model.multi_modal_projector.linear_2.bias"),
        ("model.layers.3.self_attn.rotary_emb.inv_freq", None, None),
        ("model.vision_tower.vision_tower.vision_model.pre_layrnorm.bias", None, None),
        ("model.vision_tower.vision_tower.vision_model.pre_layrnorm.bias", "v.", "v.pre_layrnorm.bias"),
        ("model.vision_tower.vision_tower.vision_model.embeddings.position_ids", "v.", None),
    ],
)
def test_names_are_mapped(name: str, vision: str | None, new: str | None) -> None:
    assert rename(name, vision) == new


def test_the_golden_checkpoint_holds_what_real_ones_hold() -> None:
    names = state_of(golden.CHECKPOINTS / "llava-v1.5-tiny")
    assert any(name.endswith("inv_freq") for name in names)
    assert not any("vision_tower" in name for name in names)


def test_transformers_own_reader_which_quantises_gets_the_same_weights(models: dict[str, Loaded]) -> None:
    original = Original.open(golden.CHECKPOINTS / "llava-v1.5-tiny")
    how = How(torch.device("cpu"), torch.float32)
    empty = empty_model(original.hf_config(), how, image_row=True)
    model = huggingface.read_weights(original.folder, how, state=dict(original.tensors(empty)), config=empty.config)
    add_image_row(model)
    for (name, ours), reference in zip(model.named_parameters(), models["llava-v1.5-tiny"].model.parameters(), strict=True):
        assert torch.equal(ours, reference), name


def test_a_hub_id_that_was_downloaded_before_loads_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for repo, source in (("liuhaotian/llava-tiny", "llava-v1.5-tiny"), ("openai/clip-tiny", "clip-tiny-56")):
        cached = tmp_path / f"models--{repo.replace('/', '--')}"
        (cached / "refs").mkdir(parents=True)
        (cached / "refs" / "main").write_text("0" * 40)
        shutil.copytree(golden.CHECKPOINTS / source, cached / "snapshots" / ("0" * 40))
        if source != "clip-tiny-56":
            change_json(cached / "snapshots" / ("0" * 40) / "config.json", mm_vision_tower="openai/clip-tiny")
    loaded = load("liuhaotian/llava-tiny", device="cpu")
    assert loaded.name == "llava-tiny"
    assert loaded.image_processor.crop_size["height"] == 56
