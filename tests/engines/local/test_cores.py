"""Work that several cores share: how it is cut, where it runs, and what becomes of a failure."""

import threading
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llava.engines.local.cores import Cores, cores_for
from llava.model.loaded import Loaded


@given(count=st.integers(1, 5), least=st.integers(1, 200), sizes=st.lists(st.integers(1, 300), min_size=1, max_size=40))
def test_parts_hold_every_item_once_in_order_and_are_about_equal(count: int, least: int, sizes: list[int]) -> None:
    parts = Cores(count, least).parts(sizes)
    assert [size for part in parts for size in sizes[part]] == sizes
    assert 1 <= len(parts) <= count
    assert all(sizes[part] for part in parts)
    if len(parts) > 1:
        assert sum(sizes) >= least * len(parts)
        assert max(sum(sizes[part]) for part in parts) <= sum(sizes) / len(parts) + 2 * max(sizes)


def test_little_work_stays_in_one_part() -> None:
    assert Cores(4, 128).parts([100, 100]) == [slice(0, 2)]
    assert Cores(4, 128).parts([128, 128]) == [slice(0, 1), slice(1, 2)]


def test_each_part_has_a_thread_of_one_core_and_others_keep_theirs() -> None:
    def work(part: int) -> tuple[int, str, int, bool]:
        time.sleep(0.05)  # long enough for none to do two
        return part, threading.current_thread().name, torch.get_num_threads(), torch.is_inference_mode_enabled()

    def model_thread() -> None:
        with torch.inference_mode():
            found.extend(cores.map(work, [1, 2, 3]))
        cores.close()

    def later() -> None:
        after.append(torch.get_num_threads())

    cores, found, after = Cores(3), list[tuple[int, str, int, bool]](), list[int]()
    torch.set_num_threads(3)
    for target in (model_thread, later):
        thread = threading.Thread(target=target, name="model")
        thread.start()
        thread.join()
    assert torch.get_num_threads() == 3
    assert [part for part, *_ in found] == [1, 2, 3]
    assert [name.split("_")[0] for _, name, *_ in found] == ["model", "llava-core", "llava-core"]
    assert len({name for _, name, *_ in found}) == 3
    assert all(threads == 1 and inferring for *_, threads, inferring in found)
    assert after == [3]


@pytest.mark.parametrize("bad", [0, 1])
def test_a_failure_comes_when_the_other_part_has_ended(bad: int) -> None:
    ended = []

    def work(part: int) -> int:
        if part == bad:
            raise ValueError("no memory")
        time.sleep(0.1)
        ended.append(part)
        return part

    cores = Cores(2)
    with pytest.raises(ValueError, match="no memory"):
        cores.map(work, [0, 1])
    assert ended == [1 - bad]
    cores.close()


def test_a_small_model_uses_the_cores_that_torch_may_use(llava: Loaded) -> None:
    for count in (1, 2):
        torch.set_num_threads(count)
        assert len(cores_for(llava).parts([1000] * 8)) == count


def test_pieces_come_one_behind_another() -> None:
    cores = Cores(2, least=1)
    data = torch.arange(10)
    assert torch.equal(cores.cat(lambda part: data[part] * 2, cores.parts([1] * 10)), data * 2)
    cores.close()
