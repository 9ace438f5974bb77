"""The controller engine when workers fail: another one where nothing was said yet, no half answers, clear errors."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import ASGIApp

from llava.cluster.wire import END
from llava.engines import ScriptedEngine, generate
from llava.errors import (
    ContextTooLong,
    EngineError,
    EngineTimeout,
    LlavaError,
    Misconfigured,
    Overloaded,
    Unavailable,
    UnknownModel,
    UserError,
)
from llava.serve import controller
from llava.serve.security import Keys, Right
from tests.engines.over_controller import ASKED, delta, engine, failure
from tests.serve.cluster import cluster, listening, raw_server, until

FAILING: dict[str, tuple[ASGIApp, type[LlavaError]]] = {
    "cut at once": (raw_server(cut=True), EngineError),
    "cut in an object": (raw_server(delta("half")[:10], cut=True), EngineError),
    "ends in an object": (raw_server(delta("half")[:10]), EngineError),
    "ends without an end": (raw_server(delta("")), EngineError),
    "nothing": (raw_server(), EngineError),
    "html": (raw_server(b"<html></html>" + END), EngineError),
    "other json": (raw_server(b'{"text": "x"}' + END), EngineError),
    "text that is not ours": (raw_server(b'{"text": "something else", "error_code": 0}' + END), EngineError),
    "status 500": (raw_server(b"Internal Server Error", status=500), EngineError),
    "original error": (raw_server(b'{"text": "HIGH TRAFFIC", "error_code": 1}' + END), EngineError),
    "closed filter": (raw_server(delta("", finish_reason="content_filter")), EngineError),
    "no room": (raw_server(status=429), Overloaded),
    "leaving": (raw_server(status=503), Unavailable),
    "silent": (raw_server(delta("x"), pause=0.6), EngineTimeout),
    "only signs of life": (raw_server(*[delta("")] * 60, pause=0.02), EngineTimeout),
}


@pytest.mark.parametrize("why", FAILING)
def test_a_worker_that_fails_before_any_text_is_replaced_once(why: str) -> None:
    app, kind = FAILING[why]

    async def main() -> None:
        scripted = ScriptedEngine(lambda _: "A cat.")
        async with listening(app) as bad, cluster(scripted) as found:
            found.prefer(bad)
            async with engine(found.target, first_timeout=0.3, idle_timeout=0.4, timeout=5) as asked:
                assert (await generate(asked, ASKED)).text == "A cat."
            for address in found.workers:
                found.registry.remove(address)
            assert type(await failure(found.target, first_timeout=0.3, idle_timeout=0.4, timeout=5)) is kind

    asyncio.run(main())


@pytest.mark.parametrize("rest", [b"", delta("", finish_reason=None), delta("more")[:5], b"garbage" + END])
def test_after_the_first_text_there_is_no_second_try_and_no_half_answer(rest: bytes) -> None:
    async def main() -> None:
        scripted = ScriptedEngine(lambda _: "A cat.")
        async with listening(raw_server(delta("half"), rest)) as bad, cluster(scripted) as found:
            found.prefer(bad)
            assert isinstance(await failure(found.target), EngineError)
        assert scripted.seen == []

    asyncio.run(main())


def test_an_answer_without_an_end_is_given_up() -> None:
    async def main() -> None:
        async with listening(raw_server(*[delta("x" * 2**20)] * 20)) as endless, cluster() as found:
            found.prefer(endless)
            assert "has no end" in str(await failure(found.target))

    asyncio.run(main())


def test_a_dribble_ends_at_the_total_deadline_and_a_late_text_at_the_first() -> None:
    async def main() -> None:
        async with listening(raw_server(*[delta("x")] * 200, pause=0.02)) as drip, cluster() as found:
            found.prefer(drip)
            error = await failure(found.target, timeout=0.3)
            assert isinstance(error, EngineTimeout)
            assert "longer than 0.3 s" in str(error)
        async with cluster(ScriptedEngine(["late"], delay=2)) as found:
            assert "No text came within 0.1 s" in str(await failure(found.target, first_timeout=0.1))
            (core,) = found.workers.values()
            await until(lambda: core.status().queue_length == 0)  # and the worker has given it up

    asyncio.run(main())


def test_the_workers_errors_arrive_as_what_they_are_and_users_mistakes_are_not_repeated() -> None:
    async def main() -> None:
        for sent in (ContextTooLong(900, 10, 800), UserError("The model takes no images.")):
            first, second = ScriptedEngine([sent]), ScriptedEngine(["never"])
            async with cluster(first, second) as found:
                error = await failure(found.target)
                assert (type(error), str(error)) == (type(sent), str(sent))
                assert second.seen == []

    asyncio.run(main())


def test_an_unknown_model_no_worker_and_no_controller_are_three_errors() -> None:
    async def main() -> None:
        async with cluster(ScriptedEngine([])) as found:
            error = await failure(found.target + "/nope")
            assert isinstance(error, UnknownModel)
            assert "served are: tiny" in str(error)
            for address in list(found.workers):
                found.registry.remove(address)
            assert "lists no model" in str(await failure(found.target))
            found.prefer("http://127.0.0.1:9")
            assert isinstance(await failure(found.target), Unavailable)
        error = await failure("controller://127.0.0.1:9")
        assert isinstance(error, Unavailable)
        assert "127.0.0.1:9" in str(error)
        async with listening(raw_server(b"<html>")) as page:
            assert "does not speak" in str(await failure(page.replace("http", "controller")))

    asyncio.run(main())


def test_a_worker_that_is_gone_is_told_to_the_controller_and_one_that_failed_is_not() -> None:
    async def main() -> None:
        silent, broken, full = raw_server(b"", pause=2), raw_server(status=500), raw_server(status=429)
        for app, suspected in ((None, True), (silent, True), (broken, False), (full, False)):
            async with listening(app or raw_server()) as bad, cluster(ScriptedEngine(lambda _: "A cat.")) as found:
                dead = bad if app else "http://127.0.0.1:9"
                found.prefer(dead)
                async with engine(found.target, first_timeout=0.3) as asked:
                    assert (await generate(asked, ASKED)).text == "A cat."
                assert [w.suspect for w in found.registry.workers(0) if w.name == dead] == [suspected]

    asyncio.run(main())


def test_what_only_an_operator_can_mend_is_told_as_that() -> None:
    async def main() -> None:
        keys = Keys([("cluster-secret", Right.ADMIN)])
        async with cluster(config=controller.Config(keys)) as found:
            assert isinstance(await failure(found.target), Misconfigured)
        async with cluster(ScriptedEngine([Misconfigured("The key is wrong.")])) as found:
            assert isinstance(await failure(found.target), Misconfigured)
        async with listening(raw_server(b'{"models": ["tiny"], "address": "file:///etc/passwd"}')) as other:
            assert "is no controller" in str(await failure(other.replace("http", "controller", 1)))

    asyncio.run(main())
