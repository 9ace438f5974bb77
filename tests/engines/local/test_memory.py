"""How much there is for keys and values."""

from pathlib import Path

import pytest
import torch

from llava.engines.local.memory import GIB, default_budget, free_bytes


@pytest.mark.parametrize("free", [0.5, 100])
def test_the_default_budget_is_a_part_of_what_is_free(monkeypatch: pytest.MonkeyPatch, free: float) -> None:
    monkeypatch.setattr("llava.engines.local.memory.free_bytes", lambda: int(free * GIB))
    assert default_budget(torch.device("cpu"), 100 * GIB) == min(free / 4, 4) * GIB


@pytest.mark.parametrize(("full", "budget"), [(1, GIB // 2), (GIB, GIB), (3 * GIB, 2 * GIB)])
def test_a_small_model_takes_no_more_than_its_calls_can_fill(monkeypatch: pytest.MonkeyPatch, full: int, budget: int) -> None:
    monkeypatch.setattr("llava.engines.local.memory.free_bytes", lambda: 8 * GIB)
    assert default_budget(torch.device("cpu"), full) == budget


@pytest.mark.parametrize(
    ("limits", "free"),
    [
        ({}, 8 * GIB),
        ({"memory.max": "max\n", "memory/memory.limit_in_bytes": "9223372036854771712\n"}, 8 * GIB),
        ({"memory.max": f"{2 * GIB}\n"}, 2 * GIB),
        ({"memory/memory.limit_in_bytes": f"{3 * GIB}\n"}, 3 * GIB),
    ],
)
def test_free_is_what_programs_can_have_within_a_containers_limit(tmp_path: Path, limits: dict[str, str], free: int) -> None:
    """A machine that has just read a checkpoint has hardly a free page, and nearly all of its memory to give."""
    files = {"proc/meminfo": f"MemTotal: 99999999 kB\nMemFree:   1024 kB\nMemAvailable:  {8 * 2**20} kB\n"}
    files |= {f"sys/fs/cgroup/{name}": text for name, text in limits.items()}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert free_bytes(tmp_path) == free


def test_a_system_without_such_files_is_asked_for_its_whole_memory(tmp_path: Path) -> None:
    assert free_bytes(tmp_path) > GIB / 4
