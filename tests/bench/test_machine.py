import json
from pathlib import Path

import pytest
import torch

from llava.bench import machine
from llava.bench.machine import PeakMemory, describe, measured_rates, resident

CPU = torch.device("cpu")


def test_rates_are_measured_and_positive() -> None:
    rates = measured_rates(CPU, torch.float32, seconds=0.01)
    assert rates.operations > 1e8
    assert rates.bytes > 1e8


def test_the_machine_is_described_in_json() -> None:
    said = json.loads(json.dumps(describe(CPU, torch.bfloat16)))
    assert (said["device"], said["dtype"], said["card"]) == ("cpu", "bfloat16", None)
    assert said["torch"] == torch.__version__


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak can be reset on Linux only")
def test_peak_memory_is_that_of_the_block() -> None:
    with PeakMemory(CPU) as large:
        block = torch.ones(64 * 2**18)  # 64 MiB
        del block
    with PeakMemory(CPU) as small:
        pass
    assert large.mib > small.mib + 32
    assert small.mib == pytest.approx(resident(), abs=16)


def test_without_proc_the_peak_of_the_process_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_STATUS", Path("/no/such/file"))
    assert resident() > 10
