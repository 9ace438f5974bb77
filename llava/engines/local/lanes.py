"""Model threads: how many an engine has, and the life of each.

Cores that share an operation wait for each other at its end. Where that costs more than reading the weights once for each core, every core
has a lane: a model thread with calls of its own, which reads, decodes and speaks for them alone. Lanes share one line of waiting calls, the
weights and what is kept of images; each has its rows. The first lane has all cores while the others are idle, unless the model is so small
that its operations are too short for that. Large models have one lane, and torch spreads each operation over the cores.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import torch

from llava.engines.local import cores as processor
from llava.engines.local.batcher import Batcher
from llava.engines.local.foreign import ForeignRunner
from llava.engines.local.inbox import Inbox, Job
from llava.engines.local.memory import default_budget
from llava.engines.local.runner import ROWS, Shared, SlotRunner, fits, slots_for
from llava.engines.local.scheduler import Scheduler
from llava.engines.local.scripted import as_written
from llava.model.loaded import Loaded

_FEW = 4  # calls whose keys and values are worth keeping, however few run together
_STEP_OPERATIONS = 5 * 10**9  # about a twentieth of a second on a small machine


def lanes_for(loaded: Loaded, max_batch: int, chunk: int | None, budget: int | None, most: int | None = None) -> list[Batcher[Any]]:
    """The lanes of an engine, at most `most`: the right runners for the model, with their policy. `budget` in bytes, of all of them; None
    is what suits model and machine."""
    if not fits(loaded):
        return [Batcher(loaded, ForeignRunner(loaded), Scheduler(max_batch, None))]  # prompts are read whole, all of a group at once
    longest = slots_for(loaded).needed(1, loaded.context_len)  # any call must find room in any lane
    budget = default_budget(loaded.device, math.ceil(max(max_batch, _FEW) * longest / ROWS)) if budget is None else budget
    with processor.one():
        shared = Shared.of(loaded, budget)
    cores, chunk = torch.get_num_threads() if shared.light else 1, chunk or default_chunk(loaded)
    count = max(min(cores if most is None else most, max_batch, budget // longest), 1)
    return [Batcher(loaded, SlotRunner(shared, budget // count), Scheduler((max_batch + i) // count, chunk)) for i in range(count)]


def default_chunk(loaded: Loaded) -> int:
    """Prompt positions that a step may read: a small model reads many prompts in the time in which a large one reads a part of one."""
    weights: int = sum(weight.numel() for weight in loaded.model.get_decoder().parameters())
    return min(max(_STEP_OPERATIONS // (2 * weights), 256), 2048)


def begin(lanes: list[Batcher[Any]], inbox: Inbox[Any]) -> list[threading.Thread]:
    """A running thread for each lane; all end when the inbox is closed."""
    cores, first = torch.get_num_threads(), lanes[0].runner
    alone = 1 if isinstance(first, SlotRunner) and first.small and len(lanes) > 1 else cores
    threads = [
        threading.Thread(target=_work, args=(i, lanes, inbox, cores, alone), name="llava-model", daemon=True) for i in range(len(lanes))
    ]
    for thread in threads:
        thread.start()
    return threads


def _work(number: int, lanes: list[Batcher[Any]], inbox: Inbox[Any], cores: int, alone: int) -> None:
    """The life of the model thread of lane `number`."""
    with as_written():
        _serve(number, lanes, inbox, cores, alone)


def _serve(number: int, lanes: list[Batcher[Any]], inbox: Inbox[Any], cores: int, alone: int) -> None:
    """Do the calls of lane `number`, for whose operations there are `cores`; while the other lanes are idle, the first one uses `alone` of
    them, else each uses one."""
    lane, others = lanes[number], [*lanes[:number], *lanes[number + 1 :]]
    came: list[Job[Any]] = []
    try:
        used, turn, worked = None, inbox.turns, False
        while (jobs := inbox.take(lane.scheduler.busy, not worked, None if lane.scheduler.idle else turn, number)) is not None:
            came = jobs
            while came:
                lane.accept(came[0])
                del came[0]  # the thread may sleep for long: keep no images alive
            turn = inbox.turns
            wanted = alone if number == 0 and all(other.scheduler.idle for other in others) else 1  # it may hear of their calls a step late
            if wanted != used:
                processor.use(wanted, cores)
                used = wanted
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
