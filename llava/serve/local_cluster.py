"""A controller and a model worker as children of this process, on loopback, behind a secret of their own; and somebody who serves before
them for as long as they live. Knows no gateway and no page.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from llava.cluster.secret import CLUSTER_SECRET, texts
from llava.engines import is_scripted
from llava.serve.app import until_failure
from llava.serve.children import Child

log = logging.getLogger(__name__)

HOST = "127.0.0.1"


def model_words(target: str, options: Sequence[str] = ()) -> list[str]:
    """What a worker is told of the model; `options` are KEY=VALUE, of its engine."""
    chosen = [word for text in options for word in ("--engine-option", text)]
    if is_scripted(target):
        return ["--engine", target, *chosen]
    return ["--model-path", str(Path(target).resolve()) if Path(target).exists() else target, *chosen]


@contextmanager
def cluster_secret() -> Iterator[None]:
    """LLAVA_CLUSTER_SECRET is set: the operator's, or one that only this process and its children know. Raises `UserError`."""
    if texts(CLUSTER_SECRET):
        yield
        return
    os.environ[CLUSTER_SECRET] = secrets.token_urlsafe(32)
    try:
        yield
    finally:
        del os.environ[CLUSTER_SECRET]


async def serve_before(worker: Sequence[str], serving: Callable[[str], Awaitable[None]]) -> None:
    """Start a controller and a worker (with these words), and `serving(controller's host:port)`; when one of the three ends, so do the
    others. Raises the error that tells of a child's end, unless that was told to stop."""
    async with _children(worker) as (address, children):
        await until_failure(serving(address), [child.failed() for child in children])


@asynccontextmanager
async def _children(words: Sequence[str]) -> AsyncGenerator[tuple[str, list[Child]]]:
    hub, desk = _free_ports(2)
    controller, worker = f"http://{HOST}:{hub}", f"http://{HOST}:{desk}"
    tie = ["--controller-address", controller, "--worker-address", worker]
    programs = {
        "controller": ["controller", "--host", HOST, "--port", str(hub)],
        "model worker": ["worker", "--host", HOST, "--port", str(desk), *tie, *words],
    }
    log.info("starting a controller at %s and a model worker at %s", controller, worker)
    async with AsyncExitStack() as stack:  # it stops the worker first, which says good-bye to the controller
        children = []
        for name, program in programs.items():
            children.append(await Child.start(name, program, _environment()))
            stack.push_async_callback(children[-1].stop)
        yield f"{HOST}:{hub}", children


def _environment() -> Mapping[str, str]:
    """Ours without the keys of clients: they are not to ask the worker itself."""
    return {name: value for name, value in os.environ.items() if name != "LLAVA_API_KEY"}


def _free_ports(count: int) -> list[int]:
    listeners = [socket.create_server((HOST, 0)) for _ in range(count)]
    try:
        return [listener.getsockname()[1] for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()
