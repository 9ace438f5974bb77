"""A thing for each event loop: made once, closed where it was opened, and nobody waits for a loop that is gone."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest

from llava.engines.loops import PerLoop


@contextmanager
def running() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        if loop.is_running():
            loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            loop.run_until_complete(task)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def noting() -> tuple[list[object], Callable[[object], Awaitable[None]]]:
    """What was closed, and what closes it, in some time."""
    closed: list[object] = []

    async def close(thing: object) -> None:
        await asyncio.sleep(0.01)
        closed.append(thing)

    return closed, close


def test_a_loop_has_one_thing_and_another_loop_another_one_that_it_closes_at_its_end() -> None:
    closed, close = noting()
    things = PerLoop(object, close)

    async def twice() -> tuple[object, object]:
        return await things.get(), await things.get()

    (one, same), (other, _) = asyncio.run(twice()), asyncio.run(twice())
    assert one is same is not other
    assert closed == [one, other]


def test_closing_from_another_loop_closes_there_and_lets_nothing_be_made_any_more() -> None:
    closed, close = noting()
    things = PerLoop(object, close)
    with running() as loop:
        thing = asyncio.run_coroutine_threadsafe(things.get(), loop).result()
        asyncio.run(things.close())
        assert closed == [thing]
        with pytest.raises(RuntimeError, match="closed"):
            asyncio.run(things.get())


def test_who_closes_does_not_wait_for_a_loop_that_stops_meanwhile() -> None:
    closed: list[object] = []

    async def stop(thing: object) -> None:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        closed.append(thing)

    things = PerLoop(object, stop)
    with running() as loop:
        thing = asyncio.run_coroutine_threadsafe(things.get(), loop).result()
        asyncio.run(asyncio.wait_for(things.close(), 60))
        assert closed == []
    assert closed == [thing]


def test_several_may_close_at_once() -> None:
    closed, close = noting()
    things = PerLoop(object, close)

    async def main() -> object:
        thing = await things.get()
        await asyncio.gather(things.close(), things.close())
        return thing

    with running() as loop:
        there = asyncio.run_coroutine_threadsafe(things.get(), loop).result()
        here = asyncio.run(main())
    assert sorted(map(id, closed)) == sorted(map(id, (here, there)))  # each once


def test_a_loop_that_was_closed_without_ceremony_is_forgotten() -> None:
    closed, close = noting()
    things = PerLoop(object, close)
    for _ in range(3):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(things.get())
        loop.close()
        assert list(things._held) == [loop]
    assert closed == []
