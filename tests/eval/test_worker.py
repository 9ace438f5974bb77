"""A worker on a node: does it answer as the engine itself, and do errors arrive as they are?"""

import asyncio
import pickle
from collections.abc import Mapping
from typing import Any

import pytest

from llava.chat import Call, Chat, Reply, Sampling
from llava.engines import connect, generate
from llava.errors import CheckpointError, ContextTooLong, EngineClosed, LlavaError
from llava.eval.provenance import model_of
from llava.eval.worker import Worker, identity
from llava.image import Image
from tests.factories import image

CALL = Call("answer", Chat.ask("What is in the picture?", [image()]), Sampling(max_tokens=8))
MINI = identity(model_of("mini", None, {}).sha256)


def sent(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))  # noqa: S301 as Ray sends it


def opened(target: str = "mini", wanted: dict[str, Any] = MINI) -> Mapping[str, str] | LlavaError:
    return asyncio.run(Worker().open(target, {}, wanted))


def test_a_worker_answers_as_the_engine_itself_and_gives_errors_back_as_they_are() -> None:
    async def asked() -> tuple[Reply, Reply | LlavaError, Reply | LlavaError]:
        worker, engine = Worker(), connect("mini")
        assert sent(await worker.open("mini", {"device": "cpu", "dtype": "float32"}, MINI)) == {"device": "cpu", "dtype": "float32"}
        try:
            long = Call("answer", Chat.ask("why? " * 5000))
            return await generate(engine, CALL), sent(await worker.answer(sent(CALL))), sent(await worker.answer(long))
        finally:
            await engine.close()

    plain, there, error = asyncio.run(asked())
    assert isinstance(there, Reply)
    assert (there.text, there.completion_tokens) == (plain.text, plain.completion_tokens)
    assert isinstance(error, ContextTooLong)
    assert str(error) == str(ContextTooLong(error.prompt_tokens, error.max_tokens, error.context))


def test_a_picture_travels_as_its_file_and_is_the_same_picture() -> None:
    there = sent(image())
    assert isinstance(there, Image)
    assert (there, there.pil().tobytes()) == (image(), image().pil().tobytes())


def test_another_model_or_version_than_here_is_refused() -> None:
    assert "hash of the model's files" in str(opened(wanted=identity("0" * 64)))
    assert "version of llava" in str(opened(wanted=MINI | {"version of llava": "0.0"}))


def test_a_model_that_is_not_there_is_a_sentence() -> None:
    error = sent(opened("no/such/folder"))
    assert isinstance(error, CheckpointError)
    assert "There is no checkpoint folder no/such/folder" in str(error)


def test_a_worker_without_a_model_says_so() -> None:
    assert isinstance(asyncio.run(Worker().answer(CALL)), EngineClosed)


@pytest.mark.parametrize("error", [ContextTooLong(), ContextTooLong(900, 200, 1024)])
def test_an_error_with_arguments_of_its_own_survives_the_way(error: ContextTooLong) -> None:
    there = sent(error)
    assert (str(there), vars(there)) == (str(error), vars(error))
