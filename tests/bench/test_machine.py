import json
import os
from mmap import mmap
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from llava.bench import machine
from llava.bench.machine import Others, PeakMemory, describe, measured_rates, resident

CPU = torch.device("cpu")


def test_rates_are_measured_and_positive() -> None:
    rates = measured_rates(CPU, torch.float32, seconds=0.01)
    assert rates.operations > 1e8
    assert rates.bytes > 1e8


def test_the_machine_is_described_in_json() -> None:
    said = json.loads(json.dumps(describe(CPU, torch.bfloat16)))
    assert (said["device"], said["dtype"], said["card"]) == ("cpu", "bfloat16", None)
    assert said["torch"] == torch.__version__


def test_what_others_took_of_all_cores_is_what_was_worked_less_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(machine, "_STAT", tmp_path / "stat")
    monkeypatch.setattr(machine, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(os, "cpu_count", lambda: 4)

    def worked(by_all: int, by_this: float) -> None:
        tick = os.sysconf("SC_CLK_TCK")
        (tmp_path / "stat").write_text(f"cpu  {by_all * tick - 3} 1 1 {999 * tick} {999 * tick} 0 1 0 0 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n")
        monkeypatch.setattr(os, "times", lambda: os.times_result((by_this, 1.0, 2.0, 3.0, clock[0])))

    worked(50, 5)
    others = Others()
    clock[0] += 10
    worked(50 + 8 + 20, 5 + 8)
    assert others.share() == pytest.approx(0.5)
    worked(50 + 8, 5 + 9)  # ticks are coarse
    assert others.share() == 0


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="the system does not tell")
def test_the_systems_own_count_can_be_read() -> None:
    spent = machine._spent_elsewhere()
    assert spent is not None
    assert spent > 0


def test_a_system_that_does_not_tell_of_others_gives_no_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_STAT", Path("/no/such/file"))
    assert Others().share() is None


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak can be reset on Linux only")
def test_peak_memory_is_that_of_the_block() -> None:
    with PeakMemory(CPU) as large, mmap(-1, 64 * 2**20) as block:  # torch may use memory again that the process has kept
        for page in range(0, len(block), 4096):
            block[page] = 1
    with PeakMemory(CPU) as small:
        pass
    assert large.mib > small.mib + 32
    assert small.mib == pytest.approx(resident(), abs=16)


def test_without_proc_the_peak_of_the_process_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_STATUS", Path("/no/such/file"))
    assert resident() > 10
