"""The decode loop against transformers' own `generate`, in float32 on small random models."""

import gc
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from llava.chat import Call, Chat, Delta, Message, Reply, Sampling
from llava.engines.local.runner import Decoding, Runner
from llava.engines.local.text import TextStream
from llava.errors import ContextTooLong, EngineError, UserError
from llava.model.builder import load
from llava.model.loaded import Loaded
from tests.factories import image

RED, BLUE = image("red"), image("blue", (20, 60))
TURNS = Chat((Message("user", "the cat", (RED,)), Message("assistant", "yes </s>"), Message("user", "where is it", (BLUE,))))
CHATS = [Chat.ask("what is in the box?"), Chat.ask("the dog <image> </s> USER:", [RED]), Chat.ask("a b", [RED, BLUE]), TURNS]


def generated(loaded: Loaded, chat: Chat, count: int) -> list[int]:
    """Greedy tokens of transformers' `generate`, without the prompt."""
    inputs = loaded.encode(chat)
    tokens = loaded.model.generate(**inputs, max_new_tokens=count, do_sample=False)[0]
    found: list[int] = tokens[inputs["input_ids"].shape[1] :].tolist()
    return found


def shown(loaded: Loaded, tokens: list[int]) -> str:
    """The text of these tokens as it is streamed (control tokens at the end left out)."""
    text = TextStream(loaded.decode)
    return "".join([*(text.add(token) for token in tokens if token not in loaded.eos_ids), text.finish()])


def reply(loaded: Loaded, chat: Chat, wish: int = 0, **sampling: Any) -> Reply:
    last = list(Runner(loaded).answer(Call("answer", chat, Sampling(**sampling), wish)))[-1].reply
    assert last is not None
    return last


@pytest.mark.parametrize("kind", ["llava", "idefics"])
@pytest.mark.parametrize("chat", CHATS, ids=["text", "image", "two images", "turns"])
def test_greedy_tokens_equal_those_of_generate(kind: str, chat: Chat, request: pytest.FixtureRequest) -> None:
    loaded: Loaded = request.getfixturevalue(kind)
    wanted = generated(loaded, chat, 60)
    decoding, tokens = Decoding(loaded.model, loaded.encode(chat)), list[int]()
    logits = decoding.prefill()
    while len(tokens) < len(wanted):
        tokens.append(int(logits.argmax()))
        logits = decoding.step(tokens[-1])
    assert tokens == wanted
    found = reply(loaded, chat, max_tokens=60)
    assert found.text == shown(loaded, wanted)
    assert (found.completion_tokens, found.prompt_tokens) == (len(wanted), loaded.encode(chat)["input_ids"].shape[1])


def test_a_text_only_model_answers_and_refuses_images(llama: Loaded) -> None:
    chat = Chat((Message("system", "be kind"), Message("user", "the cat"), Message("assistant", "no"), Message("user", "why <|im_end|>")))
    assert reply(llama, chat, max_tokens=40).text == shown(llama, generated(llama, chat, 40))
    with pytest.raises(UserError, match="text-only model: ask without an image"):
        reply(llama, Chat.ask("what?", [RED]))


def test_the_pieces_join_to_the_text(llava: Loaded) -> None:
    *pieces, last = Runner(llava).answer(Call("answer", CHATS[1], Sampling(max_tokens=50)))
    assert last.reply is not None
    assert "".join(delta.text for delta in [*pieces, last]) == last.reply.text
    assert len(pieces) == last.reply.completion_tokens


def test_an_end_token_stops_and_is_not_shown(llava: Loaded) -> None:
    tokens = generated(llava, CHATS[1], 12)
    config = llava.model.generation_config
    before, config.eos_token_id = config.eos_token_id, [tokens[7], 2]
    try:
        found = reply(replace(llava), CHATS[1], max_tokens=50)
    finally:
        config.eos_token_id = before
    end = tokens.index(tokens[7])
    assert (found.text, found.finish_reason, found.completion_tokens) == (shown(llava, tokens[:end]), "stop", end + 1)


def test_a_stop_string_ends_the_text_before_it(llava: Loaded) -> None:
    whole = reply(llava, CHATS[1], max_tokens=60)
    assert whole.finish_reason == "length"
    stop = whole.text[20:24]
    found = reply(llava, CHATS[1], max_tokens=60, stop=(stop, "never said"))
    assert found.text == whole.text[: whole.text.index(stop)]
    assert found.finish_reason == "stop"
    assert found.completion_tokens is not None
    assert found.completion_tokens < 60


def test_first_token_logprobs_equal_the_models(llava: Loaded) -> None:
    with torch.inference_mode():
        logits = llava.model(**llava.encode(CHATS[1])).logits[0, -1]
    top = torch.log_softmax(logits.float(), -1).topk(20)
    wanted: dict[str, float] = {}
    for token, value in zip(top.indices.tolist(), top.values.exp().tolist(), strict=True):
        wanted[llava.decode([token])] = wanted.get(llava.decode([token]), 0.0) + value
    found = reply(llava, CHATS[1], wish=20, max_tokens=1).first_logprobs
    assert found is not None
    assert {text: torch.tensor(value).exp().item() for text, value in found.items()} == pytest.approx(wanted, abs=1e-4)
    assert reply(llava, CHATS[1], max_tokens=1).first_logprobs is None


def test_a_seed_fixes_the_answer(llava: Loaded) -> None:
    texts = [reply(llava, CHATS[1], temperature=1.0, top_p=0.9, seed=seed, max_tokens=30).text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_a_prompt_over_the_context_names_both_numbers_and_the_answer_is_cut_to_what_fits(llava: Loaded) -> None:
    prompt = reply(llava, CHATS[1], max_tokens=1).prompt_tokens
    assert prompt is not None
    with pytest.raises(
        ContextTooLong,
        match=rf"has {prompt} tokens, images included: 1 too many\. .* holds {prompt}, .* gets 1\. Shorten the question\.$",
    ):
        reply(replace(llava, context_len=prompt), CHATS[1])
    found = reply(replace(llava, context_len=prompt + 3), CHATS[1], max_tokens=50)
    assert (found.completion_tokens, found.finish_reason) == (3, "length")


@pytest.mark.parametrize(
    ("error", "message"), [(torch.OutOfMemoryError, "CUDA out of memory"), (RuntimeError, "DefaultCPUAllocator: not enough memory: x")]
)
def test_out_of_memory_fails_the_call_and_keeps_no_tensor(llava: Loaded, error: type[Exception], message: str) -> None:
    def full(*_: object) -> None:
        raise error(message)

    hook = llava.model.register_forward_pre_hook(full)
    try:
        with pytest.raises(EngineError, match="Out of memory on cpu: ask for less") as caught:
            reply(llava, CHATS[1])
    finally:
        hook.remove()
    assert caught.value.__context__ is None
    assert reply(llava, CHATS[1], max_tokens=2).completion_tokens == 2


def test_closing_the_iterator_frees_the_cache(llava: Loaded) -> None:
    gc.collect()
    deltas = Runner(llava).answer(Call("answer", CHATS[1]))
    assert isinstance(next(deltas), Delta)
    (state,) = [weakref.ref(one) for one in gc.get_objects() if type(one) is Decoding]
    del deltas
    assert state() is None


def test_half_precision_answers_too(tiny_llava: Path) -> None:
    loaded = load(str(tiny_llava), device="cpu", dtype="bfloat16")
    assert reply(loaded, CHATS[1], max_tokens=5, wish=5).completion_tokens == 5
