"""`llava serve` as people start it: three processes, one command, one end."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from llava import cli
from llava.serve import launch, model_worker
from llava.serve.gateway.content import Limits
from llava.serve.gateway.service import Config
from llava.serve.worker import Bounds
from tests.loopback import free_port
from tests.serve.gateway.running import until
from tests.serve.processes import PATIENCE, ROOT, Process, client, module, process, streamed, until_ready

KEY = "sk-a-good-key"


@contextmanager
def serving(log: Path, port: int) -> Iterator[tuple[Process, list[psutil.Process]]]:
    """`llava serve` over a scripted model, ready, and its two children."""
    words = module("cli", "serve", "--port", str(port), "--engine", "scripted:A cat.|No|A cat.|No")
    with process(words, log, os.environ | {"LLAVA_API_KEY": KEY}) as running:
        until_ready(f"http://127.0.0.1:{port}/ready", running)
        children = psutil.Process(running.pid).children()
        yield running, children
        assert not psutil.wait_procs(children, timeout=30)[1]


def ended(running: Process) -> int:
    return running.wait(60)


def test_one_ctrl_c_stops_all_of_it_and_nobody_went_round_the_guard(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    with serving(log, port) as (running, children):
        opened = client(port, KEY)
        asked: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "Which animal?"}]}
        assert opened.chat.completions.create(**asked).choices[0].message.content == "A cat."
        assert streamed(opened, **asked) == "A cat."
        assert len(children) == 2
        for child in children:  # neither without a key nor with the one that clients of the gateway have
            at = next(one.laddr.port for one in child.net_connections() if one.status == psutil.CONN_LISTEN)  # not its heart-beat
            for headers in ({}, {"authorization": f"Bearer {KEY}"}):
                path = "worker_generate_stream" if "worker" in child.cmdline() else "register_worker"
                assert httpx2.post(f"http://127.0.0.1:{at}/{path}", json={}, headers=headers).status_code == 401
        running.send_signal(signal.SIGINT)
        assert ended(running) == 130
    said = log.read_text()
    assert "Traceback" not in said
    assert KEY not in said
    assert "cat" not in said


def code_after(order: signal.Signals, name: str, log: Path) -> int:
    """The exit code when the process of that name alone gets the signal."""
    with serving(log, free_port()) as (running, children):
        next(child for child in children if name in child.cmdline()).send_signal(order)
        return ended(running)


@pytest.mark.parametrize("name", ["controller", "worker"])
def test_when_one_process_dies_all_end_and_it_is_said_which(name: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert code_after(signal.SIGKILL, name, log) == 1
    last = log.read_text().splitlines()[-1]
    assert last.startswith("llava: The ")
    assert f"{name} was ended by SIGKILL" in last
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("name", ["controller", "worker"])
def test_when_one_process_is_told_to_stop_all_end_in_order(name: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert code_after(signal.SIGTERM, name, log) == 0
    assert f"{name} was told to stop\n" in log.read_text()
    assert "llava: " not in log.read_text()


def test_no_process_outlives_a_killed_parent(tmp_path: Path) -> None:
    with serving(tmp_path / "log", free_port()) as (running, _):
        running.kill()
        assert ended(running) == -signal.SIGKILL


def test_sigterm_is_an_order_and_no_failure(tmp_path: Path) -> None:
    with serving(tmp_path / "log", free_port()) as (running, _):
        running.send_signal(signal.SIGTERM)
        assert ended(running) == 0


def test_a_model_that_is_not_there_is_said_by_the_worker_and_ends_all(tmp_path: Path) -> None:
    words = module("cli", "serve", "--port", str(free_port()), "--model-path", str(tmp_path / "nothing"))
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 2
    *_, why, which = done.stderr.splitlines()
    assert why.startswith("llava: There is no checkpoint folder")
    assert which == "llava: The model worker ended with exit code 2; what it said stands above."


def test_ctrl_c_while_the_model_is_awaited_stops_all_of_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with process(module("cli", "serve", "--port", str(free_port()), "--engine", "mini"), log) as running:
        until(lambda: len(psutil.Process(running.pid).children()) == 2, PATIENCE)
        children = psutil.Process(running.pid).children()
        running.send_signal(signal.SIGINT)
        assert ended(running) == 130
        assert not psutil.wait_procs(children, timeout=30)[1]
    assert "Traceback" not in log.read_text()


def test_the_worker_takes_what_the_gateway_lets_in() -> None:
    config = Config(limits=Limits(images=16, pixels=7, text=300_000, n=3, inputs=5), most_running=9, seconds=40)
    parser = argparse.ArgumentParser()
    model_worker.arguments(parser)
    bounds = model_worker._bounds(parser.parse_args(launch._room(config)))
    assert (bounds.images, bounds.text, bounds.waiting, bounds.patience) == (16, 600_000, 45, 40)
    assert bounds.pixels == Bounds().pixels  # never less: a check also holds the answer


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--engine", "mini", "--model-path", "x"], "give one of them"),
        (["--model", "x"], "leave it out"),
        (["--engine-option", "max_batsh=3"], "Did you mean max_batch?"),
        (["--engine", "ftp://x"], "Cannot connect"),
        (["--engine", "http://127.0.0.1:1/v1", "--wait", "0", "--engine-option", "retries=0"], "No server answers"),
        (["--host", "0.0.0.0"], "no key is set"),
        (["--wait", "5"], "is for a server behind"),
        (["--timeout", "inf"], "--timeout at most 1e9"),
        (["--allow-anonymous", "--api-key", "sk-12345678"], "leave it out, or --api-key"),
        (["--api-key", ""], "is empty or no key"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_sentence_before_any_process_is_started(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--port", "0", *words]) in (1, 2)
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1
    assert "LLAVA_CLUSTER_SECRET" not in os.environ
