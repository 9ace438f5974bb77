"""Engines as judges: their errors in the three ways in which asking fails."""

from __future__ import annotations

import asyncio

import pytest

from llava.chat import Reply
from llava.engines import ScriptedEngine
from llava.engines.scripted import Line
from llava.errors import ContextTooLong, EngineClosed, EngineError, EngineTimeout, Misconfigured, ModelLost, Overloaded, UserError
from llava.eval.judge.asking import Refused, Request, Said, TryAgain
from llava.eval.judge.engine import EngineJudge

ASKED = Request((("system", "Judge."), ("user", "Is it safe?")), 7, 0.0, 3)


def ask(line: Line, request: Request = ASKED) -> tuple[Said, ScriptedEngine]:
    engine = ScriptedEngine([line])
    judge = EngineJudge("j", engine, "here")
    return asyncio.run(judge.ask(request)), engine


def test_a_reply_comes_with_what_the_engine_tells() -> None:
    said, engine = ask(Reply("safe", 11, 2, "length"))
    assert (said.text, said.model, said.cut, said.prompt_tokens, said.completion_tokens) == ("safe", "scripted", True, 11, 2)
    (call,) = engine.seen
    assert [(message.role, message.text) for message in call.chat.messages] == [("system", "Judge."), ("user", "Is it safe?")]
    assert (call.step, call.sampling.max_tokens, call.sampling.temperature, call.sampling.seed) == ("judge", 7, 0.0, 3)


@pytest.mark.parametrize("error", [EngineError("It failed."), Overloaded("It is full."), EngineTimeout("It took too long.")])
def test_what_may_pass_may_be_tried_again(error: EngineError) -> None:
    with pytest.raises(TryAgain) as raised:
        ask(error)
    assert str(raised.value) == str(error).rstrip(".")
    assert raised.value.billed == isinstance(error, EngineTimeout)


def test_a_prompt_that_does_not_fit_fails_alone_and_what_a_person_has_to_mend_stops() -> None:
    with pytest.raises(Refused, match="too long for the judge"):
        ask(ContextTooLong(9000, 7, 4096))
    for error in (Misconfigured("The key is wrong."), EngineClosed("It was closed."), ModelLost("It is lost."), UserError("No.")):
        with pytest.raises(type(error), match=str(error)):
            ask(error)


def test_a_guard_s_chat_needs_a_server() -> None:
    with pytest.raises(UserError, match="it needs a server"):
        ask("safe", Request((("user", "How?"), ("assistant", "So.")), 7))
