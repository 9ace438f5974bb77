"""Who shares operations among cores, and who does not."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from llava.engines.local import cores

TASKS = Path("/proc/self/task")


def test_one_core_is_for_this_thread_and_for_the_block_only() -> None:
    before, beside = torch.get_num_threads(), list[int]()
    try:
        torch.set_num_threads(3)
        with cores.one():
            assert torch.get_num_threads() == 1
            thread = threading.Thread(target=lambda: beside.append(torch.get_num_threads()))
            thread.start()
            thread.join()
        assert (torch.get_num_threads(), beside) == (3, [3])
    finally:
        torch.set_num_threads(before)


def test_threads_that_load_at_the_same_time_leave_the_number_as_it_was() -> None:
    before, seen = torch.get_num_threads(), set[int]()

    def load() -> None:
        with cores.one():
            pass
        seen.add(torch.get_num_threads())

    try:
        torch.set_num_threads(3)
        for _ in range(100):
            threads = [threading.Thread(target=load) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert seen == {3}
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not TASKS.exists(), reason="there is no list of the system's threads here")
def test_a_small_model_is_loaded_and_answers_without_helpers_of_torch() -> None:
    program = """
import asyncio, os, threading, torch
from llava.chat import Call, Chat, Image, Sampling
from llava.engines import connect
from llava.engines.base import generate

def helpers():
    return len(os.listdir("/proc/self/task")) - threading.active_count()

async def main(engine):
    await generate(engine, Call("answer", Chat.ask("What is this?", [Image.open("examples/bomb.png")]), Sampling(max_tokens=4)))
    print(helpers() - before)
    await engine.close()

torch.set_num_threads(33)  # a thread that shares one operation gets 32 helpers
before = helpers()
asyncio.run(main(connect("mini")))
"""
    root = Path(__file__).parents[3]
    assert int(subprocess.run([sys.executable, "-c", program], cwd=root, check=True, capture_output=True, text=True).stdout) < 32
