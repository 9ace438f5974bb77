"""The scripted engine says what it is told."""

import asyncio
import itertools
from typing import Any

import pytest

from llava.chat import Call, Chat, Delta, Reply
from llava.engines import Engine, ScriptedEngine, generate
from llava.errors import EngineClosed, EngineError, Overloaded, UserError


def call(step: str = "answer", top_logprobs: int = 0) -> Call:
    return Call(step, Chat.ask("What is this?"), top_logprobs=top_logprobs)


def say(engine: Engine, *calls: Call) -> list[str]:
    async def main() -> list[str]:
        return [(await generate(engine, one)).text for one in calls]

    return asyncio.run(main())


def test_an_iterable_is_said_in_order_and_running_out_is_an_error() -> None:
    engine = ScriptedEngine(["a", Reply("b")])
    assert say(engine, call(), call("check")) == ["a", "b"]
    assert [one.step for one in engine.seen] == ["answer", "check"]
    with pytest.raises(EngineError, match="no reply left for the step 'caption'"):
        say(engine, call("caption"))


def test_an_endless_iterable_works() -> None:
    assert say(ScriptedEngine(itertools.repeat("x")), call(), call()) == ["x", "x"]


def test_a_single_text_is_one_reply_and_not_its_letters() -> None:
    assert say(ScriptedEngine("Yes"), call()) == ["Yes"]


def test_a_mapping_is_asked_by_step_as_often_as_wanted() -> None:
    engine = ScriptedEngine({"answer": "a", "check": "No"})
    assert say(engine, call("check"), call("answer"), call("check")) == ["No", "a", "No"]
    with pytest.raises(EngineError, match="no line for the step 'caption'; it has 'answer', 'check'"):
        say(engine, call("caption"))


def test_a_function_sees_the_call() -> None:
    assert say(ScriptedEngine(lambda c: f"{c.step}: {c.chat.question}"), call("check")) == ["check: What is this?"]


def test_an_exception_in_the_script_is_raised() -> None:
    with pytest.raises(Overloaded, match="busy"):
        say(ScriptedEngine([Overloaded("busy")]), call())
    with pytest.raises(EngineError, match="down"):
        say(ScriptedEngine(lambda c: EngineError("down")), call())


def test_text_streams_in_small_pieces_and_the_reply_comes_last() -> None:
    async def main() -> list[Delta]:
        return [delta async for delta in ScriptedEngine(["A cat on a mat."]).stream(call())]

    *pieces, last = asyncio.run(main())
    assert len(pieces) > 2
    assert "".join(delta.text for delta in pieces) == "A cat on a mat."
    assert last.reply is not None
    assert (last.reply.text, last.reply.finish_reason) == ("A cat on a mat.", "stop")


def test_logprobs_are_given_only_to_calls_that_ask() -> None:
    engine = ScriptedEngine({"check": Reply("No", first_logprobs={"No": -0.1})})
    with_and_without = [asyncio.run(generate(engine, call("check", wish))).first_logprobs for wish in (5, 0)]
    assert with_and_without == [{"No": -0.1}, None]


def test_a_closed_engine_refuses_and_ends_what_runs() -> None:
    async def main() -> None:
        engine = ScriptedEngine(["a long answer"])
        stream = engine.stream(call())
        await anext(stream)
        await engine.close()
        with pytest.raises(EngineClosed):
            await anext(stream)
        with pytest.raises(EngineClosed):
            await generate(engine, call())

    asyncio.run(main())


def test_an_engine_that_ends_without_a_reply_is_an_error() -> None:
    class Broken(ScriptedEngine):
        async def stream(self, call: Call):  # type: ignore[no-untyped-def]
            yield Delta("half")

    with pytest.raises(EngineError, match="ended its stream without a reply"):
        say(Broken([]), call())


@pytest.mark.parametrize("replies", [None, 5, True])
def test_what_is_no_script_is_refused_before_the_first_call(replies: Any) -> None:
    with pytest.raises(UserError, match=f"A script is .* not {type(replies).__name__}"):
        ScriptedEngine(replies)
