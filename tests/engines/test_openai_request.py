"""Servers that do not take everything: what is left out, what is renamed, what is an error."""

import asyncio
from typing import Any

import pytest

from llava.chat import Call, Chat, Reply, Sampling
from llava.engines import connect, generate
from llava.errors import ContextTooLong, UserError
from tests.engines.asking import ask, failure, run
from tests.openai_server import OpenAIServer, error


@pytest.mark.parametrize("parameter", ["logprobs", "stream_options"])
def test_a_server_that_rejects_an_extra_is_asked_without_it_from_then_on(server: OpenAIServer, parameter: str) -> None:
    server.behaviour.rejects = (parameter,)
    server.behaviour.top_logprobs = [("Yes", -0.1)]

    async def main() -> list[Reply]:
        engine = connect(server.url)
        replies = [await generate(engine, ask(top_logprobs=5)) for _ in range(2)]
        await engine.close()
        return replies

    for reply in asyncio.run(main()):
        assert reply.text == "A cat on a mat."
        assert (reply.first_logprobs is None) == (parameter == "logprobs")
        assert (reply.prompt_tokens is None) == (parameter == "stream_options")
    assert [parameter in request for request in server.requests] == [True, False, False]


def test_a_server_that_does_not_say_what_it_refuses_is_asked_without_extras(server: OpenAIServer) -> None:
    server.behaviour.fail = {0: (400, error("no"))}
    assert run(connect(server.url), ask(top_logprobs=5)).text == "A cat on a mat."
    assert not {"logprobs", "top_logprobs", "stream_options"} & set(server.requests[1])


def test_max_tokens_gets_its_newer_name_where_the_old_one_is_refused(server: OpenAIServer) -> None:
    server.behaviour.rejects = ("max_tokens", "logprobs")

    async def main() -> None:
        engine = connect(server.url)
        for _ in range(2):
            await generate(engine, Call("answer", Chat.ask("q"), Sampling(max_tokens=9), top_logprobs=5))
        await engine.close()

    asyncio.run(main())
    assert [request.get("max_completion_tokens") for request in server.requests] == [None, 9, 9, 9]
    assert "max_tokens" not in server.requests[-1]
    assert "logprobs" not in server.requests[-1]


def test_a_greedy_call_is_never_sampled_in_silence(server: OpenAIServer) -> None:
    server.behaviour.takes_only = {"temperature": 1}

    async def main() -> None:
        engine = connect(server.url)
        for _ in range(2):
            with pytest.raises(UserError, match=r"The model tiny does not take temperature 0.0: choose another value or another model"):
                await generate(engine, ask())
        await engine.close()

    asyncio.run(main())
    assert all(request["temperature"] == 0 for request in server.requests)


def test_a_setting_that_was_left_out_once_is_not_left_out_where_it_matters(server: OpenAIServer) -> None:
    server.behaviour.rejects = ("temperature", "top_p")

    async def main() -> None:
        engine = connect(server.url)
        assert (await generate(engine, Call("answer", Chat.ask("q"), Sampling(temperature=1.0)))).text == "A cat on a mat."
        for sampling, said in ((Sampling(), "temperature 0.0"), (Sampling(temperature=1.0, top_p=0.5), "top_p 0.5")):
            with pytest.raises(UserError, match=f"does not take {said}"):
                await generate(engine, Call("check", Chat.ask("q"), sampling))
        await engine.close()

    asyncio.run(main())


@pytest.mark.parametrize(("options", "fine"), [({"seed": 3}, True), ({"seed": 3, "temperature": 1.0}, False), ({"stop": ("x",)}, False)])
def test_a_refused_seed_or_stop_is_left_out_only_where_it_changes_nothing(
    server: OpenAIServer, options: dict[str, Any], fine: bool
) -> None:
    server.behaviour.rejects = ("seed", "stop")
    call = Call("answer", Chat.ask("q"), Sampling(**options))
    if fine:
        assert run(connect(server.url), call).text == "A cat on a mat."
        return
    with pytest.raises(UserError, match=r"does not take (seed 3|stop)"):
        run(connect(server.url), call)


def test_an_error_does_not_repeat_the_words_that_were_to_stop_an_answer(server: OpenAIServer) -> None:
    server.behaviour.rejects = ("stop",)
    with pytest.raises(UserError, match="does not take stop: choose") as caught:
        run(connect(server.url), Call("answer", Chat.ask("q"), Sampling(stop=("my name is Zorb",))))
    assert "Zorb" not in str(caught.value)


def test_a_question_that_a_refusal_quotes_is_not_taken_for_a_parameter(server: OpenAIServer) -> None:
    server.behaviour.fail = {-1: (400, error("cannot parse 'what is temperature, seed and top_p?'"))}
    with pytest.raises(UserError, match="refused the request"):
        run(connect(server.url), ask())
    assert all("temperature" in request for request in server.requests)


@pytest.mark.parametrize(
    ("message", "numbers"),
    [
        (
            "This model's maximum context length is 4096 tokens. However, you requested 5012 tokens (4500 in the messages, 512 in ...",
            (4500, 4096),
        ),
        ("This model's maximum context length is 4096 tokens. However, your messages resulted in 5000 tokens.", (5000, 4096)),
        ("This model's maximum context length is 4096 tokens and your request has 4000 input tokens (512 > 4096 - 4000).", (4000, 4096)),
        ("The decoder prompt (length 5000) is longer than the maximum model length of 4096.", (5000, 4096)),
        ("request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it", (5000, 4096)),
        ("Input is too long for the model", None),
        ("This model's maximum context length is 4096 tokens, 3 input tokens", None),  # these numbers would fit
    ],
)
def test_a_prompt_over_the_context_says_by_how_much_where_the_server_does(
    server: OpenAIServer, message: str, numbers: tuple[int, int] | None
) -> None:
    found = failure(server, 400, error(message))
    assert isinstance(found, ContextTooLong)
    assert len(server.requests) == 1
    if numbers is None:
        assert str(found) == (
            "The prompt is too long: with the answer it does not fit into the model's context. Shorten the question or lower max_tokens."
        )
        return
    prompt, context = numbers
    assert str(found) == (
        f"The prompt has {prompt} tokens, images included: {prompt + 512 - context} too many. The model's context holds {context}, "
        "of which the answer gets 512. Shorten the question or lower max_tokens."
    )


def test_a_code_alone_is_enough(server: OpenAIServer) -> None:
    assert isinstance(failure(server, 400, error("x", code="context_length_exceeded")), ContextTooLong)
