"""A page as a server: gradio's application inside ours, with our layers before it. Knows no page.

gradio's own `launch` is not used: it opens every route, tells its makers what is used, and serves on a thread of its own.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from socket import socket
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr
from fastapi import FastAPI, Request
from gradio import networking
from gradio.utils import MatplotlibBackendMananger
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount

from llava.errors import EngineError
from llava.image import MAX_BYTES
from llava.serve.app import Leave, listen, new_app, server, until_told
from llava.serve.limits import MIB, Caps, raw_body
from llava.serve.web.decoding import Decoding
from llava.serve.web.door import PICTURES, Door, Front
from llava.serve.web.models import Models
from llava.serve.web.options import Settings, url
from llava.serve.web.picker import described
from llava.serve.web.pictures import MOST_BYTES, Pictures
from llava.serve.web.taming import EVENTS, tame
from llava.serve.web.visits import VISITORS, Visits, who

log = logging.getLogger(__name__)

Build = Callable[[Settings, Models, Pictures], gr.Blocks]

HERE = Path(__file__).parent
GRADIO_FOLDER = "GRADIO_TEMP_DIR"
# An event's values: three texts as long as any may be, and small copies of pictures. All bodies: as much as pictures that are kept.
CAPS = Caps(body=4 * MIB, together=MOST_BYTES, depth=16)
RAW = {PICTURES: MAX_BYTES + 1}
QUIET = {"telemetry": {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}}
FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
HEAD = '<meta name="color-scheme" content="light dark"><meta name="robots" content="noindex">'
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "monospace"]


def site(blocks: gr.Blocks, settings: Settings, pictures: Pictures) -> FastAPI:
    """The application: gradio's page at "/", pictures at `PICTURES`, and nothing else."""
    events = {id: len(event.inputs) for id, event in blocks.fns.items()}
    visits = Visits(blocks, settings.concurrency)
    inner = [Middleware(Door, events=events, visits=visits)]
    app = new_app(settings.rules, CAPS, raw=RAW, inner=inner, title="llava web")
    app.state.visits = visits
    app.state.decoding = decoding = Decoding()

    @app.get("/health")
    @app.get("/ready")
    async def fine() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/robots.txt")
    async def robots() -> PlainTextResponse:
        return PlainTextResponse("User-agent: *\nDisallow: /\n")

    @app.post(PICTURES)
    async def add_picture(request: Request) -> dict[str, str]:
        visitor = who(request.scope)
        return described(await decoding.run(visitor, partial(pictures.add, raw_body(request), visitor)))

    blocks.queue(default_concurrency_limit=settings.concurrency, max_size=EVENTS, api_open=False)
    blocks.state_session_capacity = VISITORS
    look: dict[str, Any] = {"theme": theme(), "css_paths": sorted(HERE.rglob("*.css")), "head": HEAD}
    quiet: dict[str, Any] = {"footer_links": [], "run_history": False, "ssr_mode": False, "enable_monitoring": False, "mcp_server": False}
    gr.mount_gradio_app(app, blocks, path="/", show_error=False, app_kwargs=QUIET, max_file_size=0, pwa=False, **look, **quiet)
    with MatplotlibBackendMananger():  # gradio enters it at each event; the first time it imports what takes a second
        pass
    tame(blocks)
    return app


def theme() -> gr.themes.Base:
    """Calm, and with the fonts that are there: none is fetched."""
    return gr.themes.Default(primary_hue="teal", neutral_hue="slate", radius_size="lg", font=FONTS, font_mono=MONO)


async def serve(build: Build, settings: Settings, what: str, listener: socket | None = None) -> None:
    """Serve a page until told to stop, at `listener` where there is one already; raises `UserError` when the port cannot be had. `what` is
    what people call it."""
    with listener or listen(settings.host, settings.port) as listener:
        host, port = settings.host, listener.getsockname()[1]
        async with page(build, settings) as app:
            log.info("%s is at %s", what, url(host, port))
            if settings.share:
                log.info("for those who have a key it is also at %s", await asyncio.to_thread(_tunnel, host, port))
            await until_told(server(Front(app, settings.embed), leave=_farewell(app)), listener)


@asynccontextmanager
async def page(build: Build, settings: Settings) -> AsyncGenerator[FastAPI]:
    """A page's application, and all that it needs."""
    models = Models(settings.controller, settings.reload)
    pictures = Pictures()
    with _own_folder():
        app = site(build(settings, models, pictures), settings, pictures)
        tidying = asyncio.create_task(app.state.visits.tidy())
        try:
            yield app
        finally:
            tidying.cancel()
            app.state.decoding.close()
            await models.close()


@contextmanager
def _own_folder() -> Iterator[None]:
    """A folder for gradio that nobody else can write to, for it trusts what stands there; by default it is the same for all users."""
    before = os.environ.get(GRADIO_FOLDER)
    with TemporaryDirectory(prefix="llava-page-") as folder:
        os.environ[GRADIO_FOLDER] = folder
        try:
            yield
        finally:
            os.environ.pop(GRADIO_FOLDER)
            if before is not None:
                os.environ[GRADIO_FOLDER] = before


def _farewell(app: FastAPI) -> Leave:
    """Pages keep a connection open for as long as they are shown: let them go."""

    async def leave() -> None:
        inside = next(route.app for route in app.routes if isinstance(route, Mount))
        inside.stop_event.set()  # type: ignore[attr-defined]
        inside.get_blocks()._queue.close()  # type: ignore[attr-defined]

    return leave


def _tunnel(host: str, port: int) -> str:
    """The public address of gradio's tunnel to this port."""
    try:
        return str(networking.setup_tunnel(host, port, share_token="", share_server_address=None, share_server_tls_certificate=None))
    except Exception as error:  # gradio raises many kinds here, from its download to its connection
        raise EngineError("gradio's tunnel cannot be had: it needs the internet, and a program that gradio downloads.") from error
