"""The servers of a benchmark as people run them: processes of their own on loopback. Knows no measurement."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from llava.bench.serve_client import HOST
from llava.bench.serve_scripted import MODEL, Script
from llava.errors import EngineError

PATIENCE = 600.0  # seconds until a server answers
Process = subprocess.Popen[bytes]


class Servers:
    """Starts servers and stops them all at its end; `with`. What they say goes into files of `scratch`."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._running = ExitStack()
        self._started = 0

    def __enter__(self) -> Servers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._running.close()

    def scripted(self, script: Script) -> int:
        """A scripted model; gives its port."""
        port = free_port()
        self._start("bench.serve_scripted", "--port", str(port), *script.words(), until=f"http://{HOST}:{port}/v1/models")
        return port

    def gateway(self, engine: str, *words: str) -> int:
        """A gateway, once it is ready; gives its port."""
        port = free_port()
        self._start("serve.api_server", "--port", str(port), "--engine", engine, *words, until=f"http://{HOST}:{port}/ready")
        return port

    def cluster(self, *words: str) -> int:
        """A controller with one worker, whose options are `words`; gives the controller's port, maybe before it knows of the worker."""
        hub, desk = free_port(), free_port()
        controller, worker = f"http://{HOST}:{hub}", f"http://{HOST}:{desk}"
        self._start("serve.controller", "--host", HOST, "--port", str(hub), until=f"{controller}/health")
        place = ["--host", HOST, "--port", str(desk), "--controller-address", controller, "--worker-address", worker]
        self._start("serve.model_worker", *place, *words, until=f"{worker}/ready")
        return hub

    def _start(self, module: str, *words: str, until: str) -> None:
        self._started += 1
        log = self._scratch / f"{self._started}-{module}.log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LLAVA_")}
        with log.open("wb") as out:
            process = subprocess.Popen([sys.executable, "-m", f"llava.{module}", *words], env=environment, stdout=out, stderr=out)
        self._running.callback(_stop, process)
        end = time.monotonic() + PATIENCE
        while not _answers(until):
            if process.poll() is not None or time.monotonic() > end:
                last = (log.read_text("utf-8", "replace").strip().splitlines() or ["nothing"])[-1]
                raise EngineError(f"llava.{module} did not start; it said: {last}")
            time.sleep(0.1)


def against(port: int) -> tuple[str, ...]:
    """The worker's options for a scripted model at `port`."""
    return ("--engine", f"http://{HOST}:{port}/v1", "--model-name", MODEL)


def free_port() -> int:
    """One that nobody listens on just now."""
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _stop(process: Process) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
