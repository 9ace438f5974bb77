"""Free loopback ports; an application on one, in a thread with an event loop of its own. Knows nothing of what it serves."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn

# Whoever does not care gets a port from 32768 on from the system; below, each process of tests that run side by side has a thousand.
_SHARE = 20_000 + 1000 * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 12)
_TURNS = itertools.count(random.randrange(1000))


def free_port() -> int:
    """A port for a program that will listen on it later, or for nobody: no other test is given it meanwhile."""
    while True:
        port = _SHARE + next(_TURNS) % 1000
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@contextmanager
def on_loopback(application: Any) -> Iterator[int]:
    """Serve an ASGI application, or a server with settings of its own, while the block runs; gives the port."""
    runner = application if isinstance(application, uvicorn.Server) else _quiet(application)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=asyncio.run, args=(runner.serve([listener]),))
        thread.start()
        try:
            while not runner.started and thread.is_alive():
                time.sleep(0.005)
            yield listener.getsockname()[1]
        finally:
            runner.should_exit = True
            thread.join()


def _quiet(application: Any) -> uvicorn.Server:
    return uvicorn.Server(uvicorn.Config(application, log_level="critical", ws="none", lifespan="off", timeout_graceful_shutdown=1))
