"""How many processor cores the operations of a thread use.

OpenMP, with which torch shares an operation among cores, gives every thread that has ever shared one a group of helpers, until that thread
ends. GNU's lets helpers watch for work only while all groups together have no more threads than there are cores; beyond, the system has
to wake them for each operation, and the steps of an answer take two to three times as long. Only one thread of an engine shares, therefore,
and who loads or prepares does not.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_SETTING = threading.Lock()


def use(cores: int, others: int) -> None:
    """Operations of this thread use so many cores, those of threads to come `others`: torch keeps the number for each thread, and the last
    one set for threads to come."""
    with _SETTING:
        torch.get_num_threads()  # a thread's first question sets its number, to the last one that was set anywhere
        torch.set_num_threads(cores)
        restore = threading.Thread(target=torch.set_num_threads, args=(others,))
        restore.start()
        restore.join()


@contextmanager
def one() -> Iterator[None]:
    """Operations of this thread use one core during the block."""
    with _SETTING:  # else it could be the number that another thread sets for itself just now
        before = torch.get_num_threads()
    try:
        use(1, before)
        yield
    finally:
        use(before, before)
