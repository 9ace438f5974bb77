"""Which workers there are, and which of them takes the next call. The controller's core: no socket, no thread, no clock of its own.

Every method that needs the time is given it (seconds that only grow). A worker that stops beating is not looked at any more; nothing has
to run in the background for that. For one thread.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from llava.cluster.wire import Status
from llava.constants import CONTROLLER_HEART_BEAT_EXPIRATION
from llava.errors import Overloaded, unknown

MAX_WORKERS = 256
SLACK = 1.25  # a worker may have so many times its fair share of calls before an image goes to another one,
FREE = 8  # and so many calls in any case: a few share a batch, and to spread them would only cost their prefixes


@dataclass(eq=False)
class Worker:
    """One worker. `queue_length` is what it said last, plus what was sent to it since."""

    name: str  # its address
    status: Status
    beats: bool  # whether it has promised to
    seen: float
    queue_length: int = 0
    suspected: int = 0  # larger than 0 where it could not be reached since it was last heard of; of two, the larger one's was later

    @property
    def suspect(self) -> bool:
        """Whether it could not be reached since it was last heard of."""
        return self.suspected > 0

    @property
    def load(self) -> float:
        """Calls in relation to speed."""
        return self.queue_length / self.status.speed


Dispatch = Callable[[Sequence[Worker], str | None, random.Random], Worker]


def lottery(workers: Sequence[Worker], _key: str | None, rng: random.Random) -> Worker:
    """Any of them, faster ones more often (LLaVA's name)."""
    return rng.choices(workers, [worker.status.speed for worker in workers])[0]


def shortest_queue(workers: Sequence[Worker], _key: str | None, _rng: random.Random) -> Worker:
    """The one with the least to do for its speed (LLaVA's name)."""
    return min(workers, key=lambda worker: worker.load)


def prefix_affinity(workers: Sequence[Worker], key: str | None, rng: random.Random) -> Worker:
    """The same `key` (an image) to the same worker, whose prefix cache then holds it, as long as that one is not busier than others.

    Rendezvous hashing with bounded loads (Mirrokni et al., 2018): each key ranks the workers in an order of its own, and the first that
    is below FREE calls or SLACK times its fair share of all calls takes it. Without a key: the shortest queue.
    """
    if key is None:
        return shortest_queue(workers, None, rng)
    calls, speed = sum(worker.queue_length for worker in workers) + 1, sum(worker.status.speed for worker in workers)
    ranked = sorted(workers, key=lambda worker: _rank(key, worker), reverse=True)
    return next(worker for worker in ranked if worker.queue_length < max(FREE, math.ceil(SLACK * calls * worker.status.speed / speed)))


def _rank(key: str, worker: Worker) -> float:
    """A worker's place for a key: weighted rendezvous hashing, so that faster workers get more keys."""
    digest = hashlib.blake2b(f"{key}\n{worker.name}".encode(), digest_size=8).digest()
    return -worker.status.speed / math.log(((int.from_bytes(digest) >> 12) + 0.5) / 2**52)  # 52 bits: more would round up to 1


DISPATCH: Mapping[str, Dispatch] = {"lottery": lottery, "shortest_queue": shortest_queue, "prefix_affinity": prefix_affinity}


def _likely(workers: Sequence[Worker]) -> list[Worker]:
    """Whom to ask where none could be reached: of those that beat, the half of whom that was said earlier. They may be back, and not have
    beaten yet. Of others nobody ever takes it back."""
    beating = sorted((worker for worker in workers if worker.beats), key=lambda worker: worker.suspected)
    late = beating[(len(beating) + 1) // 2 :]
    return [worker for worker in workers if worker not in late]


class Registry:
    """The table of workers. `dispatch` is a name from DISPATCH; `expiry` seconds without a beat end a worker's membership."""

    def __init__(
        self, dispatch: str = "lottery", *, expiry: float = CONTROLLER_HEART_BEAT_EXPIRATION, rng: random.Random | None = None
    ) -> None:
        if dispatch not in DISPATCH:
            raise unknown("dispatch method", dispatch, DISPATCH)
        self._dispatch = DISPATCH[dispatch]
        self._expiry = expiry
        self._rng = rng or random.Random()
        self._workers: dict[str, Worker] = {}
        self._suspicions = itertools.count(1)

    def register(self, name: str, status: Status, now: float, beats: bool = True) -> None:
        """Take a worker in, or take over its new status; raises `Overloaded` when the table is full."""
        self._forget(now)
        if name not in self._workers and len(self._workers) >= MAX_WORKERS:
            raise Overloaded(f"The controller has {MAX_WORKERS} workers, and takes no more.")
        self._workers[name] = Worker(name, status, beats, now, status.queue_length)

    def replace(self, statuses: Mapping[str, Status], now: float) -> None:
        """Only the workers of `statuses` stay, with these statuses."""
        self._forget(now)
        kept = {name: worker.beats for name, worker in self._workers.items() if name in statuses}
        self._workers = {name: Worker(name, statuses[name], beats, now, statuses[name].queue_length) for name, beats in kept.items()}

    def remove(self, name: str) -> bool:
        """A worker says good-bye; False if it is not known."""
        return self._workers.pop(name, None) is not None

    def heart_beat(self, name: str, queue_length: int, now: float) -> bool:
        """A worker lives; False if it is not known and has to register."""
        self._forget(now)
        worker = self._workers.get(name)
        if worker is None:
            return False
        worker.seen, worker.queue_length, worker.suspected = now, queue_length, 0
        return True

    def suspect(self, name: str) -> None:
        """A worker could not be reached: others are asked first until it beats again."""
        if name in self._workers:
            self._workers[name].suspected = next(self._suspicions)

    def pick(self, model: str, now: float, *, key: str | None = None, avoid: Collection[str] = ()) -> str | None:
        """The address of the worker that takes the next call for `model`, None when there is none (besides those to `avoid`)."""
        serving = [worker for worker in self.workers(now) if model in worker.status.model_names and worker.name not in avoid]
        if not serving:
            return None
        chosen = self._dispatch([worker for worker in serving if not worker.suspect] or _likely(serving), key, self._rng)
        chosen.queue_length += 1
        return chosen.name

    def models(self, now: float) -> list[str]:
        """The names of all models that are served, sorted."""
        return sorted({name for worker in self.workers(now) for name in worker.status.model_names})

    def workers(self, now: float) -> list[Worker]:
        """All members, in the order in which they came."""
        self._forget(now)
        return list(self._workers.values())

    def status(self, now: float) -> Status:
        """All workers as if they were one; without workers, its `model_names` are empty."""
        members = self.workers(now)
        return Status(
            tuple(self.models(now)), sum(worker.status.speed for worker in members), sum(worker.queue_length for worker in members)
        )

    def _forget(self, now: float) -> None:
        gone = [worker.name for worker in self._workers.values() if worker.beats and now - worker.seen > self._expiry]
        for name in gone:
            del self._workers[name]
