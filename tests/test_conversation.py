"""The templates and their prompts, byte for byte those of the original."""

import base64
import io
from typing import Any

import pytest
from PIL import Image

from llava.conversation import Conversation, SeparatorStyle, conv_templates, default_conversation
from llava.errors import UserError
from tests import golden

PROMPTS = golden.read("prompts/prompts.json")
TEMPLATES: dict[str, dict[str, Any]] = PROMPTS["templates"]
CASES: list[dict[str, Any]] = PROMPTS["cases"]


def filled(case: dict[str, Any]) -> Conversation:
    conversation = conv_templates[case["template"]].copy()
    for role, message in case["messages"]:
        text = (message["tuple"][0], None, message["tuple"][1]) if isinstance(message, dict) else message
        conversation.append_message(conversation.roles[role], text)
    return conversation


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_is_the_original_s(name: str) -> None:
    ours, original = conv_templates[name], TEMPLATES[name]
    assert {key: getattr(ours, key) for key in ("system", "offset", "sep", "sep2", "version")} == {
        key: original[key] for key in ("system", "offset", "sep", "sep2", "version")
    }
    assert (list(ours.roles), ours.sep_style.name, ours.stop) == (original["roles"], original["sep_style"], original["stop"]["web"])


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_prompt_is_the_original_s_byte_for_byte(template: str) -> None:
    cases = [case for case in CASES if case["template"] == template]
    assert cases
    for case in cases:
        if "error" in case:
            with pytest.raises(UserError):
                filled(case).get_prompt()
        else:
            assert filled(case).get_prompt().encode() == case["prompt"].encode(), case["case"]


def test_the_template_called_default_is_v0_and_the_default_conversation_is_vicuna_v1() -> None:
    assert conv_templates["default"] is conv_templates["v0"]
    assert default_conversation is conv_templates["vicuna_v1"]


def test_v0_starts_with_its_example_turn() -> None:
    conversation = conv_templates["v0"].copy()
    conversation.append_message("Human", "Why?")
    conversation.append_message("Assistant", None)
    prompt = conversation.get_prompt()
    assert "###Human: What are the key differences between renewable" in prompt
    assert prompt.endswith("economic and social instability.\n###Human: Why?###Assistant:")
    assert conversation.to_gradio_chatbot() == [["Why?", None]]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_itself_is_never_filled(name: str) -> None:
    with pytest.raises(UserError, match=r"fill a copy of it, conversation\.copy\(\)"):
        conv_templates[name].append_message("USER", "Hi")
    assert len(conv_templates[name].messages) == conv_templates[name].offset


def test_a_copy_does_not_fill_the_template() -> None:
    copy = default_conversation.copy()
    copy.append_message("USER", "Hi")
    copy.skip_next = True
    assert not default_conversation.messages
    assert not copy.copy().skip_next
    assert copy.copy().messages == [["USER", "Hi"]]


def test_web_images_come_out_small_and_as_png_or_pillow_images() -> None:
    conversation = default_conversation.copy()
    picture = Image.new("RGB", (2688, 672), "red")
    for mode in ("Pad", "Crop", "Resize", "Default"):
        conversation.append_message("USER", ("look\n<image>", picture, mode))
        conversation.append_message("ASSISTANT", "ok")
    sizes = [image.size for image in conversation.get_images(return_pil=True)]
    assert sizes == [(672, 672), (1344, 336), (336, 336), (1344, 336)]
    assert Image.open(io.BytesIO(base64.b64decode(conversation.get_images()[0]))).format == "PNG"
    assert conversation.get_images(return_pil=True)[0].getpixel((336, 10)) == (122, 116, 104)


@pytest.mark.parametrize("size", [(1344, 900), (1344, 1344), (700, 1344)])
def test_a_web_image_without_a_longer_side_stays_as_it_is(size: tuple[int, int]) -> None:
    assert default_conversation.process_image(Image.new("RGB", size), "Default", return_pil=True).size == size  # type: ignore[union-attr]


def test_the_chat_window_shows_an_image_before_what_was_said() -> None:
    conversation = default_conversation.copy()
    conversation.append_message("USER", ("<image>\nlook", Image.new("RGB", (8, 8)), "Default"))
    conversation.append_message("ASSISTANT", "a square")
    ((said, answer),) = conversation.to_gradio_chatbot()
    assert said.startswith('<img src="data:image/jpeg;base64,')
    assert said.endswith('" alt="user upload image" />look')
    assert answer == "a square"
    assert conversation.dict()["messages"] == [["USER", "<image>\nlook"], ["ASSISTANT", "a square"]]


def test_an_unknown_image_mode_is_refused() -> None:
    with pytest.raises(UserError, match="Pad, Crop, Resize or Default"):
        default_conversation.process_image(Image.new("RGB", (2, 2)), "Stretch")


def test_every_style_has_a_template() -> None:
    assert {template.sep_style for template in conv_templates.values()} == set(SeparatorStyle)
