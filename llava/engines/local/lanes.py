"""Model threads: how many an engine has, and the life of each.

The operations of a small model are too short for cores to share. There every core has a lane: a model thread with calls of its own, which
reads, decodes and speaks for them alone. Lanes share one line of waiting calls, the weights and what is kept of images; each has its rows.
All other models have one lane, and torch spreads each operation over the cores.
"""

from __future__ import annotations

import threading
from typing import Any

import torch

from llava.engines.local.batcher import Batcher
from llava.engines.local.foreign import ForeignRunner
from llava.engines.local.inbox import Inbox, Job
from llava.engines.local.runner import Shared, SlotRunner, fits
from llava.engines.local.scheduler import Scheduler
from llava.model.loaded import Loaded

_STEP_OPERATIONS = 5 * 10**9  # about a twentieth of a second on a small machine
_SETTING = threading.Lock()


def lanes_for(loaded: Loaded, max_batch: int, chunk: int | None, budget: int, most: int | None = None) -> list[Batcher[Any]]:
    """The lanes of an engine, at most `most`: the right runners for the model, with their policy. `budget` in bytes, of all of them."""
    if not fits(loaded):
        return [Batcher(loaded, ForeignRunner(loaded), Scheduler(max_batch, None))]  # prompts are read whole, all of a group at once
    shared = Shared.of(loaded, budget)
    runner, chunk = SlotRunner(shared, budget), chunk or default_chunk(loaded)
    cores = torch.get_num_threads() if shared.small else 1
    longest = runner.slots.needed(1, loaded.context_len)  # any call must find room in any lane
    count = max(min(cores if most is None else most, max_batch, budget // longest), 1)
    runners = [runner] if count == 1 else [SlotRunner(shared, budget // count) for _ in range(count)]
    return [Batcher(loaded, one, Scheduler((max_batch + i) // count, chunk)) for i, one in enumerate(runners)]


def default_chunk(loaded: Loaded) -> int:
    """Prompt positions that a step may read: a small model reads many prompts in the time in which a large one reads a part of one."""
    weights: int = sum(weight.numel() for weight in loaded.model.get_decoder().parameters())
    return min(max(_STEP_OPERATIONS // (2 * weights), 256), 2048)


def begin(lanes: list[Batcher[Any]], inbox: Inbox[Any]) -> list[threading.Thread]:
    """A running thread for each lane; all end when the inbox is closed."""
    cores = torch.get_num_threads()
    alone = cores if len(lanes) > 1 else None
    threads = [threading.Thread(target=_work, args=(lane, inbox, alone), name="llava-model", daemon=True) for lane in lanes]
    for thread in threads:
        thread.start()
    return threads


def _work(lane: Batcher[Any], inbox: Inbox[Any], others: int | None) -> None:
    """A model thread's life. `others`: cores for operations of all other threads, where those of this one shall use one."""
    came: list[Job[Any]] = []
    try:
        if others is not None:
            _one_core(others)
        turn, worked = inbox.turns, False
        while (jobs := inbox.take(lane.scheduler.places, wait=not worked, turn=None if lane.scheduler.idle else turn)) is not None:
            came = jobs
            while came:
                lane.add(came[0])
                del came[0]  # the thread may sleep for long: keep no images alive
            turn = inbox.turns
            if worked := lane.step():
                inbox.turned()
    except BaseException as failure:  # outside of any call: what frees rows, or is ours
        inbox.close(lost=f"The model of this process has failed for good ({type(failure).__name__}): start it again.")
        raise
    finally:  # whatever ends it, nobody waits for it in vain
        inbox.close()
        for job in came:
            job.send(inbox.ended("The engine was closed while the call waited."))
        lane.close(lambda: inbox.ended("The engine was closed during the call."))


def _one_core(others: int) -> None:
    """Operations of this thread use one core. Torch keeps the number for each thread, and the last one set for threads to come."""
    with _SETTING:
        torch.get_num_threads()  # a thread's first question sets its number, to the last one that was set anywhere
        torch.set_num_threads(1)
        restore = threading.Thread(target=torch.set_num_threads, args=(others,))
        restore.start()
        restore.join()
