"""The model class under LLaVA's name takes what LLaVA's takes, and says so where it does not."""

import inspect
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as PIL
from torch.nn.functional import cross_entropy
from transformers import LlavaForConditionalGeneration

import llava.model
from llava.constants import IGNORE_INDEX, IMAGE_TOKEN_INDEX
from llava.errors import UserError
from llava.mm_utils import process_images, tokenizer_image_token
from llava.model.builder import load_pretrained_model
from llava.model.language_model.llava_llama import LlavaLlamaForCausalLM
from tests import golden
from tests.model.checkpoints import hugging_face

ORIGINAL = golden.CHECKPOINTS / "llava-v1.5-tiny"
PICTURE = PIL.linear_gradient("L").convert("RGB").resize((80, 40))
PATCHES = 16  # positions of an image in these models


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hugging_face(tmp_path_factory.mktemp("hf") / "llava-tiny-hf")


@pytest.fixture(scope="module", params=["original", "huggingface"])
def asked(request: pytest.FixtureRequest, folder: Path) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """A model of either layout, ids (1, N) with -200, pixels (1, 3, H, W)."""
    path = str(ORIGINAL if request.param == "original" else folder)
    tokenizer, model, processor, _ = load_pretrained_model(path, None, "llava", device="cpu")
    ids = tokenizer_image_token("USER: <image>\nWhat is this? ASSISTANT:", tokenizer, return_tensors="pt").unsqueeze(0)
    return model, ids, process_images([PICTURE], processor, model.config)


def test_the_settings_that_llava_s_scripts_read_are_there(asked: Any) -> None:
    config = asked[0].config
    assert (config.mm_use_im_start_end, config.mm_use_im_patch_token, config.image_aspect_ratio) == (False, False, "pad")


def test_generation_may_be_asked_for_scores_and_hidden_states(asked: Any) -> None:
    model, ids, pixels = asked
    options: dict[str, Any] = {"images": pixels, "image_sizes": [PICTURE.size], "do_sample": False, "max_new_tokens": 4}
    told = model.generate(ids, **options, return_dict_in_generate=True, output_scores=True, output_hidden_states=True)
    assert torch.equal(told.sequences, model.generate(ids, **options))
    assert torch.equal(told["sequences"], told.sequences)
    assert len(told.scores) == len(told.hidden_states) == told.sequences.shape[1] - 1
    assert told.scores[0].argmax() == told.sequences[0, 1]


def test_the_forward_pass_takes_images_too(asked: Any) -> None:
    model, ids, pixels = asked
    with torch.no_grad():
        logits = model(input_ids=ids, images=pixels, image_sizes=[PICTURE.size], attention_mask=torch.ones_like(ids)).logits
        assert logits.shape[:2] == (1, ids.shape[1] - 1 + PATCHES)
        assert torch.equal(model(ids, images=list(pixels)).logits, logits)
        words = torch.tensor([[1, 5, 6]])
        assert torch.equal(model(words, images=None).logits, model(words).logits)
    first = model.generate(ids, images=pixels, do_sample=False, max_new_tokens=1)[0, 1]
    assert logits[0, -1].argmax() == first


def test_the_loss_of_labels_leaves_out_the_image_and_reaches_its_pixels(asked: Any) -> None:
    model, ids, pixels = asked
    pixels = pixels.clone().requires_grad_()
    labels = ids.clone()
    labels[0, :5] = IGNORE_INDEX
    with torch.enable_grad():
        output: Any = model(ids, images=pixels, labels=labels)
        (gradient,) = torch.autograd.grad(output.loss, pixels)
    slot = int((ids[0] == IMAGE_TOKEN_INDEX).nonzero())
    expanded = torch.cat([labels[0, :slot], torch.full((PATCHES,), IGNORE_INDEX), labels[0, slot + 1 :]])
    assert output.loss.detach() == pytest.approx(float(cross_entropy(output.logits[0, :-1].detach(), expanded[1:])), abs=1e-5)
    assert gradient.abs().sum() > 0


def test_what_the_language_model_sees_of_an_image_can_be_had(asked: Any) -> None:
    model, _, pixels = asked
    with torch.no_grad():
        assert model.encode_images(torch.cat([pixels, pixels])).shape == (2, PATCHES, 64)


def test_ids_with_an_image_need_its_pixels(asked: Any) -> None:
    model, ids, pixels = asked
    for given in ({"inputs": ids}, {"input_ids": ids}):
        with pytest.raises(UserError, match="-200, which stands for an image"):
            model.generate(**given)
    for ask, prompt, images in ((model, ids, None), (model.generate, ids, []), (model, ids[:, :3], pixels)):
        with pytest.raises(UserError, match="give one image for each"):
            ask(prompt, images=images)
    with pytest.raises(UserError, match="ids of one prompt"):
        model(torch.cat([ids, ids]), images=torch.cat([pixels, pixels]))


def test_transformers_reads_its_own_arguments_of_forward() -> None:
    assert inspect.signature(LlavaLlamaForCausalLM.forward) == inspect.signature(LlavaForConditionalGeneration.forward)


@pytest.mark.parametrize("path", [ORIGINAL, "org/name"])
def test_from_pretrained_never_gives_random_weights_but_says_what_reads_checkpoints(path: Any) -> None:
    with pytest.raises(UserError, match="load_pretrained_model"):
        LlavaLlamaForCausalLM.from_pretrained(path, torch_dtype=torch.float16)


def test_a_saved_model_is_read_by_transformers_and_by_us(folder: Path, tmp_path: Path) -> None:
    _, model, _, _ = load_pretrained_model(str(folder), None, "llava", device="cpu")
    model.save_pretrained(tmp_path)
    assert type(model) is LlavaLlamaForCausalLM
    for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        shutil.copy(folder / name, tmp_path)
    again = load_pretrained_model(str(tmp_path), None, "llava", device="cpu")[1]
    theirs: Any = LlavaForConditionalGeneration.from_pretrained(tmp_path)
    for (name, weight), ours, other in zip(model.named_parameters(), again.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(weight, ours), name
        assert torch.equal(weight, other), name


def test_a_model_without_an_image_token_is_not_saved_as_one_that_nobody_could_read(tmp_path: Path) -> None:
    _, model, _, _ = load_pretrained_model(str(ORIGINAL), None, "llava", device="cpu")
    with pytest.raises(UserError, match="no image token"):
        model.save_pretrained(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_llava_s_ways_to_import_the_class_lead_to_it() -> None:
    from llava import LlavaLlamaForCausalLM as of_package
    from llava.model import LlavaLlamaForCausalLM as of_models

    assert of_package is of_models is LlavaLlamaForCausalLM
    star: dict[str, Any] = {}
    exec("from llava.model import *", star)  # noqa: S102 - as LLaVA's scripts have it
    assert star["LlavaLlamaForCausalLM"] is LlavaLlamaForCausalLM


@pytest.mark.parametrize("name", ["LlavaConfig", "LlavaMptForCausalLM", "LlavaMptConfig", "LlavaMistralForCausalLM", "LlavaMistralConfig"])
def test_classes_that_are_not_here_say_what_to_use(name: str) -> None:
    with pytest.raises(ImportError, match=rf"There is no {name} here: .*(load_pretrained_model|model\.config|v1\.5)"):
        exec(f"from llava.model import {name}")  # noqa: S102
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = llava.model.nothing


def test_the_package_of_models_is_light_until_the_class_is_used() -> None:
    code = "import sys, llava.model, llava.model.templates; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
