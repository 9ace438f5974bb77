"""What both pages share and gradio does not know: the models, what a failure says."""

from __future__ import annotations

import asyncio
import logging

import pytest

from llava.chat import Call, Chat
from llava.engines import ScriptedEngine
from llava.engines.base import generate
from llava.errors import EngineError, UnknownModel
from llava.serve.web.models import Models
from llava.serve.web.words import escaped, failure, whole
from tests.loopback import free_port
from tests.serve.cluster import cluster

# Models


def test_without_a_controller_it_is_said_how_to_start_one() -> None:
    models = Models(f"controller://127.0.0.1:{(port := free_port())}")
    names, why = asyncio.run(models.names_or_why())
    assert names == []
    assert f"python -m llava.serve.controller --port {port}" in why


def test_without_a_worker_it_is_said_how_to_start_one_and_the_first_one_is_found() -> None:
    async def work() -> None:
        async with cluster() as hub:
            models = Models(hub.target)
            names, why = await models.names_or_why()
            assert names == []
            assert "python -m llava.serve.model_worker --controller http://127.0.0.1" in why
            with pytest.raises(UnknownModel, match="no model to ask yet"):
                await models.chosen(None)
            await models.close()
        async with cluster(ScriptedEngine(lambda _: "A cat.")) as hub:
            models = Models(hub.target)
            name, engine = await models.chosen(None)
            assert name == "tiny"
            assert models.engine("tiny") is engine
            assert await models.names_or_why() == (["tiny"], "")
            with pytest.raises(UnknownModel, match="not served just now"):
                await models.chosen("huge")
            await models.close()

    asyncio.run(work())


@pytest.mark.parametrize("reload", [False, True], ids=["once", "reload"])
def test_the_list_is_asked_for_once_or_at_each_visit(reload: bool) -> None:
    async def work() -> None:
        async with cluster(ScriptedEngine(lambda _: "A cat.")) as hub:
            models = Models(hub.target, reload)
            assert await models.names() == ["tiny"]
            hub.registry.remove(next(iter(hub.workers)))
            assert await models.names() == ([] if reload else ["tiny"])
            await models.close()

    asyncio.run(work())


# Words


def test_a_failure_has_an_id_under_which_the_log_tells_more(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    said = failure(EngineError("The worker fell over."))
    assert said.startswith("The worker fell over. (req_")
    assert said.split("(")[1].rstrip(")") in caplog.text
    unforeseen = failure(RuntimeError("a visitor's secret"))
    assert "secret" not in unforeseen + caplog.text
    assert "RuntimeError" in caplog.text


def test_what_others_wrote_is_no_element_and_moves_no_cursor() -> None:
    assert escaped('<b onclick="x">\x1b[2J\u202e') == "&lt;b onclick=&quot;x&quot;&gt;\ufffd[2J\ufffd"


def test_half_a_character_is_not_sent() -> None:
    assert whole("a \ud83d\ude00 b") == "a 😀 b"
    assert whole("half \ud83d") == "half \ufffd"


def test_an_engine_of_a_model_is_the_controllers() -> None:
    async def work() -> str:
        async with cluster(ScriptedEngine(lambda _: "A cat.")) as hub:
            models = Models(hub.target)
            _, engine = await models.chosen("tiny")
            reply = await generate(engine, Call("answer", Chat.ask("What?")))
            await models.close()
            return reply.text

    assert asyncio.run(work()) == "A cat."
