"""What a server cannot do is found out before anything is asked: to show its model the images, to tell log-probabilities."""

import asyncio
import logging
import math
from dataclasses import replace
from typing import Any

import pytest

from llava.chat import Call, Chat, Sampling
from llava.engines import connect, generate
from llava.errors import EngineError, ImagesUnseen, LlavaError, Misconfigured, NoLogprobs, Overloaded
from tests.engines.asking import SECRET, run
from tests.factories import image
from tests.openai_server import OpenAIServer, error

SEEING = Call("answer", Chat.ask(SECRET, [image("red")]))


def telling(wanted: int = 2, **sampling: Any) -> Call:
    return Call("answer", Chat.ask(SECRET), Sampling(logprobs=wanted, **sampling))


def entry(text: str, logprob: float = -0.1, **more: Any) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": [], **more}


def questions(server: OpenAIServer) -> list[bool]:
    """Of each request, whether it is the caller's."""
    return [SECRET in str(body["messages"]) for body in server.requests]


def test_images_are_counted_once_for_a_server_and_only_when_there_are_some(server: OpenAIServer) -> None:
    async def main() -> None:
        engine = connect(server.url)
        await generate(engine, Call("answer", Chat.ask(SECRET)))
        assert questions(server) == [True]
        await asyncio.gather(*(generate(engine, SEEING) for _ in range(5)))
        await generate(engine, SEEING)
        await engine.close()

    asyncio.run(main())
    assert sorted(questions(server)) == [False, False, *[True] * 7]
    shown, blind = (body for body in server.requests if SECRET not in str(body["messages"]))
    assert shown["max_tokens"] == blind["max_tokens"] == 1
    assert shown["messages"][0]["content"][0]["type"] == "image_url"
    assert blind["messages"][0]["content"] == shown["messages"][0]["content"][1]["text"]


@pytest.mark.parametrize("tokens", [0, 1, 6, 9])
def test_a_model_that_never_sees_the_image_is_told_and_nothing_is_asked(server: OpenAIServer, tokens: int) -> None:
    server.behaviour.image_tokens = tokens
    with pytest.raises(ImagesUnseen, match=rf"has 7 tokens without a picture and {7 + tokens} with it.*check_images=false") as caught:
        run(connect(server.url), SEEING)
    assert isinstance(caught.value, Misconfigured)
    assert questions(server) == [False, False]


def test_it_is_found_out_again_after_the_server_was_mended(server: OpenAIServer) -> None:
    async def main() -> str:
        engine = connect(server.url)
        server.behaviour.image_tokens = 0
        for _ in range(2):
            with pytest.raises(ImagesUnseen):
                await generate(engine, SEEING)
        server.behaviour.image_tokens = 576
        text = (await generate(engine, SEEING)).text
        await engine.close()
        return text

    assert asyncio.run(main()) == "A cat on a mat."
    assert questions(server) == [False] * 6 + [True]


def test_who_knows_better_is_not_asked(server: OpenAIServer) -> None:
    server.behaviour.image_tokens = 0
    assert run(connect(server.url, check_images=False), SEEING).text == "A cat on a mat."
    assert questions(server) == [True]


@pytest.mark.parametrize("counts", [False, True])
def test_a_server_that_does_not_count_is_used_with_a_warning(server: OpenAIServer, caplog: pytest.LogCaptureFixture, counts: bool) -> None:
    server.behaviour.counts = counts
    server.behaviour.image_tokens = -7 if counts else 0
    assert run(connect(server.url), SEEING).text == "A cat on a mat."
    assert [record.levelno for record in caplog.records if "sees images is not known" in record.message] == [logging.WARNING]


def test_a_failure_while_counting_is_the_calls_own_and_is_not_remembered(server: OpenAIServer) -> None:
    async def main() -> list[LlavaError]:
        engine, failures = connect(server.url, retries=0), []
        for status in (429, 500):
            server.behaviour.fail = {-1: (status, error("no"))}
            try:
                await generate(engine, SEEING)
            except LlavaError as failure:
                failures.append(failure)
        server.behaviour.fail = {}
        await generate(engine, SEEING)
        await engine.close()
        return failures

    overloaded, failed = asyncio.run(main())
    assert isinstance(overloaded, Overloaded)
    assert isinstance(failed, EngineError)


def test_every_token_is_told_with_its_bytes_and_alternatives(server: OpenAIServer) -> None:
    server.behaviour.pieces = ["Hi", " \u6f22"]
    halves = [entry("\\xe6\\xbc", bytes=[0xE6, 0xBC]), entry("\\xa2", bytes=[0xA2])]
    server.behaviour.tokens = [[entry("Hi", top_logprobs=[entry("Hi"), entry("Ho", -9999.0)])], [entry(" ", bytes=None), *halves]]
    reply = run(connect(server.url), telling(2))
    assert (server.requests[0]["logprobs"], server.requests[0]["top_logprobs"]) == (True, 2)
    assert reply.tokens is not None
    assert [(t.text, t.raw) for t in reply.tokens] == [("Hi", b"Hi"), (" ", None), ("\\xe6\\xbc", b"\xe6\xbc"), ("\\xa2", b"\xa2")]
    assert [(t.text, t.logprob) for t in reply.tokens[0].top] == [("Hi", -0.1), ("Ho", -9999.0)]


def test_of_the_first_token_and_of_all_tokens_a_reply_tells_what_was_wanted_of_each(server: OpenAIServer) -> None:
    server.behaviour.tokens = [[entry("x", top_logprobs=[entry("x"), entry("y", -2.0), entry("z", -3.0)])]] * 3
    both = run(connect(server.url), replace(telling(1), top_logprobs=3))
    assert server.requests[0]["top_logprobs"] == 3
    assert both.tokens is not None
    assert [len(token.top) for token in both.tokens] == [1, 1, 1]
    assert both.first_logprobs == {"x": -0.1, "y": -2.0, "z": -3.0}
    assert run(connect(server.url), telling(1)).first_logprobs is None


def test_no_alternatives_may_be_wanted(server: OpenAIServer) -> None:
    server.behaviour.tokens = [[entry("x", top_logprobs=None)]] * 3
    reply = run(connect(server.url), telling(0))
    assert (server.requests[0]["logprobs"], server.requests[0]["top_logprobs"]) == (True, 0)
    assert reply.tokens is not None
    assert len(reply.tokens) == 3


def test_a_server_that_ignores_the_wish_is_given_up_at_its_first_word_and_not_asked_again(server: OpenAIServer) -> None:
    async def main() -> None:
        engine = connect(server.url)
        for _ in range(2):
            with pytest.raises(NoLogprobs):
                await generate(engine, telling())
        assert (await generate(engine, Call("answer", Chat.ask(SECRET)))).text == "A cat on a mat."
        await engine.close()

    asyncio.run(main())
    assert ["logprobs" in body for body in server.requests] == [True, False]


def test_a_server_that_refuses_log_probabilities_says_so_and_another_refusal_stays_what_it_is(server: OpenAIServer) -> None:
    server.behaviour.rejects = ("logprobs",)
    with pytest.raises(NoLogprobs):
        run(connect(server.url), telling())
    server.behaviour.rejects = ()
    server.behaviour.fail = {-1: (400, error("tiny is not a multimodal model"))}
    with pytest.raises(LlavaError, match="does not take images"):
        run(connect(server.url), telling())


@pytest.mark.parametrize(
    "wrong",
    [{"logprob": None}, {"logprob": "x"}, {"logprob": math.nan}, {"bytes": [256]}, {"bytes": ["a"]}, {"bytes": 10**12}, {"token": None}],
)
def test_tokens_that_are_none_end_the_call(server: OpenAIServer, wrong: dict[str, Any]) -> None:
    server.behaviour.tokens = [[entry("x") | wrong]] * 3
    with pytest.raises(EngineError, match="OpenAI's format"):
        run(connect(server.url), telling())
