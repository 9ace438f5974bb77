"""Calls on their way: order, bound, closing."""

import asyncio
import threading
import time
from contextlib import ExitStack

import pytest

from llava.chat import Call, Chat, Delta
from llava.engines.local.inbox import Inbox, Job, deliver
from llava.errors import EngineClosed, Overloaded

CALL = Call("answer", Chat.ask("q"))


async def jobs(count: int) -> list[Job[None]]:
    return [Job(CALL, None, 0.0) for _ in range(count)]


def came(inbox: Inbox[None], count: int) -> list[Job[None]]:
    """So many jobs that wait in the inbox by now, behind those that waited before."""
    waiting = asyncio.run(jobs(count))
    for job in waiting:
        inbox.put(job)
    return waiting


def test_first_come_first_served() -> None:
    inbox: Inbox[None] = Inbox([1], 3)
    waiting = came(inbox, 3)
    assert inbox.take(0, wait=True) == waiting
    assert inbox.take(0, wait=False) == []


def test_beyond_the_places_is_overloaded_and_a_place_that_was_left_is_free_again() -> None:
    inbox: Inbox[None] = Inbox([1], 2)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(inbox.place())
        with inbox.place(), pytest.raises(Overloaded, match="3 calls run or wait already"), inbox.place():
            pass
        stack.enter_context(inbox.place())
        assert inbox.taken == 3
    assert inbox.taken == 0


def test_a_cancelled_call_that_waits_is_forgotten() -> None:
    inbox: Inbox[None] = Inbox([1], 3)
    first, second = asyncio.run(jobs(2))
    inbox.put(first)
    inbox.put(second)
    inbox.cancel(first)
    assert first.cancelled
    assert inbox.take(0, wait=False) == [second]
    inbox.cancel(second)  # runs by now: only its flag is set
    assert second.cancelled


def test_closing_fails_those_that_wait_and_wakes_the_thread() -> None:
    inbox: Inbox[None] = Inbox([1], 5)
    taken: list[list[Job[None]] | None] = []
    thread = threading.Thread(target=lambda: taken.append(inbox.take(0, wait=True)))
    thread.start()
    inbox.close()
    thread.join()
    assert taken == [None]

    async def main() -> None:
        late: Inbox[None] = Inbox([1], 5)
        waiting = Job(CALL, None, 0.0)
        late.put(waiting)
        late.close()
        with pytest.raises(EngineClosed, match="closed while the call waited"):
            await waiting.receive()
        with pytest.raises(EngineClosed):
            late.put(Job(CALL, None, 0.0))
        with pytest.raises(EngineClosed), late.place():
            pass
        assert late.take(0, wait=False) is None

    asyncio.run(main())


def test_a_loop_is_woken_once_for_all_its_jobs() -> None:
    async def main() -> None:
        loop, woken = asyncio.get_running_loop(), 0
        wake = loop.call_soon_threadsafe

        def counted(*args: object) -> object:
            nonlocal woken
            woken += 1
            return wake(*args)  # type: ignore[arg-type]

        own = await jobs(3)
        loop.call_soon_threadsafe = counted  # type: ignore[method-assign, assignment]
        deliver([(job, Delta(str(i))) for i, job in enumerate(own)])
        assert [(await job.receive()).text for job in own] == ["0", "1", "2"]
        assert woken == 1

    asyncio.run(main())


def test_a_job_whose_loop_is_gone_counts_as_cancelled() -> None:
    (job,) = asyncio.run(jobs(1))
    job.send(Delta("x"))
    assert job.cancelled


def test_of_several_takers_each_gets_as_many_calls_as_the_others_have() -> None:
    inbox: Inbox[None] = Inbox([8, 8], 8)
    waiting = came(inbox, 7)
    assert inbox.take(0, wait=False, taker=0) == waiting[:4]
    assert inbox.take(4, wait=False, taker=0) == []  # the rest is the other one's, who comes later
    assert inbox.take(0, wait=False, taker=1) == waiting[4:]


def test_who_has_ended_calls_sooner_gets_the_next() -> None:
    inbox: Inbox[None] = Inbox([8, 8], 8)
    assert (inbox.take(5, wait=False, taker=0), inbox.take(2, wait=False, taker=1)) == ([], [])
    waiting = came(inbox, 5)
    assert inbox.take(5, wait=False, taker=0) == waiting[:1]
    assert inbox.take(2, wait=False, taker=1) == waiting[1:]


def test_nobody_gets_more_calls_than_fit_and_those_left_over_wait() -> None:
    inbox: Inbox[None] = Inbox([4, 3], 8)
    waiting = came(inbox, 6)
    assert inbox.take(2, wait=False, taker=1) == waiting[:1]
    assert inbox.take(3, wait=False, taker=1) == []
    assert inbox.take(0, wait=False, taker=0) == waiting[1:5]
    assert inbox.take(4, wait=False, taker=0) == []
    assert inbox.take(2, wait=True, taker=1) == waiting[5:]


def sleeping(inbox: Inbox[None], taken: list[list[Job[None]] | None], busy: int, taker: int, turn: int | None = None) -> threading.Thread:
    """A thread whose taker waits for calls by now, and writes down what it got."""
    thread = threading.Thread(target=lambda: taken.append(inbox.take(busy, wait=True, turn=turn, taker=taker)), daemon=True)
    before = len(inbox._idle) + inbox._patient
    thread.start()
    while len(inbox._idle) + inbox._patient == before and thread.is_alive():
        time.sleep(0.001)
    return thread


def test_of_two_calls_for_two_takers_that_wait_each_gets_one() -> None:
    inbox: Inbox[None] = Inbox([8, 8], 8)
    taken: list[list[Job[None]] | None] = []
    threads = [sleeping(inbox, taken, 0, taker) for taker in (1, 0)]
    with inbox._changed:  # both come before anybody looks
        waiting = came(inbox, 2)
    for thread in threads:
        thread.join(10)
    assert sorted(map(waiting.index, (job for jobs in taken for job in jobs or []))) == [0, 1]
    assert [len(jobs or []) for jobs in taken] == [1, 1]


def test_who_waits_for_anothers_turn_leaves_a_call_to_one_that_has_fewer_and_takes_it_when_that_has_more() -> None:
    inbox: Inbox[None] = Inbox([8, 8], 8)
    taken: list[list[Job[None]] | None] = []
    inbox.take(1, wait=False, taker=0)
    thread = sleeping(inbox, taken, 3, 1, inbox.turns)
    (first,) = came(inbox, 1)
    thread.join(0.05)
    assert thread.is_alive()
    with inbox._changed:
        others = came(inbox, 2)
    thread.join(10)
    assert taken == [[first]]
    assert inbox.take(1, wait=False, taker=0) == others


def test_who_waits_for_anothers_turn_is_woken_by_it_or_does_not_even_sleep() -> None:
    inbox: Inbox[None] = Inbox([8, 8], 8)
    taken: list[list[Job[None]] | None] = []
    thread = sleeping(inbox, taken, 0, 0, inbox.turns)
    inbox.turned()
    thread.join()
    assert inbox.take(0, wait=True, turn=0) == []  # the turn was taken before
    assert taken == [[]]


def test_of_idle_takers_the_first_one_goes_first_and_another_one_only_while_that_one_is_busy() -> None:
    inbox: Inbox[None] = Inbox([8, 8], 8)
    took: list[int] = []

    def work(taker: int) -> None:
        while inbox.take(0, wait=True, taker=taker) is not None:
            took.append(taker)
            until_seen.release()
            if len(took) == 21:
                busy.wait()

    busy, until_seen = threading.Event(), threading.Semaphore(0)
    threads = [threading.Thread(target=work, args=(taker,)) for taker in (1, 0)]
    for thread in threads:
        thread.start()
    while len(inbox._idle) < 2:
        time.sleep(0.001)
    for job in asyncio.run(jobs(22)):
        inbox.put(job)
        until_seen.acquire()
        while 0 not in inbox._idle and len(took) < 21:
            time.sleep(0.001)
    assert took == [0] * 21 + [1]
    busy.set()
    inbox.close()
    for thread in threads:
        thread.join()
