"""The openai engine against a real server on loopback, through the real client library."""

import asyncio
import logging
import math
import socket

import pytest

from llava.chat import Call, Chat, Delta, Sampling
from llava.engines import connect
from llava.errors import EngineError, EngineTimeout, Overloaded, Unavailable, UserError
from tests.engines.asking import SECRET, ask, failure, run
from tests.openai_server import OpenAIServer, error


def test_the_answer_comes_in_pieces_and_then_whole(server: OpenAIServer) -> None:
    async def main() -> list[Delta]:
        engine = connect(server.url)
        deltas = [delta async for delta in engine.stream(ask())]
        await engine.close()
        return deltas

    *pieces, last = asyncio.run(main())
    assert [delta.text for delta in pieces] == server.behaviour.pieces
    assert last.reply is not None
    assert last.reply.text == "A cat on a mat."
    assert (last.reply.prompt_tokens, last.reply.completion_tokens, last.reply.finish_reason) == (7, 3, "stop")
    assert last.reply.seconds > 0


def test_sampling_reaches_the_server(server: OpenAIServer) -> None:
    run(connect(server.url, model="tiny"), Call("answer", Chat.ask("q"), Sampling(0.5, 0.9, 11, ("###",), 3)))
    request = server.requests[0]
    assert {key: request[key] for key in ("temperature", "top_p", "max_tokens", "stop", "seed")} == {
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 11,
        "stop": ["###"],
        "seed": 3,
    }
    assert "logprobs" not in request


def test_first_token_logprobs_are_summed_over_tokens_that_read_the_same(server: OpenAIServer) -> None:
    server.behaviour.top_logprobs = [("Yes", math.log(0.5)), ("No", math.log(0.2)), ("Yes", math.log(0.25)), ("x", -9999.0)]
    reply = run(connect(server.url), ask(top_logprobs=50))
    assert server.requests[0]["top_logprobs"] == 20
    assert reply.first_logprobs is not None
    assert reply.first_logprobs == pytest.approx({"Yes": math.log(0.75), "No": math.log(0.2), "x": -9999.0})


def test_a_server_that_ignores_logprobs_gives_none(server: OpenAIServer) -> None:
    assert run(connect(server.url), ask(top_logprobs=5)).first_logprobs is None


def test_the_key_comes_from_the_option_or_the_environment_or_is_a_dummy(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    run(connect(server.url), ask())
    monkeypatch.setenv("OPENAI_API_KEY", "from-environment")
    run(connect(server.url), ask())
    run(connect(server.url, api_key="from-option"), ask())
    assert [headers["authorization"] for headers in server.headers] == ["Bearer none", "Bearer from-environment", "Bearer from-option"]


def test_a_wrong_key_names_the_ways_to_give_one(server: OpenAIServer) -> None:
    server.behaviour.key = "right"
    with pytest.raises(UserError, match=r"does not accept the key \(401\): set OPENAI_API_KEY or give api_key="):
        run(connect(server.url, api_key="wrong"), ask())
    assert run(connect(server.url, api_key="right"), ask()).text == "A cat on a mat."
    server.behaviour.key = None
    assert "does not accept the key (403)" in str(failure(server, 403))


@pytest.mark.parametrize("key", ["sk-secret\n", "sk-sécret", "sk\0secret"])
def test_what_cannot_be_a_key_is_told_at_once_and_not_repeated(key: str) -> None:
    with pytest.raises(UserError, match="holds a line break or a letter that no key has") as caught:
        connect("http://127.0.0.1:9/v1", api_key=key)
    assert "cret" not in str(caught.value)


def test_an_unknown_model_names_those_that_are_served(server: OpenAIServer) -> None:
    server.behaviour.models = ["llava-7b", "llava-13b"]
    with pytest.raises(UserError, match=r"has no model 'llava'; it lists llava-7b, llava-13b"):
        run(connect(server.url, model="llava"), ask())


@pytest.mark.parametrize(("models", "said"), [(["a", "b"], "lists a, b: say which one"), ([], "lists no model: say which one")])
def test_without_a_model_the_server_must_list_exactly_one(server: OpenAIServer, models: list[str], said: str) -> None:
    server.behaviour.models = models
    with pytest.raises(UserError, match=said):
        run(connect(server.url), ask())


def test_an_address_without_the_api_says_so(server: OpenAIServer) -> None:
    with pytest.raises(UserError, match=r"no OpenAI-compatible API at .*usually ends in /v1"):
        run(connect(server.url.removesuffix("/v1")), ask())


def test_other_refusals_give_their_codes_but_never_the_message(server: OpenAIServer) -> None:
    found = failure(server, 422, error(f"cannot parse {SECRET}", code="weird", param="messages"))
    assert isinstance(found, UserError)
    assert "(422, invalid_request_error, weird, messages)" in str(found)


@pytest.mark.parametrize(
    "said",
    [
        "tiny is not a multimodal model",
        "At most 0 image(s) may be provided in one request.",
        "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
        "This model does not support image inputs",
        "The model doesn't accept images.",
    ],
)
def test_a_model_without_eyes_says_so(server: OpenAIServer, said: str) -> None:
    assert "does not take images" in str(failure(server, 400, error(said)))


@pytest.mark.parametrize("said", ["cannot identify image file", "Could not load the image: it is truncated", "what is not in this image?"])
def test_a_picture_that_a_server_cannot_read_says_nothing_of_its_model(server: OpenAIServer, said: str) -> None:
    assert "refused the request (400" in str(failure(server, 400, error(said)))


@pytest.mark.parametrize("status", [429, 503])
def test_an_overloaded_server_raises_overloaded_after_bounded_retries(server: OpenAIServer, status: int) -> None:
    assert isinstance(failure(server, status, retries=2), Overloaded)
    assert len(server.requests) == 3


def test_a_passing_failure_is_retried(server: OpenAIServer) -> None:
    server.behaviour.fail = {0: (503, error("busy")), 1: (500, error("oops"))}
    assert run(connect(server.url), ask()).text == "A cat on a mat."


def test_a_lasting_server_error_gives_its_status(server: OpenAIServer) -> None:
    found = failure(server, 500)
    assert isinstance(found, EngineError)
    assert not isinstance(found, Overloaded)
    assert "failed with status 500" in str(found)


def test_no_server_says_start_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unavailable, match=rf"No server answers at http://127.0.0.1:{port}/v1: start it or check the address"):
        run(connect(f"http://127.0.0.1:{port}/v1", retries=0), ask())


def test_a_silent_server_times_out(server: OpenAIServer) -> None:
    server.behaviour.pause = 30
    with pytest.raises(EngineTimeout, match=r"did not answer in time \(0.2 s without a byte\)"):
        run(connect(server.url, timeout=0.2, retries=0), ask())


def test_nothing_is_logged_about_the_question(server: OpenAIServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run(connect(server.url), ask())
    assert SECRET not in caplog.text


def test_the_name_tells_model_and_server_but_no_password() -> None:
    assert connect("http://user:pw@host:8000/v1").name == "http://host:8000/v1"
    assert connect("http://host/v1", model="m").name == "m at http://host/v1"


@pytest.mark.parametrize("url", ["http://", "http://host:port/v1", "http://[::1/v1"])
def test_a_broken_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(UserError, match="looks like http://host:8000/v1"):
        connect(url)
