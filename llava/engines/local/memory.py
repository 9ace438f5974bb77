"""How much memory there is for keys and values, and how running out of it looks."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

import torch

GIB = 2**30
_CPU_SHARE, _CPU_MOST = 0.25, 4 * GIB  # of a machine that also does other things
_CPU_LEAST = GIB // 2  # of what a model may keep: prefixes are worth it where few calls run together
_CUDA_SHARE = 0.8  # of what the weights have left; the rest is for activations
_LIMITS = ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")  # a container's; without one no number, or a huge one


def default_budget(device: torch.device, full: int) -> int:
    """Bytes of KV that an engine on `device` may hold, from what is free now; `full`: those that can be filled by all calls that
    run together, and by images beside them."""
    if device.type == "cuda":
        return int(_CUDA_SHARE * torch.cuda.mem_get_info(device)[0])
    # Memory that a process never had is dear (on a virtual machine ten to twenty times what it costs to use again), and images come again
    # soon or not at all: a small model would take all that is allowed, for pictures of long ago.
    return min(_CPU_MOST, int(_CPU_SHARE * free_bytes()), max(_CPU_LEAST, full))


def free_bytes(root: Path = Path("/")) -> int:
    """Of main memory, within a container's limits."""
    # Not what Linux calls free: reading a checkpoint fills that with pages which it gives back when they are wanted.
    available = re.search(r"MemAvailable:\s*(\d+) kB", _text(root / "proc/meminfo"))
    found = [int(available[1]) * 1024] if available else _physical_bytes()
    found += [int(limit) for path in _LIMITS if (limit := _text(root / path).strip()).isdigit()]
    return min(found, default=_CPU_MOST)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # another system has no such file
        return ""


def _physical_bytes() -> list[int]:
    known = getattr(os, "sysconf_names", {})  # Windows has none
    return [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")] if "SC_PHYS_PAGES" in known else []


def enough(size: int) -> str:
    """The GiB of so many bytes in four digits, rounded up: who gives that many has enough."""
    step = 10.0 ** (math.floor(math.log10(size / GIB)) - 3)
    return f"{math.ceil(size / GIB / step) * step:.4g}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a failure of torch says that memory has run out."""
    said_by_cpu = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    return said_by_cpu or isinstance(error, torch.OutOfMemoryError | MemoryError)


@dataclass(frozen=True, slots=True)
class Stats:
    """What an engine holds and has saved, since it was opened. Models that are run without KV slots save nothing.

    `image_hits` and `image_misses` count images of calls whose keys and values were there, or had to be computed (of an image that occurs
    twice in a call, each place counts); `reused_tokens` prompt positions that were not computed again; `evictions` what had to make
    room. `slot_bytes` are allocated for running calls, `kept_bytes` hold what is kept for later ones.
    """

    running: int = 0
    waiting: int = 0
    image_hits: int = 0
    image_misses: int = 0
    reused_tokens: int = 0
    evictions: int = 0
    slot_bytes: int = 0
    kept_bytes: int = 0
