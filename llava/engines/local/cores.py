"""Several cores for a small model: its operations are too short to be shared, so each core takes calls of its own.

Knows no model, no call and no KV: only work that falls into parts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import accumulate, pairwise
from typing import TypeVar

import torch
from torch import Tensor

from llava.model.loaded import Loaded

_SMALL = 32 * 2**20  # bytes of weights that a processor keeps close to each core; of larger ones, several readers take turns
WORTH = 128  # prompt positions that are worth a core: with fewer, waking its thread costs more than it brings

P = TypeVar("P")
R = TypeVar("R")


class Cores:
    """`count` threads of one core each, the caller's among them. With one, all is done where it is called, as torch does it.

    No part is smaller than `least`, of what `parts` measures: about the cost of so many prompt positions.
    """

    def __init__(self, count: int, least: int = WORTH) -> None:
        self._count = count
        self._least = least
        self._others = ThreadPoolExecutor(count - 1, "llava-core", initializer=_alone) if count > 1 else None

    def parts(self, sizes: Sequence[int]) -> list[slice]:
        """Neighbours among items of these `sizes` that a core each takes, in at most `count` parts of about the same size."""
        total = sum(sizes)
        count = max(min(self._count, total // self._least, len(sizes)), 1)
        ends = [0]
        for i, done in enumerate(accumulate(sizes), 1):
            if done * count >= total * len(ends):
                ends.append(i)
        return [slice(begin, end) for begin, end in pairwise(ends) if begin < end]

    def map(self, work: Callable[[P], R], parts: Sequence[P]) -> list[R]:
        """`work` of every part, at once. Raises what one of them raised, when all have ended."""
        if self._others is None:
            return [work(part) for part in parts]
        _alone()
        first, *rest = parts
        running = [self._others.submit(_inferred, work, part) for part in rest]
        try:
            done = [work(first)]
        finally:  # nothing goes on behind the caller's back
            wait(running)
        return done + [future.result() for future in running]

    def cat(self, work: Callable[[P], Tensor], parts: Sequence[P]) -> Tensor:
        """`map`, one behind another."""
        found = self.map(work, parts)
        return found[0] if len(found) == 1 else torch.cat(found)

    def close(self) -> None:
        """Let the threads go; nothing comes after it."""
        if self._others is not None:
            self._others.shutdown(wait=False)


def cores_for(loaded: Loaded) -> Cores:
    """As many as torch may use, for a model on the CPU whose decoder is small; one for all others."""
    weights: int = sum(weight.nbytes for weight in loaded.model.get_decoder().parameters())
    return Cores(torch.get_num_threads() if loaded.device.type == "cpu" and weights <= _SMALL else 1)


def _inferred(work: Callable[[P], R], part: P) -> R:
    with torch.inference_mode():  # which holds for a thread
        return work(part)


def _alone() -> None:
    """Operations of this thread use one core. Torch keeps the number for each thread, and the last one set for threads to come."""
    others = torch.get_num_threads()
    if others == 1:
        return
    torch.set_num_threads(1)
    restore = threading.Thread(target=torch.set_num_threads, args=(others,))
    restore.start()
    restore.join()
