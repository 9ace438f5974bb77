"""Every token's log-probability is what transformers computes for the same text, and the tokens' bytes spell what was said."""

import math
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from llava.chat import Chat, Reply, Sampling
from llava.engines.local.logprobs import Spell, speller
from llava.model.loaded import Loaded
from tests.engines.local.driving import CHATS, ask, call, generated, of_family

MOST = 12


def recomputed(loaded: Loaded, chat: Chat, tokens: list[int]) -> torch.Tensor:
    """Log-probabilities (tokens, vocabulary) by one forward pass over prompt and answer together."""
    inputs = loaded.encode(chat)
    prompt = inputs["input_ids"].shape[1]
    inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([tokens])], dim=1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    with torch.inference_mode():
        logits = loaded.model(**inputs).logits[0, prompt - 1 : -1]
    return torch.log_softmax(logits.float(), dim=-1)


@pytest.fixture(scope="module")
def qwen(llava: Loaded) -> Loaded:
    return of_family(llava, "qwen2")


def test_they_are_transformers_own_for_greedy_answers_that_run_together(qwen: Loaded) -> None:
    replies = ask(qwen, *(call(chat, MOST, logprobs=5) for chat in CHATS))
    spell = speller(qwen.tokenizer)
    for chat, reply in zip(CHATS, replies, strict=True):
        ids = generated(qwen, chat, MOST)
        assert reply.tokens is not None
        assert [token.raw for token in reply.tokens] == [spell(token) for token in ids]
        expected = recomputed(qwen, chat, ids)
        for token, row, number in zip(reply.tokens, expected, ids, strict=True):
            assert token.logprob == pytest.approx(float(row[number]), abs=1e-4)
            best = row.topk(5)
            assert [other.logprob for other in token.top] == pytest.approx(best.values.tolist(), abs=1e-4)
            assert token.top[0].raw == token.raw


def test_sampled_tokens_have_the_models_own_probabilities_and_not_those_of_the_draw(qwen: Loaded) -> None:
    (reply,) = ask(qwen, call(CHATS[0], MOST, temperature=1.7, top_p=0.8, seed=3, logprobs=20))
    (greedy,) = ask(qwen, call(CHATS[0], 1, logprobs=20))
    assert reply.tokens is not None
    assert greedy.tokens is not None
    assert [t.logprob for t in reply.tokens[0].top] == pytest.approx([t.logprob for t in greedy.tokens[0].top], abs=1e-4)
    assert all(math.isfinite(token.logprob) and len(token.top) == 20 for token in reply.tokens)


def test_how_tokens_are_spelled_is_found_out_once_for_all_calls(qwen: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def counted(tokenizer: object) -> Spell:
        asked.append(tokenizer)
        return speller(tokenizer)

    monkeypatch.setattr("llava.engines.local.batcher.speller", counted)
    ask(qwen, call(CHATS[0], 2))
    assert asked == []
    replies = ask(qwen, *(call(chat, 2, logprobs=1) for chat in CHATS))
    assert all(reply.tokens for reply in replies)
    assert asked == [qwen.tokenizer]


def test_none_are_kept_that_nobody_asked_for(qwen: Loaded) -> None:
    plain, bare = ask(qwen, call(CHATS[0], 3), call(CHATS[0], 3, logprobs=0))
    assert plain.tokens is None
    assert bare.tokens is not None
    assert [token.top for token in bare.tokens] == [()] * len(bare.tokens)
    assert plain.text == bare.text


def spelled(reply: Reply) -> str:
    return b"".join(token.raw or b"" for token in reply.tokens or ()).decode("utf-8", "replace")


def test_the_tokens_spell_the_text_and_what_comes_after_a_stop_string(llava: Loaded) -> None:
    (free,) = ask(llava, call(CHATS[0], MOST, logprobs=0))
    said = spelled(free).removesuffix("</s>")
    assert said.strip() == free.text.strip()
    stop = free.text.strip()[2:4]
    (cut,) = ask(llava, call(CHATS[0], MOST, logprobs=0, stop=(stop,)))
    assert spelled(cut).lstrip().startswith(cut.text)
    assert stop not in cut.text


def trained() -> Any:
    """A small byte-level BPE, as Qwen and Llama 3 have."""
    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(["a cat on a mat"] * 9, trainers.BpeTrainer(initial_alphabet=alphabet, special_tokens=["<|end|>"]))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("text", ["a cat on a mat", "  two\n\tlines ", "漢字 🎈é", "\x00\x7f\u00a0\u00ad"])
def test_each_id_stands_for_its_bytes_in_either_kind_of_tokenizer(llava: Loaded, text: str) -> None:
    byte_level = trained()
    spell = speller(byte_level)
    assert b"".join(map(spell, byte_level.encode(text, add_special_tokens=False))) == text.encode()
    assert spell(byte_level.convert_tokens_to_ids("<|end|>")) == b"<|end|>"
    assert spell(10**6) == b""
    pieces = llava.tokenizer.encode(text, add_special_tokens=False)
    whole = b"".join(map(speller(llava.tokenizer), pieces))
    assert whole.decode("utf-8", "replace").lstrip() == llava.decode(pieces).lstrip()


@pytest.mark.parametrize("wanted", [-1, 21, True, "3"])
def test_a_number_of_alternatives_out_of_range_is_refused(wanted: Any) -> None:
    with pytest.raises(Exception, match="logprobs is"):
        Sampling(logprobs=wanted)
