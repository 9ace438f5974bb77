"""A real Ray cluster on loopback, two nodes with a core each: the same files as one process, whatever happens meanwhile.

Needs Ray, which is large and therefore no part of `.[dev]`: pip install -c constraints.txt -e '.[ray]'
"""

import importlib.util
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.eval.runs import METHODS, ROOT, command, content, records, run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install -c constraints.txt -e '.[ray]'"),
]
# Ray listens on all of a machine's addresses, whatever it is told: a token keeps others out.
OURS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
WORDS = ("--model", "mini", "--tasks", "vlsafe,mmbench", "--limit", "96", "--no-progress")  # as many as two workers have under way
# The command, which also says which workers take part.
TELLING = (
    "import logging, sys; from llava import cli; logging.basicConfig(); logging.getLogger('llava.eval').setLevel('INFO'); "
    "sys.exit(cli.main(['eval', *sys.argv[1:]]))"
)
PATIENCE = 240.0  # seconds, on a machine with much else to do


@contextmanager
def node(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """`ray start --block` in a session of its own, which is killed at the end, or by the test."""
    options = ["--num-cpus=1", "--node-ip-address=127.0.0.1", "--object-store-memory=100000000", "--disable-usage-stats", "--block"]
    started = [sys.executable, "-m", "ray.scripts.scripts", "start", *words, *options]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(started, env=os.environ | OURS, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        yield process
    finally:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """All of a node's processes, at once."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait(until: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.1)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def head() -> Iterator[str]:
    """The address of a cluster with one node."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # its sockets' paths must be short
    with node("--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}"):
        wait(lambda: listens(port), "the head")
        yield f"127.0.0.1:{port}"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def second(head: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another node."""
    with node(f"--address={head}") as process:
        wait(lambda: nodes(head) == 2, "the second node")
        yield process


def nodes(address: str) -> int:
    code = f"import ray; ray.init({address!r}, logging_level='ERROR'); print(sum(node['Alive'] for node in ray.nodes()))"
    asked = [sys.executable, "-c", code]
    return int(subprocess.run(asked, env=os.environ | OURS, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    out = tmp_path_factory.mktemp("whole")
    assert run(*WORDS, "--out", out).returncode == 0
    return out


@contextmanager
def begun(out: Path, head: str, rows: int) -> Iterator[subprocess.Popen[str]]:
    """A run on the cluster, of which `rows` samples are recorded."""
    words, pipe = command(*WORDS, "--out", out, "--ray", head), subprocess.PIPE
    with ExitStack() as stack:
        process = stack.enter_context(subprocess.Popen(words, cwd=ROOT, env=os.environ | OURS, stdout=pipe, stderr=pipe, text=True))
        stack.callback(process.kill)
        path = records(out, "direct")
        wait(lambda: process.poll() is not None or (path.exists() and path.read_bytes().count(b"\n") > rows), "the first rows")
        yield process


def equal(out: Path, whole: Path) -> bool:
    pairs = [[content(records(folder, method, name)) for folder in (out, whole)] for name in ("vlsafe", "mmbench") for method in METHODS]
    return all(one == other for one, other in pairs)


def test_two_nodes_leave_the_files_of_one_process(head: str, second: object, whole: Path, tmp_path: Path) -> None:
    done = run(*WORDS, "--out", tmp_path, "--ray", head, **OURS)
    assert done.returncode == 0
    assert "takes no part" not in done.stderr
    assert equal(tmp_path, whole)
    (session,) = json.loads((tmp_path / "manifest.json").read_text())["sessions"]
    assert [worker["dtype"] for worker in session["computing"]] == ["float32", "float32"]


def test_what_a_lost_node_was_answering_is_asked_again(head: str, second: subprocess.Popen[bytes], whole: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-c", TELLING, *WORDS, "--out", str(tmp_path / "out"), "--ray", head]
    told = tmp_path / "told"
    with told.open("wb") as file, subprocess.Popen(words, cwd=ROOT, env=os.environ | OURS, stdout=file, stderr=file) as process:
        try:
            wait(lambda: process.poll() is not None or told.read_text().count("takes part.") == 2, "both workers")
            assert process.poll() is None, told.read_text()
            kill(second)  # the first worker has no room for all samples, so this one has some
            assert process.wait(PATIENCE) == 0, told.read_text()
        finally:
            process.kill()
    assert re.search(r"The worker on \S+ is out of reach\. Calls that it was answering, and that are asked again: [1-9]", told.read_text())
    assert equal(tmp_path / "out", whole)


def test_without_the_clusters_token_there_is_a_sentence(head: str, tmp_path: Path) -> None:
    done = run(*WORDS, "--out", tmp_path, "--ray", head, **OURS | {"RAY_AUTH_TOKEN": "0" * 32})
    assert done.returncode == 2
    assert "cannot take part in the Ray cluster" in done.stderr


def test_an_interrupted_run_goes_on_with_the_cluster_or_without(head: str, whole: Path, tmp_path: Path) -> None:
    with begun(tmp_path, head, 5) as process:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert said.endswith(f"llava: interrupted; what was answered is kept in {tmp_path}, and the same command will go on.\n")
    assert "Traceback" not in said
    assert run(*WORDS, "--out", tmp_path, "--ray", head, "--limit", "20", **OURS).returncode == 0
    assert run(*WORDS, "--out", tmp_path).returncode == 0
    assert equal(tmp_path, whole)
