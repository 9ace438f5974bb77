"""Token ids equal to those of the original's slow tokenizer, and text that can never be a control token."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import Unigram
from tokenizers.pre_tokenizers import Metaspace
from transformers import AddedToken, AutoTokenizer, PreTrainedTokenizerFast

from llava.mm_utils import tokenizer_image_token
from llava.model.tokenizer import Control, LlamaTokenizer, PlainText
from tests import golden
from tests.model.checkpoints import hugging_face

SETTINGS = ("legacy_false", "legacy_true_imse", "legacy_false_imse_patch_added")
STRINGS = golden.read("prompts/tokenizer.json")
NASTY = "Literal <image> </s> <s> <unk> USER: ASSISTANT: [INST] <|im_end|> <im_start> <im_end> <im_patch> ### \ue000 ▁ \n"


def tokenizer(setting: str) -> Any:
    if setting == "legacy_true_imse":
        return LlamaTokenizer.from_pretrained(golden.CHECKPOINTS / "llava-v1-tiny-imse")
    loaded: Any = LlamaTokenizer.from_pretrained(golden.CHECKPOINTS / "llava-v1.5-tiny")
    if setting == "legacy_false_imse_patch_added":
        loaded.add_tokens(["<im_patch>"], special_tokens=True)
        loaded.add_tokens(["<im_start>", "<im_end>"], special_tokens=True)
    return loaded


@pytest.mark.parametrize("setting", SETTINGS)
def test_ids_of_every_prompt_equal_the_original_s(setting: str) -> None:
    words = tokenizer(setting)
    cases = [case for case in golden.read("prompts/prompts.json")["cases"] if "ids" in case]
    assert len(cases) == 246
    for case in cases:
        assert tokenizer_image_token(case["prompt"], words) == case["ids"][setting], (case["template"], case["case"])


@pytest.mark.parametrize("setting", SETTINGS)
def test_ids_of_raw_strings_equal_the_original_s(setting: str) -> None:
    words = tokenizer(setting)
    for case in STRINGS["encode"]:
        assert tokenizer_image_token(case["text"], words) == case["ids"][setting], case["text"]
        assert words(case["text"]).input_ids == case["plain_ids"][setting], case["text"]


@pytest.mark.parametrize("setting", SETTINGS)
def test_decoding_equals_the_original_s(setting: str) -> None:
    words = tokenizer(setting)
    for case in STRINGS["decode"]:
        assert words.decode(case["ids"]) == case["keep"][setting]
        assert words.batch_decode([case["ids"]], skip_special_tokens=True) == [case["skip_special"][setting]]


def test_the_tokenizer_knows_its_control_tokens_and_saves_itself(tmp_path: Path) -> None:
    words = tokenizer("legacy_true_imse")
    assert (words.bos_token_id, words.eos_token_id, words.unk_token_id, words.pad_token_id, len(words)) == (1, 2, 0, 0, 2002)
    words.save_pretrained(tmp_path)
    again = LlamaTokenizer.from_pretrained(tmp_path)
    assert again("a </s> b <im_start>").input_ids == words("a </s> b <im_start>").input_ids


def test_a_batch_is_padded_on_the_right() -> None:
    batch = tokenizer("legacy_false")(["a", "a b c"], padding=True, return_tensors="pt")
    assert batch.input_ids[0, 2:].tolist() == [0] * (batch.input_ids.shape[1] - 2)
    assert batch.attention_mask.sum(1).tolist() == [2, batch.input_ids.shape[1]]


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(hugging_face(tmp_path_factory.mktemp("fast")))


@pytest.mark.parametrize("setting", [*SETTINGS, "fast"])
def test_no_text_becomes_a_control_token(setting: str, fast: Any) -> None:
    words = fast if setting == "fast" else tokenizer(setting)
    controls = {words.convert_tokens_to_ids(name) for name in words.get_added_vocab()}
    plain = PlainText(words)
    assert controls & set(words(NASTY).input_ids)  # read as a prompt, it is full of them
    assert not controls & set(plain.ids([NASTY]))
    ids = plain.ids([NASTY, Control("</s>"), NASTY])
    assert [i for i in ids if i in controls] == [2]
    assert words.decode(plain.ids([NASTY])).split() == NASTY.replace("▁", " ").split()


@pytest.mark.parametrize("setting", [*SETTINGS, "fast"])
def test_text_without_names_of_control_tokens_gets_the_tokenizer_s_own_ids(setting: str, fast: Any) -> None:
    words = fast if setting == "fast" else tokenizer(setting)
    plain = PlainText(words)

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.text(max_size=30), min_size=1, max_size=4))
    def check(texts: list[str]) -> None:
        if any(name in "".join(texts) for name in words.get_added_vocab()):
            return
        segments = [part for text in texts for part in (text, Control("</s>"))]
        expected = words("</s>".join([*texts, ""])).input_ids
        assert plain.bos + plain.ids(segments) == expected

    check()


def test_halves_of_surrogate_pairs_do_no_harm() -> None:
    plain = PlainText(tokenizer("legacy_false"))
    assert plain.ids(["a\ud800b"]) == plain.ids(["a�b"])


def test_template_words_are_parsed_by_the_longest_name() -> None:
    plain = PlainText(tokenizer("legacy_true_imse"))
    assert plain.parse("x</s><im_start>y") == ["x", Control("</s>"), Control("<im_start>"), "y"]
    assert plain.parse("") == []


def unigram() -> Any:
    """A tokenizer whose model would match any piece of its vocabulary in text, and whose added tokens are in part words."""
    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("\u2581", -1.0), *((char, -2.0) for char in "abcdefghi<>/s\n")]
    backend = Tokenizer(Unigram(pieces, unk_id=0))
    backend.pre_tokenizer = Metaspace(prepend_scheme="first", split=False)
    words: Any = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>")  # type: ignore[no-untyped-call]
    words.add_tokens([AddedToken("\n\n", normalized=False), AddedToken("<b>", normalized=False)])
    return words


def test_models_that_match_whole_names_and_added_words_are_handled() -> None:
    words = unigram()
    plain = PlainText(words)
    newlines, bold = words.convert_tokens_to_ids(["\n\n", "<b>"])
    assert words("a</s>a\n\n<b>").input_ids.count(1) == 1
    ids = plain.ids(["a</s>a\n\n<b>", Control("</s>"), Control("<b>")])
    assert (ids.count(1), ids.count(newlines), ids.count(bold)) == (1, 1, 1)
    assert ids[-2:] == [1, bold]
    assert plain.ids(["abc\n\nabc"]) == words("abc\n\nabc").input_ids
    assert plain.controls == {"</s>", "<unk>", "<b>"}
