"""Waiting calls: order, bound, closing."""

import asyncio
import threading

import pytest

from llava.chat import Call, Chat, Delta
from llava.engines.local.inbox import Inbox, Job
from llava.errors import EngineClosed, Overloaded

CALL = Call("answer", Chat.ask("q"))


async def jobs(count: int) -> list[Job]:
    return [Job(CALL) for _ in range(count)]


def test_first_come_first_served() -> None:
    inbox, waiting = Inbox(3), asyncio.run(jobs(3))
    for job in waiting:
        inbox.put(job)
    assert [inbox.take() for _ in waiting] == waiting


def test_beyond_the_bound_is_overloaded_and_a_cancelled_place_is_free_again() -> None:
    inbox, (first, *rest) = Inbox(2), asyncio.run(jobs(5))
    inbox.put(first)
    assert inbox.take() is first  # runs; from now on the others wait
    for job in rest[:2]:
        inbox.put(job)
    with pytest.raises(Overloaded, match="2 calls wait already"):
        inbox.put(rest[2])
    inbox.cancel(rest[0])
    inbox.put(rest[2])
    assert [inbox.take(), inbox.take()] == rest[1:3]


def test_with_no_waiting_places_an_idle_thread_still_takes_a_call() -> None:
    inbox, (first, second) = Inbox(0), asyncio.run(jobs(2))
    inbox.put(first)
    with pytest.raises(Overloaded):
        inbox.put(second)
    assert inbox.take() is first
    with pytest.raises(Overloaded):
        inbox.put(second)


def test_closing_fails_those_that_wait_and_wakes_the_thread() -> None:
    inbox = Inbox(5)
    taken: list[Job | None] = []
    thread = threading.Thread(target=lambda: taken.append(inbox.take()))
    thread.start()
    inbox.close()
    thread.join()
    assert taken == [None]

    async def main() -> None:
        late, waiting = Inbox(5), Job(CALL)
        late.put(waiting)
        late.close()
        with pytest.raises(EngineClosed, match="closed while the call waited"):
            await waiting.receive()
        with pytest.raises(EngineClosed):
            late.put(Job(CALL))

    asyncio.run(main())


def test_a_job_whose_loop_is_gone_counts_as_cancelled() -> None:
    (job,) = asyncio.run(jobs(1))
    job.send(Delta("x"))
    assert job.cancelled
