"""Keep the table of model workers and tell clients which one to ask, as LLaVA's and FastChat's controllers do.

    python -m llava.serve.controller --host 0.0.0.0 --port 10000

Without LLAVA_CLUSTER_SECRET only processes of this machine are served, whatever --host says.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # before what may not be installed is imported
    from llava.cli import program

    sys.exit(program("controller", "python -m llava.serve.controller"))

import argparse
import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from starlette.responses import Response

from llava import __version__
from llava.cluster.dial import dial, new_client, post, worker_address
from llava.cluster.hosts import is_loopback
from llava.cluster.secret import cluster_headers
from llava.cluster.wire import END, NO_SUCH_MODEL, UNREACHABLE, Status, error_event, queue_length
from llava.deadlines import Deadlines, on_time
from llava.errors import EngineError, EngineTimeout, LlavaError, Unavailable, UnknownModel, UserError
from llava.serve.app import deadlines, join_cluster, new_app, serve
from llava.serve.limits import CLUSTER_BODY, Caps, body
from llava.serve.registry import DISPATCH, Registry
from llava.serve.security import CLUSTER_FIX, Keys, Rules, is_admin
from llava.serve.streaming import Stream

log = logging.getLogger(__name__)

# What changes the table; asking for a model or a worker is open to API keys too.
ADMIN = frozenset({"/register_worker", "/unregister_worker", "/receive_heart_beat", "/refresh_all_workers", "/check_all_workers"})
MAX_KEY = 200  # characters by which images are told apart: it is hashed once for each worker
PASSING = Deadlines(total=900.0)  # of a stream that is passed on: original clients ask for long answers, and wait
PASSED_ON = "x-llava-passed-on"  # a stream is passed on once: a controller among its own workers is no endless loop


@dataclass(frozen=True)
class Config:
    """Who is let in, what is taken, how long workers have, what time it is (seconds that only grow)."""

    keys: Keys = field(default_factory=Keys)
    caps: Caps = field(default_factory=lambda: Caps(body=CLUSTER_BODY))
    deadlines: Deadlines = PASSING
    clock: Callable[[], float] = time.monotonic


def create_app(core: Registry, config: Config) -> FastAPI:
    """The controller's HTTP face over `core`."""
    desk = _Desk(core, config)
    app = new_app(Rules(config.keys, ADMIN, fix=CLUSTER_FIX), config.caps, title="llava controller", lifespan=desk.lifespan)
    for path in ("/health", "/ready"):
        app.add_api_route(path, _fine, methods=["GET"])
    for answer in (
        desk.register_worker,
        desk.unregister_worker,
        desk.refresh_all_workers,
        desk.check_all_workers,
        desk.receive_heart_beat,
        desk.list_models,
        desk.version,
        desk.get_worker_address,
        desk.worker_get_status,
        desk.worker_generate_stream,
    ):
        app.add_api_route(f"/{answer.__name__}", answer, methods=["POST"], response_model=None)
    return app


async def _fine() -> dict[str, str]:
    return {"status": "ok"}


class _Desk:
    """The endpoints, each under its name on the wire."""

    def __init__(self, core: Registry, config: Config) -> None:
        self._core = core
        self._config = config
        self._now = config.clock

    @asynccontextmanager
    async def lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        headers = {**cluster_headers(), PASSED_ON: "1"}
        async with new_client(self._config.deadlines, headers) as self._client:
            yield

    async def register_worker(self, request: Request) -> None:
        asked = body(request)
        name = self._known_kind(asked.get("worker_name"))
        said = asked.get("worker_status")
        status = await self._status_of(name) if said is None else Status.read(said)
        self._core.register(name, status, self._now(), asked.get("check_heart_beat") is not False)
        log.info("worker %s serves %s", name, ", ".join(status.model_names))

    async def unregister_worker(self, request: Request) -> dict[str, bool]:
        return {"exist": self._core.remove(worker_address(body(request).get("worker_name")))}

    async def refresh_all_workers(self) -> None:
        """Ask all workers at once; who does not answer is out. Clients see the old table until the new one is complete."""
        found = await self._ask_all([worker.name for worker in self._core.workers(self._now())])
        statuses = {name: status for name, status in found.items() if isinstance(status, Status)}
        arrived = {w.name: w.status for w in self._core.workers(self._now()) if w.name not in found}
        self._core.replace({**statuses, **arrived}, self._now())

    async def check_all_workers(self) -> dict[str, object]:
        """Ask all workers at once and change nothing: who is there, how long ago it beat (seconds), why it cannot be reached."""
        found = await self._ask_all([worker.name for worker in self._core.workers(self._now())])
        now = self._now()
        rows = [
            {"worker_name": w.name, **w.status.json(), "age": now - w.seen if w.beats else None, "error": _said(found.get(w.name))}
            for w in self._core.workers(now)
        ]
        return {"workers": rows}

    async def receive_heart_beat(self, request: Request) -> dict[str, bool]:
        asked = body(request)
        name = worker_address(asked.get("worker_name"))
        return {"exist": self._core.heart_beat(name, queue_length(asked.get("queue_length")), self._now())}

    async def list_models(self) -> dict[str, list[str]]:
        return {"models": self._core.models(self._now())}

    async def version(self) -> dict[str, str]:
        return {"version": __version__}

    async def get_worker_address(self, request: Request) -> dict[str, str]:
        asked = body(request)
        avoid = asked.get("avoid") or []
        if not isinstance(avoid, list) or len(avoid) > 16 or not all(isinstance(name, str) for name in avoid):
            raise UserError("avoid is a list of at most 16 addresses.")
        key = asked.get("affinity")
        if not isinstance(key, str | None) or len(key or "") > MAX_KEY:
            raise UserError(f"affinity is a text of at most {MAX_KEY} characters.")
        if asked.get("unreachable") is True and is_admin(self._config.keys, request.scope):  # it changes the table
            for name in avoid:
                self._core.suspect(name)
        picked = self._core.pick(_model(asked), self._now(), key=key, avoid=avoid)
        return {"address": picked or ""}

    async def worker_get_status(self) -> dict[str, object]:
        return self._core.status(self._now()).json()

    async def worker_generate_stream(self, request: Request) -> Response:
        """Pass a worker's stream on, as LLaVA's controller does."""
        if PASSED_ON in request.headers:
            raise UserError("A controller is no worker.")
        asked = body(request)
        key = await asyncio.to_thread(_image_key, asked)
        return Stream(self._passed_on(_model(asked), key, await request.body()), _broken)

    async def _passed_on(self, model: str, key: str | None, asked: bytes) -> AsyncGenerator[bytes, None]:
        """Whole objects of one stream. Before the first of them, another worker may take over, once."""
        now = asyncio.get_running_loop().time
        end, tried = now() + self._config.deadlines.total, list[str]()
        failure: LlavaError = UnknownModel("No worker serves this model.")
        while len(tried) < 2:
            address = self._core.pick(model, self._now(), key=key, avoid=tried)
            if address is None:
                break
            begun = False
            try:
                events = dial(self._client, address, asked)
                async with aclosing(on_time(events, self._config.deadlines, _anything, end)) as timed:
                    async for item in timed:
                        begun = True
                        yield item + END
                return
            except EngineError as error:
                failure = error
                if isinstance(error, Unavailable | EngineTimeout):
                    self._core.suspect(address)
                if begun or now() >= end:
                    break
                tried.append(address)
        yield error_event(failure, NO_SUCH_MODEL if isinstance(failure, UnknownModel) else UNREACHABLE)

    def _known_kind(self, name: object) -> str:
        """A worker's address that may be called: without a secret, only on this machine."""
        address = worker_address(name)
        if not self._config.keys and not is_loopback(urlsplit(address).hostname or ""):
            raise UserError(f"Without a cluster secret only workers of this machine are taken. {CLUSTER_FIX}")
        return address

    async def _ask_all(self, names: list[str]) -> dict[str, Status | LlavaError]:
        async def ask(name: str) -> Status | LlavaError:
            try:
                return await self._status_of(name)
            except LlavaError as error:
                return error

        return dict(zip(names, await asyncio.gather(*map(ask, names)), strict=True))

    async def _status_of(self, name: str) -> Status:
        return Status.read(await post(self._client, f"{name}/worker_get_status", seconds=self._config.deadlines.connect))


def _model(asked: dict[str, Any]) -> str:
    model = asked.get("model")
    if not isinstance(model, str):
        raise UserError("model is missing: say for which model.")
    return model


def _image_key(asked: dict[str, Any]) -> str | None:
    """What tells images apart: the first one as it was sent."""
    images = asked.get("images")
    if not isinstance(images, list) or not images or not isinstance(images[0], str):
        return None
    return hashlib.sha256(images[0].encode()).hexdigest()


def _said(found: object) -> str | None:
    return str(found) if isinstance(found, LlavaError) else None


def _anything(_: bytes) -> bool:
    return True


def _broken(error: Exception) -> Response:
    raise error


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--host", default="localhost", help="address to listen on (default: localhost)")
    add("--port", type=int, default=21001, help="port to listen on (default: 21001)")
    add("--dispatch-method", default="shortest_queue", metavar="NAME", help=f"{', '.join(DISPATCH)} (default: shortest_queue)")
    streams = "of a stream that is passed on: connect (5), first (60, to its first object), idle (60, to the next), total (900)"
    add("--deadline", action="append", default=[], metavar="NAME=SECONDS", help=streams)
    add("--api-key", action="append", default=[], metavar="KEY", help="a key that may ask for models and workers; @FILE reads keys")


def run(options: argparse.Namespace) -> int:
    """Serve until told to stop."""
    keys = join_cluster(options)
    limits = deadlines(options.deadline, PASSING, ("connect", "first", "idle", "total"))
    app = create_app(Registry(options.dispatch_method), Config(keys, deadlines=limits))
    log.info("controller at http://%s:%d", options.host, options.port)
    asyncio.run(serve(app, options.host, options.port))
    return 0
