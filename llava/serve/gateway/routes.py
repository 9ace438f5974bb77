"""The gateway's routes. Each reads a body, asks the service, and writes the result; the layers around them are `llava.serve.app`'s.

GET /health /ready /version /engine /metrics /openapi.json /v1/models · POST /v1/chat/completions /v1/guard/check /v1/moderations
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llava import __version__
from llava.ecso.trace import Trace
from llava.errors import UserError
from llava.serve.app import new_app
from llava.serve.gateway import render
from llava.serve.gateway.failures import no_such_model
from llava.serve.gateway.openapi import document
from llava.serve.gateway.reading import wants_usage
from llava.serve.gateway.schema import ChatRequest
from llava.serve.gateway.service import Config, Service
from llava.serve.limits import Caps, body, is_small
from llava.serve.refusal import Refusal
from llava.serve.security import Rules
from llava.serve.streaming import Stream

T = TypeVar("T")
ADMIN = frozenset({"/metrics", "/engine"})
_EVENTS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


def create_app(service: Service, rules: Rules, caps: Caps | None = None) -> FastAPI:
    """The gateway as an ASGI application; it closes the service when it ends. Raises `UserError` like `check_fetching`."""
    check_fetching(service.config, rules)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        watching = asyncio.create_task(service.health.watch())
        yield
        watching.cancel()
        service.close()

    app = new_app(rules, caps, title="llava gateway", version=__version__, lifespan=lifespan)
    _tell(app, service)
    _ask(app, service)

    limits, remote = service.config.limits, bool(service.config.remote)
    # Written once: to write it takes as long as many small requests.
    told = JSONResponse(document(__version__, service.models(), service.modes(), limits, keys=bool(rules.keys), remote=remote)).body

    @app.get("/openapi.json")
    async def description() -> Response:
        return Response(told, media_type="application/json")

    app.add_middleware(Counted, service=service, paths={getattr(route, "path", "") for route in app.routes})
    return app


def check_fetching(config: Config, rules: Rules) -> None:
    """Raises `UserError` where images would be fetched for callers that nobody knows."""
    if config.remote is not None and not rules.keys:
        raise UserError("Images are fetched only for clients with a key: with --allow-remote-images set LLAVA_API_KEY (or --api-key).")


def _tell(app: FastAPI, service: Service) -> None:
    @app.get("/health")
    async def health() -> Response:
        return Response()

    @app.get("/ready")
    async def ready() -> Response:
        if not service.health.ready:
            raise Refusal(503, "The guard's self-test has not passed yet.", code="unavailable")
        return Response()

    @app.get("/version")
    async def version() -> Response:
        return JSONResponse({"version": __version__})

    @app.get("/engine")
    async def engine() -> Response:
        return JSONResponse({"engine": service.config.behind})

    @app.get("/metrics")
    async def metrics() -> Response:
        service.metrics.running.set(service.admission.running)
        service.metrics.waiting.set(service.admission.waiting)
        return PlainTextResponse(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/v1/models")
    async def models() -> Response:
        return JSONResponse({"object": "list", "data": [_model(name, service) for name in service.models()]})

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        if name not in service.models():
            raise no_such_model()
        return JSONResponse(_model(name, service))


def _model(name: str, service: Service) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": service.created, "owned_by": "llava"}


def _ask(app: FastAPI, service: Service) -> None:
    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        asked = await service.ask(body(request), is_small(request))
        if asked.live:
            live = Stream(service.live(asked, _id(request)), _raised, media_type="text/event-stream")
            live.headers.update(render.promised("off", service.config.policy.name) | _EVENTS)
            return live
        completion = await unless_gone(request, service.complete(asked, _id(request)))
        if completion is None:
            return _gone()
        headers, wish = render.headers(completion), asked.request
        # The tokens of a long answer, with their alternatives, take a while to write.
        content = await asyncio.to_thread(_written, completion, wish) if wish.logprobs else _written(completion, wish)
        if wish.stream:
            return Response(content, headers={**headers, **_EVENTS}, media_type="text/event-stream")
        return Response(content, headers=headers, media_type="application/json")

    @app.post("/v1/guard/check")
    async def check(request: Request) -> Response:
        trace = await unless_gone(request, service.check(body(request), _id(request), is_small(request)))
        return _gone() if trace is None else JSONResponse(_checked(trace), headers={"server-timing": render.timing(trace.steps)})

    @app.post("/v1/moderations")
    async def moderations(request: Request) -> Response:
        done = await unless_gone(request, service.moderate(body(request), _id(request), is_small(request)))
        if done is None:
            return _gone()
        name, traces = done
        return JSONResponse({"id": f"modr-{secrets.token_hex(12)}", "model": name, "results": [_moderated(trace) for trace in traces]})


def _written(completion: render.Completion, wish: ChatRequest) -> bytes:
    if not wish.stream:
        return render.whole(completion)
    return render.streamed(completion, wants_usage(wish))


def _raised(error: Exception) -> Response:
    """An error before the first byte is the edge's to answer."""
    raise error


def _checked(trace: Trace) -> dict[str, Any]:
    said = None
    if trace.harmful and trace.method.defence == "ecso":
        said = {"content": trace.answer, "refusal": trace.answer if trace.released == "refusal" else None}
    return {
        "id": f"check-{secrets.token_hex(12)}",
        "object": "guard.check",
        "verdict": "harmful" if trace.harmful else "harmless",
        "harmful": trace.harmful,
        "p_harmful": trace.p_harmful,
        "safe_answer": said,
        "steps": render.step_rows(trace.steps),
        "usage": render.usage(trace.steps),
    }


def _moderated(trace: Trace) -> dict[str, Any]:
    score = float(bool(trace.harmful)) if trace.p_harmful is None else trace.p_harmful
    kinds = ["text", "image"] if trace.images else ["text"]
    return {
        "flagged": trace.harmful,
        "categories": {"harmful": trace.harmful},
        "category_scores": {"harmful": score},
        "category_applied_input_types": {"harmful": kinds},
    }


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`, or None when the client leaves before it: the work is cancelled then, and with it the model's call."""
    running = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({running, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return running.result() if running.done() else None
    finally:
        running.cancel()
        leaving.cancel()
        await asyncio.gather(running, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _gone() -> Response:
    return Response(status_code=499)  # nobody reads it; it stands in the counters


def _id(request: Request) -> str:
    return str(request.scope["state"]["request_id"])


class Counted:
    """ASGI layer that counts requests by path, method and status. Paths that do not exist are one row, as are methods."""

    def __init__(self, app: ASGIApp, service: Service, paths: set[str]) -> None:
        self._app = app
        self._service = service
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                path = getattr(scope.get("route"), "path", scope["path"])
                path = path if path in self._paths else "other"
                method = scope["method"] if scope["method"] in ("GET", "POST", "HEAD", "OPTIONS") else "other"
                self._service.metrics.http.add(handler=path, method=method, status=str(message["status"]))
            await send(message)

        await self._app(scope, receive, counting if scope["type"] == "http" else send)
