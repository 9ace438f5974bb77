"""The machine: what it is, how fast it multiplies matrices and reads memory, how much memory this process takes. Knows no model."""

from __future__ import annotations

import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import torch
import transformers
from torch import nn

from llava import __version__
from llava.engines.local.packed import Kernel, fastest, joined

T = TypeVar("T")

_STATUS = Path("/proc/self/status")
_STAT = Path("/proc/stat")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


@dataclass(frozen=True, slots=True)
class Rates:
    """Measured, at best: `operations` (multiplications and additions) and `bytes` of memory traffic a second."""

    operations: float
    bytes: float


def measured_rates(device: torch.device, dtype: torch.dtype, seconds: float) -> Rates:
    """The best of many multiplications of square matrices, in each way that the engine has, and of many passes over memory that no cache
    holds.

    Memory is read once by a matrix-vector product and read and written by a copy; the faster of the two counts.
    """
    side, wide = (8192, 32768) if device.type == "cuda" else (1024, 8192)
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    product = _best(lambda: torch.mm(a, b), device, seconds)
    if (kernel := fastest(device, dtype)) is not Kernel.TORCH:
        packed = joined([nn.Linear(side, side, bias=False)], kernel)
        product = min(product, _best(lambda: packed(a), device, seconds))
    matrix = torch.ones(wide, wide, device=device, dtype=dtype)
    vector, other = matrix[0].clone(), torch.empty_like(matrix)
    read = _best(lambda: torch.mv(matrix, vector), device, seconds)
    copied = _best(lambda: other.copy_(matrix), device, seconds)
    return Rates(2 * side**3 / product, matrix.nbytes * max(1 / read, 2 / copied))


def _best(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    best, end = float("inf"), time.perf_counter() + seconds
    while True:
        begin = time.perf_counter()
        work()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        now = time.perf_counter()
        best = min(best, now - begin)
        if now > end:
            return best


def apart(work: Callable[[], T]) -> T:
    """What `work` gives, on a thread of its own: the helpers that torch makes for a thread end with it. While they wait for another one,
    nobody else's operations are shared at full speed (see `llava.engines.local.cores`). Ctrl-C does not wait for it."""
    done: Future[T] = Future()

    def to_end() -> None:
        try:
            done.set_result(work())
        except BaseException as failure:  # noqa: BLE001 - raised where it is waited for
            done.set_exception(failure)

    thread = threading.Thread(target=to_end, daemon=True)
    thread.start()
    thread.join()
    return done.result()


def describe(device: torch.device, dtype: torch.dtype) -> dict[str, object]:
    """Processor or card, threads and versions."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "card": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "device": str(device),
        "dtype": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "llava": __version__,
    }


def said(machine: Mapping[str, object]) -> str:
    """What `describe` found, in short."""
    where = machine["card"] or f"{machine['processor']}, {machine['threads']} threads"
    return f"{where}, {machine['dtype']}, torch {machine['torch']}, transformers {machine['transformers']}"


def now() -> str:
    """The moment, to the second, as a report tells it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


class Others:
    """What other processes take of the processors from now on: timings that were made beside them are worth little."""

    def __init__(self) -> None:
        self._begin, self._spent = time.perf_counter(), _spent_elsewhere()

    def share(self) -> float | None:
        """Of all cores, from 0 to 1; None where the system does not tell (all but Linux)."""
        now, spent = time.perf_counter(), _spent_elsewhere()
        if spent is None or self._spent is None or now <= self._begin:
            return None
        return min(max((spent - self._spent) / (now - self._begin) / (os.cpu_count() or 1), 0.0), 1.0)


def _spent_elsewhere() -> float | None:
    """Seconds that all cores together have worked since the system began, but for this process and its children."""
    if not _STAT.exists():
        return None
    user, nice, system, _idle, _waiting, *interrupts = map(int, _STAT.read_text().partition("\n")[0].split()[1:9])
    own = os.times()
    ticks = user + nice + system + sum(interrupts)
    return ticks / os.sysconf("SC_CLK_TCK") - (own.user + own.system + own.children_user + own.children_system)


class PeakMemory:
    """The most memory that a block of work took, in `mib`: on a card what torch had allocated there, else this process's resident memory.

    Where the system's count cannot be reset (all but Linux), the peak is that of the whole process so far.
    """

    mib = 0.0

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __enter__(self) -> PeakMemory:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        elif os.access(_CLEAR, os.W_OK):
            _CLEAR.write_text(_RESET_PEAK)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        on_card = self._device.type == "cuda"
        self.mib = torch.cuda.max_memory_allocated(self._device) / 2**20 if on_card else resident("VmHWM")


def resident(field: str = "VmRSS") -> float:
    """MiB of this process's resident memory now, or (`VmHWM`) at its peak; where there is no /proc, always the peak."""
    if _STATUS.exists():
        lines = _STATUS.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 2**10
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
