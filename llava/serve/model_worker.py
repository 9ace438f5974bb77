"""Serve one model to a controller's clients, as LLaVA's model worker does.

    python -m llava.serve.model_worker --host 0.0.0.0 --controller http://localhost:10000 --port 40000 \\
        --worker http://localhost:40000 --model-path llava-v1.5-7b
    python -m llava.serve.model_worker --engine http://localhost:8000/v1 --model-name llava-v1.5-7b      # a vLLM or SGLang server

Without LLAVA_CLUSTER_SECRET only processes of this machine are served, whatever --host says.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # before what may not be installed is imported
    from llava.cli import program

    sys.exit(program("worker", "python -m llava.serve.model_worker"))

import argparse
import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import cast

from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response

from llava import __version__
from llava.cluster.dial import worker_address
from llava.cluster.wire import error_event
from llava.engines import Engine, is_scripted, is_server
from llava.errors import Unavailable, UserError
from llava.model.templates import template_for
from llava.serve import loading
from llava.serve.app import join_cluster, listen, new_app, server, until_failure, until_told
from llava.serve.caps import capped
from llava.serve.heart_beat import HeartBeat
from llava.serve.limits import CLUSTER_BODY, Caps, body
from llava.serve.opening import CLOSE, LATER, NOT_YET, opened
from llava.serve.refusal import Refusal, refusal_for
from llava.serve.security import CLUSTER_FIX, Keys, Rules
from llava.serve.streaming import Stream
from llava.serve.worker import CAPS, Bounds, Worker

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Config:
    """Who is let in, what is taken, and the tie to a controller, if there is one."""

    keys: Keys = field(default_factory=Keys)
    caps: Caps = field(default_factory=lambda: Caps(body=CLUSTER_BODY))
    heart_beat: HeartBeat | None = None

    @property
    def rules(self) -> Rules:
        """For the gate."""
        return Rules(self.keys, fix=CLUSTER_FIX)


def create_app(core: Worker, config: Config) -> FastAPI:
    """The worker's HTTP face over `core`."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        if config.heart_beat is not None:
            config.heart_beat.start()
        watching = asyncio.create_task(core.health.watch())
        yield
        watching.cancel()
        await leave(core, config.heart_beat)
        await core.close()

    app = new_app(config.rules, config.caps, title="llava model worker", lifespan=lifespan)

    @app.get("/health")
    async def health() -> dict[str, str]:
        if core.health.is_lost:
            raise Refusal(503, "The model of this worker has failed for good, and the worker ends.", code="unavailable")
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> dict[str, str]:
        if not core.health.ready:
            raise Refusal(503, "The model of this worker failed, and has passed no self-test since.", code="unavailable")
        return {"status": "ok"}

    @app.post("/version")
    async def version() -> dict[str, str]:
        return {"version": __version__}

    @app.post("/worker_get_status")
    async def worker_get_status() -> dict[str, object]:
        return core.status().json()

    @app.post("/worker_generate_stream", response_model=None)
    async def worker_generate_stream(request: Request) -> Response:
        return Stream(core.stream(body(request)), _turned_away)

    return app


def _turned_away(error: Exception) -> Response:
    """No place: the status says so, and the body too, for LLaVA's clients do not look at the status."""
    refusal = refusal_for(error)
    return Response(error_event(error), refusal.status, headers=refusal.headers)


async def leave(core: Worker, heart_beat: HeartBeat | None) -> None:
    """Take no more calls, and tell the controller so."""
    core.leaving = True
    if heart_beat is not None:
        await heart_beat.leave()


def loading_forms() -> dict[str, Response]:
    """What a worker says while its model is loaded, to those who do not read OpenAI's shape: health, and LLaVA's clients."""
    said = error_event(Unavailable(NOT_YET))
    return {"/health": JSONResponse({"status": "ok"}, headers=CLOSE), "/worker_generate_stream": Response(said, 503, headers=LATER)}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare LLaVA's options, and a few of ours."""
    add = parser.add_argument
    add("--host", default="localhost", help="address to listen on (default: localhost)")
    add("--port", type=int, default=21002, help="port to listen on (default: 21002)")
    add("--controller-address", "--controller", default="http://localhost:21001", metavar="URL", help="(default: http://localhost:21001)")
    add("--worker-address", "--worker", metavar="URL", help="how others reach this worker (default: http://localhost:PORT)")
    add("--no-register", action="store_true", help="serve without a controller")
    add("--model-path", default="mini", metavar="TARGET", help="a checkpoint folder, a hub id, or mini (default)")
    add("--model-name", metavar="NAME", help="the name under which it is served (default: from --model-path)")
    add("--engine", default="local", metavar="TARGET", help="local (default): --model-path; or http://host:8000/v1, scripted:...")
    add("--use-flash-attn", action="store_true", help="flash attention 2")
    add("--multi-modal", action="store_true", help="ignored, as in LLaVA: the model says whether it takes images")
    add("--limit-model-concurrency", type=int, default=32, metavar="N", help="calls that run together (default: 32)")
    add("--max-waiting", type=int, metavar="N", help="calls that may wait for a place (default: as many as run together)")
    sizes = f"another limit of one request: {', '.join(CAPS)}"
    add("--cap", action="append", default=[], metavar="NAME=NUMBER", help=sizes)
    add("--stream-interval", type=int, default=1, metavar="N", help="send text every N pieces (default: 1)")
    add("--api-key", action="append", default=[], metavar="KEY", help="a key that may ask for answers; @FILE reads keys")
    loading.arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Load the model and serve until told to stop."""
    keys = join_cluster(options)
    address = worker_address(options.worker_address or f"http://localhost:{options.port}")
    controller = worker_address(options.controller_address)
    bounds = _bounds(options)
    name = options.model_name or _name(options)
    config = Config(keys)
    with listen(options.host, options.port) as listener:
        log.info("loading %s", name)
        with opened(listener, config.rules, config.caps, loading_forms()):
            engine = _engine(options)  # here and not in the event loop, so that Ctrl-C ends it at once
        core = _core(options, name, engine, bounds)
        if not options.no_register:
            config = replace(config, heart_beat=HeartBeat(controller, address, core.status, changes=core.changes))
        log.info("serving %s at http://%s:%d", name, options.host, options.port)
        asyncio.run(_serve(core, config, listener))
    return 0


def _bounds(options: argparse.Namespace) -> Bounds:
    running = options.limit_model_concurrency
    waiting = running if options.max_waiting is None else options.max_waiting
    if running < 1 or waiting < 0:
        raise UserError("--limit-model-concurrency is at least 1, and --max-waiting is not negative.")
    (bounds,) = capped(options.cap, Bounds(running, waiting), only=CAPS)
    return cast(Bounds, bounds)


def _core(options: argparse.Namespace, name: str, engine: Engine, bounds: Bounds) -> Worker:
    template = template_for(name, options.conv_mode)
    tested = not (is_server(options.engine) or is_scripted(options.engine))  # a test would use up a line of the script
    return Worker(engine, (name,), template, bounds, stream_interval=options.stream_interval, tested=tested)


async def _serve(core: Worker, config: Config, listener: socket.socket) -> None:
    try:
        await serve_worker(core, config, listener)
    finally:
        await core.close()


async def serve_worker(core: Worker, config: Config, listener: socket.socket) -> None:
    """Serve at `listener` until told to stop; raises `EngineError` when the model has failed for good."""
    runner = server(create_app(core, config), leave=lambda: leave(core, config.heart_beat))
    await until_failure(until_told(runner, listener), [core.health.lost()])


def _engine(options: argparse.Namespace) -> Engine:
    if options.engine == "local":
        attention = "flash_attention_2" if options.use_flash_attn else None
        return loading.engine(options.model_path, options, attn_implementation=attention, max_batch=options.limit_model_concurrency)
    return loading.engine(options.engine, options, model=options.model_name if is_server(options.engine) else None)


def _name(options: argparse.Namespace) -> str:
    """LLaVA's rule: the last part of the path, with its parent's name before it where it is a training checkpoint."""
    if is_scripted(options.engine):
        return "scripted"
    if options.engine != "local":
        raise UserError("Give --model-name: the name by which the server behind --engine knows its model.")
    parts = options.model_path.strip("/").split("/")
    return "_".join(parts[-2:]) if parts[-1].startswith("checkpoint-") else parts[-1]
