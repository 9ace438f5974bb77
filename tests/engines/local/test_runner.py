"""One call at a time against transformers' own `generate`: answers, their ends, their numbers, their failures."""

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from llava.chat import Chat, Message, Reply
from llava.engines.local.foreign import ForeignRunner
from llava.engines.local.memory import GIB
from llava.engines.local.runner import fits
from llava.errors import EngineError, UserError
from llava.model.builder import load
from llava.model.loaded import Loaded
from llava.paths import MINI
from tests.engines.local.driving import (
    CHATS,
    FAMILIES,
    RED,
    ask,
    batcher,
    before_pass,
    call,
    generated,
    logprobs,
    of_family,
    over_slots,
    shown,
)
from tests.factories import image

CHAT = CHATS[1]


def reply(loaded: Loaded, chat: Chat = CHAT, max_tokens: int = 20, top_logprobs: int = 0, **sampling: Any) -> Reply:
    return ask(loaded, call(chat, max_tokens, top_logprobs, **sampling))[0]


@pytest.mark.parametrize("kind", ["llava", "idefics"])
@pytest.mark.parametrize("chat", CHATS[:4], ids=["text", "image", "two images", "turns"])
def test_greedy_tokens_equal_those_of_generate(kind: str, chat: Chat, request: pytest.FixtureRequest) -> None:
    loaded: Loaded = request.getfixturevalue(kind)
    wanted = generated(loaded, chat, 60)
    found = reply(loaded, chat, 60)
    assert found.text == shown(loaded, wanted)
    assert (found.completion_tokens, found.prompt_tokens) == (len(wanted), loaded.encode(chat)["input_ids"].shape[1])


def test_a_text_only_model_answers_and_refuses_images(llama: Loaded) -> None:
    chat = Chat((Message("system", "be kind"), Message("user", "the cat"), Message("assistant", "no"), Message("user", "why <|im_end|>")))
    assert reply(llama, chat, 40).text == shown(llama, generated(llama, chat, 40))
    with pytest.raises(UserError, match="text-only model: ask without an image"):
        reply(llama, Chat.ask("what?", [RED]))


def test_a_model_of_another_attention_runs_the_plain_way_and_gives_the_same_answer(tiny_llava: Path, llava: Loaded) -> None:
    eager = load(str(tiny_llava), device="cpu", attn_implementation="eager")
    assert isinstance(batcher(eager).runner, ForeignRunner)
    assert [one.text for one in ask(eager, *map(call, CHATS), chunk=30)] == [one.text for one in ask(llava, *map(call, CHATS))]


def test_which_models_run_over_slots(llava: Loaded, llama: Loaded, idefics: Loaded) -> None:
    assert fits(llava)
    assert fits(llama)
    assert not fits(idefics)
    for family in FAMILIES:
        assert fits(of_family(llava, family))


@pytest.mark.parametrize(
    "unlike",
    [
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
        {"sliding_window": 100},
        {"model_type": "gemma"},
        {"_attn_implementation": "flash_attention_2"},
    ],
)
def test_language_models_that_need_other_masks_or_positions_run_the_plain_way(llava: Loaded, unlike: dict[str, Any]) -> None:
    other = of_family(llava, "mistral")
    for key, value in unlike.items():
        setattr(other.model.config.text_config, key, value)
    assert not fits(other)
    assert isinstance(batcher(other).runner, ForeignRunner)


def test_a_llava_of_another_chat_template_is_shown_its_pictures(tmp_path: Path) -> None:
    folder = shutil.copytree(MINI, tmp_path / "other")
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}"
        "{{ '<image>\n' if c.type == 'image' else c.text }}{% endfor %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
    )
    loaded = load(str(folder), device="cpu")
    assert isinstance(batcher(loaded).runner, ForeignRunner)
    chats = [Chat.ask("What color is it?", [image(colour, (96, 96))]) for colour in ("red", "blue")]
    found = [one.text for one in ask(loaded, *(call(chat, 8) for chat in chats))]
    assert found == [shown(loaded, generated(loaded, chat, 8)) for chat in chats]


def test_an_end_token_stops_and_is_not_shown(llava: Loaded) -> None:
    tokens = generated(llava, CHAT, 12)
    config = llava.model.generation_config
    before, config.eos_token_id = config.eos_token_id, [tokens[7], 2]
    try:
        found = reply(replace(llava), max_tokens=50)
    finally:
        config.eos_token_id = before
    end = tokens.index(tokens[7])
    assert (found.text, found.finish_reason, found.completion_tokens) == (shown(llava, tokens[:end]), "stop", end + 1)


def test_a_stop_string_ends_the_text_before_it(llava: Loaded) -> None:
    whole = reply(llava, max_tokens=60)
    assert whole.finish_reason == "length"
    stop = whole.text[20:24]
    found = reply(llava, max_tokens=60, stop=(stop, "never said"))
    assert found.text == whole.text[: whole.text.index(stop)]
    assert found.finish_reason == "stop"
    assert found.completion_tokens is not None
    assert found.completion_tokens < 60


@pytest.mark.parametrize("kind", ["llava", "idefics"])
def test_a_reply_that_begins_with_nothing_that_is_sought_ends_there(kind: str, request: pytest.FixtureRequest) -> None:
    loaded: Loaded = request.getfixturevalue(kind)
    one = call(CHAT, 30, top_logprobs=5)
    whole = ask(loaded, one)[0]
    short, same = ask(loaded, replace(one, sought=("yes",)), replace(one, sought=("yes", whole.text[:4].upper())))
    assert whole.completion_tokens == same.completion_tokens == 30
    assert (short.finish_reason, same.text) == ("stop", whole.text)
    assert short.text
    assert whole.text.startswith(short.text)
    assert len(short.text) < len(whole.text)
    assert short.first_logprobs == pytest.approx(whole.first_logprobs, abs=1e-4)


@pytest.mark.parametrize("kind", ["llava", "idefics"])
def test_first_token_logprobs_equal_the_models_and_cost_one_step(kind: str, request: pytest.FixtureRequest) -> None:
    loaded: Loaded = request.getfixturevalue(kind)
    inside = reply(loaded, max_tokens=1, top_logprobs=20)
    assert inside.completion_tokens == 1
    assert inside.first_logprobs is not None
    found = {text: math.exp(value) for text, value in inside.first_logprobs.items()}
    assert found == pytest.approx(logprobs(loaded, CHAT), abs=1e-4)
    assert reply(loaded, max_tokens=1).first_logprobs is None


def test_a_seed_fixes_the_answer_whatever_runs_beside_it(llava: Loaded) -> None:
    one, two, other = (call(CHAT, 30, temperature=1.0, top_p=0.9, seed=seed) for seed in (1, 1, 2))
    texts = [found.text for found in ask(llava, one, call(CHATS[6]), two, call(CHATS[3]), other)]
    assert texts[0] == texts[2] == ask(llava, one)[0].text != texts[4]


@pytest.mark.parametrize("kind", ["llava", "idefics"])
def test_an_answer_is_cut_to_what_fits_into_the_context(kind: str, request: pytest.FixtureRequest) -> None:
    loaded: Loaded = request.getfixturevalue(kind)
    prompt = loaded.encode(CHAT)["input_ids"].shape[1]
    found = reply(replace(loaded, context_len=prompt + 3), max_tokens=50)
    assert (found.completion_tokens, found.finish_reason) == (3, "length")


def test_a_budget_that_cannot_hold_the_call_names_one_that_can(llava: Loaded) -> None:
    runner = over_slots(batcher(llava))
    one = call(CHAT, 100)
    least = runner.slots.needed(1, runner.prepare(one).tokens + 99)
    with pytest.raises(UserError, match=r"kv_cache_gb is .*: give at least ([0-9.e-]+), or lower max_tokens") as refused:
        ask(llava, one, budget=least - 1)
    named = float(str(refused.value).split("at least ")[1].split(",")[0])
    assert least <= named * GIB < 1.001 * least
    assert ask(llava, one, one, budget=int(named * GIB))[1].completion_tokens == 100


def _raise(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("kind", ["llava", "idefics"])
@pytest.mark.parametrize("fail", [lambda: torch.empty(2**60), lambda: _raise(torch.OutOfMemoryError("x"))], ids=["on a CPU", "on a card"])
def test_out_of_memory_fails_the_call_and_keeps_no_tensor(kind: str, fail: Callable[[], object], request: pytest.FixtureRequest) -> None:
    loaded: Loaded = request.getfixturevalue(kind)

    def full(*_: object) -> None:
        fail()

    hook = before_pass(loaded, full)
    try:
        with pytest.raises(EngineError, match="Out of memory on cpu: ask for less") as caught:
            reply(loaded)
    finally:
        hook.remove()
    assert caught.value.__context__ is caught.value.__cause__ is None
    assert reply(loaded, max_tokens=2).completion_tokens == 2


def test_half_precision_answers_too(tiny_llava: Path) -> None:
    loaded = load(str(tiny_llava), device="cpu", dtype="bfloat16")
    assert {found.completion_tokens for found in ask(loaded, *(call(chat, 5, 5) for chat in CHATS), chunk=30)} == {5}
