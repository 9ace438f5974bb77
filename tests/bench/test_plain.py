import asyncio
from contextlib import aclosing
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from llava.bench.plain import Plain, Said, forced, same
from llava.bench.setup import Setup
from llava.bench.watched import Watched
from llava.chat import Call, Chat, Delta, Reply, Sampling
from llava.ecso import Trace
from llava.ecso.driver import run
from llava.engines import ScriptedEngine
from tests.factories import image

ASK = Chat.ask("what is in the box?", [image()])
ANSWER, CHECK = Call("answer", ASK), Call("check", ASK)


def said(text: str, tokens: int = 2) -> Said:
    return Said(Reply(text, 9, tokens), 0.1, 0.2)


def test_the_plain_way_runs_two_calls_on_a_safe_path_and_four_on_a_harmful_one(setup: Setup) -> None:
    plain = Plain(setup.loaded)
    safe, harmful = (plain.flow(setup.method, ASK, verdict) for verdict in ("No", "Yes"))
    assert [call.step for call, _ in safe] == ["answer", "check"]
    assert [call.step for call, _ in harmful] == ["answer", "check", "caption", "regenerate"]
    assert [s.completion_tokens for _, s in harmful] == [6, 2, 6, 6]
    assert all(0 < s.first < s.seconds for _, s in harmful)


def test_a_call_that_comes_again_is_not_run_again(setup: Setup) -> None:
    plain = Plain(setup.loaded)
    safe, harmful = (plain.flow(setup.method, ASK, verdict) for verdict in ("No", "Yes"))
    assert safe == harmful[:2]
    assert safe[0][1] is harmful[0][1]


def test_the_plain_ways_tokens_are_those_of_generate(setup: Setup) -> None:
    loaded = setup.loaded
    inputs = loaded.encode(ASK)
    ids = loaded.model.generate(**inputs, do_sample=False, max_new_tokens=12)
    text = loaded.decode(ids[0, inputs["input_ids"].shape[1] :]).lstrip()
    assert Plain(loaded).answer(replace(ANSWER, sampling=Sampling(max_tokens=12))).reply.text == text


def test_decoding_a_batch_is_timed_from_its_first_token_to_its_last(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def step(_: object, __: object, named: dict[str, Any]) -> None:
        rows, positions = named["input_ids"].shape
        assert rows == 2
        clock[0] += 100 if positions > 1 else 1  # reading the prompts, or one more token

    monkeypatch.setattr("llava.bench.plain.time", SimpleNamespace(perf_counter=lambda: clock[0]))
    hook = setup.loaded.model.register_forward_pre_hook(step, with_kwargs=True)
    try:
        assert Plain(setup.loaded).decode_seconds([ASK, Chat.ask("what is in the box?", [image("blue")])], 5) == 4
    finally:
        hook.remove()


def test_the_plain_way_runs_in_inference_mode_like_the_scripts(setup: Setup) -> None:
    modes = set[bool]()
    hook = setup.loaded.model.register_forward_pre_hook(lambda *_: modes.add(torch.is_inference_mode_enabled()))
    try:
        Plain(setup.loaded).answer(replace(ANSWER, sampling=Sampling(max_tokens=2)))
    finally:
        hook.remove()
    assert modes == {True}


@pytest.mark.parametrize(("verdict", "step", "text"), [("Yes", "check", "Yes"), ("Yes", "answer", "hm"), (None, "check", "hm")])
def test_a_forced_verdict_replaces_the_text_of_checks_only(verdict: str | None, step: str, text: str) -> None:
    reply = forced(Call(step, ASK), Reply("hm", 9, 2, "length", {"a": -1.0}), verdict)
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == (text, 9, 2)
    assert (reply.finish_reason, reply.first_logprobs) == (("stop", None) if text == "Yes" else ("length", {"a": -1.0}))


def test_rows_are_the_same_when_text_and_count_are() -> None:
    assert same(ANSWER, said("a b"), said("a b"))
    assert not same(ANSWER, said("a b"), said("a"))
    assert not same(ANSWER, said("a b"), said("a b", 3))
    assert not same(ANSWER, None, said("a b"))


def test_a_check_may_end_early_but_not_say_something_else() -> None:
    assert same(CHECK, said("a b", 2), said("a", 1))
    assert not same(CHECK, said("a b", 2), said("c", 1))
    assert not same(CHECK, said("a b", 2), said("a", 2))


def test_a_watched_engine_notes_what_was_said_and_says_the_forced_verdict(setup: Setup) -> None:
    watched = Watched(ScriptedEngine(["A box.", "hm, maybe", "a box", "Sorry."]), "Yes")

    async def traced() -> Trace:
        return await run(setup.method, ASK, watched)

    trace = asyncio.run(traced())
    assert (trace.harmful, trace.answer) == (True, "Sorry.")
    assert [watched.said[step.call].reply.text for step in trace.steps] == ["A box.", "hm, maybe", "a box", "Sorry."]
    assert all(s.first <= s.seconds for s in watched.said.values())


def test_a_forced_verdict_comes_in_one_piece_and_other_text_as_it_is() -> None:
    async def pieces(call: Call) -> list[Delta]:
        async with aclosing(Watched(ScriptedEngine(["one two three"]), "No").stream(call)) as deltas:
            return [delta async for delta in deltas]

    checked, answered = asyncio.run(pieces(CHECK)), asyncio.run(pieces(ANSWER))
    assert [delta.text for delta in checked] == ["No"]
    assert checked[0].reply is not None
    assert checked[0].reply.text == "No"
    assert "".join(delta.text for delta in answered) == "one two three"
    assert len(answered) > 1
