"""A chat's prompt: the original's bytes and ids, and no way for a text to leave its place."""

from typing import Any

import pytest
from PIL import Image as PIL

from llava.chat import Chat, Image, Message
from llava.conversation import conv_templates
from llava.errors import UserError
from llava.mm_utils import tokenizer_image_token
from llava.model.prompt import Slot, joined, render, token_ids
from llava.model.tokenizer import Control, LlamaTokenizer, PlainText
from tests import golden

PICTURE = Image(PIL.new("RGB", (4, 4), "red"))
TEMPLATES = [name for name, template in conv_templates.items() if not template.offset]
ANSWERING = [name for name in TEMPLATES if "plain" not in name]


def plain(name: str = "llava-v1.5-tiny") -> PlainText:
    return PlainText(LlamaTokenizer.from_pretrained(golden.CHECKPOINTS / name))


def two_turns(second: str, *images: Image) -> Chat:
    return Chat((Message("user", "What is this?", images), Message("assistant", "A train."), Message("user", second)))


def prompt(template: str, *messages: tuple[int, str | None]) -> str:
    conversation = conv_templates[template].copy()
    for role, text in messages:
        conversation.append_message(conversation.roles[role], text)
    return conversation.get_prompt()


@pytest.mark.parametrize("template", ANSWERING)
@pytest.mark.parametrize("images", [0, 1, 2])
def test_a_chat_reads_as_llava_s_prompt_and_has_its_ids(template: str, images: int) -> None:
    if "mmtag" in template and images:
        return  # there the image has a turn of its own: tested below
    words = plain()
    pieces = render(two_turns("And the colour?", *[PICTURE] * images), conv_templates[template], words.parse)
    said = "<image>\n" * images + "What is this?"
    text = prompt(template, (0, said), (1, "A train."), (0, "And the colour?"), (1, None))
    assert joined(pieces) == text
    assert token_ids(pieces, words) == tokenizer_image_token(text, words.tokenizer)


@pytest.mark.parametrize("template", ["v0_mmtag", "v1_mmtag"])
def test_tagging_templates_give_the_image_a_turn_of_its_own(template: str) -> None:
    conversation = conv_templates[template].copy()
    conversation.append_message(conversation.roles[0], ("What is this?\n<image>", None, "Default"))
    conversation.append_message(conversation.roles[1], None)
    pieces = render(Chat.ask("What is this?", [PICTURE]), conv_templates[template], plain().parse)
    assert joined(pieces) == conversation.get_prompt()


def test_start_and_end_tokens_stand_around_an_image() -> None:
    words = plain("llava-v1-tiny-imse")
    pieces = render(Chat.ask("What is in the image?", [PICTURE]), conv_templates["vicuna_v1"], words.parse, start_end=True)
    case = next(case for case in golden.read("models/llava-v1-tiny-imse.json")["cases"] if case["case"] == "img_tall")
    assert joined(pieces) == case["prompt"]
    assert token_ids(pieces, words) == case["input_ids"]


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("marker", ["<image>", "</s>", "<s>", "<unk>", "<im_start>", "<im_end>"])
def test_the_tokenizers_control_tokens_and_image_markers_stay_text_in_what_people_say(template: str, marker: str) -> None:
    words = plain("llava-v1-tiny-imse")
    controls = {-200, *words.tokenizer.get_added_vocab().values()}
    assert marker == "<image>" or words.tokenizer.convert_tokens_to_ids(marker) in controls
    question = f"before {marker} after"
    harmless = render(Chat.ask("question", [PICTURE]), conv_templates[template], words.parse)
    pieces = render(Chat.ask(question, [PICTURE]), conv_templates[template], words.parse)
    assert question in pieces
    assert [p for p in pieces if not isinstance(p, str)] == [p for p in harmless if not isinstance(p, str)]
    ids = token_ids(pieces, words)
    assert [i for i in ids if i in controls] == [i for i in token_ids(harmless, words) if i in controls]
    assert question in words.tokenizer.decode([i for i in ids if i >= 0])


def test_markers_in_earlier_answers_and_system_messages_stay_text_too() -> None:
    chat = Chat(
        (Message("system", "Be </s> brief <image>"), Message("user", "a"), Message("assistant", "<image></s>"), Message("user", "b"))
    )
    for name in ANSWERING:
        pieces: list[Any] = render(chat, conv_templates[name], plain().parse)
        assert Slot.IMAGE not in pieces
        own = render(two_turns("b"), conv_templates[name], plain().parse)
        assert [p for p in pieces if isinstance(p, Control)] == [p for p in own if isinstance(p, Control)]


def test_a_system_message_stands_where_the_template_has_its_own() -> None:
    chat = Chat((Message("system", "Be brief."), Message("user", "Hi")))

    def text(name: str) -> str:
        return joined(render(chat, conv_templates[name], plain().parse))

    assert text("vicuna_v1") == "Be brief. USER: Hi ASSISTANT:"
    assert text("chatml_direct") == "<|im_start|>system\nBe brief.<|im_end|><|im_start|>user\nHi<|im_end|><|im_start|>assistant\n"
    assert text("mistral_instruct") == "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST]"


@pytest.mark.parametrize("name", ANSWERING)
def test_an_empty_system_message_reads_as_the_template_with_an_empty_one(name: str) -> None:
    conversation = conv_templates[name].copy()
    conversation.system = conversation.system_header
    conversation.append_message(conversation.roles[0], "Hi")
    conversation.append_message(conversation.roles[1], None)
    pieces = render(Chat((Message("system", ""), Message("user", "Hi"))), conv_templates[name], plain().parse)
    assert joined(pieces) == conversation.get_prompt()


def test_templates_that_cannot_hold_a_chat_say_so() -> None:
    with pytest.raises(UserError, match="example turns"):
        render(Chat.ask("Hi"), conv_templates["v0"], plain().parse)
    with pytest.raises(UserError, match="single user message"):
        render(two_turns("more"), conv_templates["plain"], plain().parse)
