"""A real browser on our pages, and the processes behind them.

Whatever a test does, no request may leave this machine and no script may fail.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, expect

from llava.cluster.hosts import is_loopback
from tests.loopback import free_port
from tests.serve.processes import PATIENCE, Process, module, process, until_ready

DESKTOP, PHONE = (1440, 900), (390, 844)
WAIT = int(os.environ.get("WAIT", 120_000))  # milliseconds; a busy machine is no failure
expect.set_options(timeout=WAIT)
_NUMBERS = itertools.count(1)


@dataclass
class Tab:
    """A page in a context of its own. `outside`: addresses asked for that are not this machine's; `failed`: errors of scripts."""

    page: Page
    outside: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def text(self, name: str) -> str:
        """What stands in the text field of that elem_id."""
        return str(self.page.locator(f"#{name} textarea").input_value())

    def wide(self) -> int:
        """By how many pixels the page is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


@contextmanager
def tab(opened: Browser, size: tuple[int, int] = DESKTOP, scheme: str = "light") -> Iterator[Tab]:
    """A new tab; afterwards nothing has left this machine and no script has failed."""
    wide, high = size
    dark = "dark" if scheme == "dark" else "light"
    context = opened.new_context(viewport={"width": wide, "height": high}, color_scheme=dark, accept_downloads=True)
    context.set_default_timeout(WAIT)
    found = Tab(context.new_page())
    found.page.on("request", lambda request: None if _is_here(request.url) else found.outside.append(request.url))
    found.page.on("pageerror", lambda error: found.failed.append(str(error)))
    try:
        yield found
    finally:
        context.close()
    assert found.outside == []
    assert found.failed == []


def _is_here(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("data", "blob", "about") or is_loopback(parts.hostname or "")


@dataclass
class Hub:
    """A controller process, and workers and pages before and behind it, which end with `running`'s block."""

    port: int
    folder: Path

    @property
    def address(self) -> str:
        """What --controller is told."""
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def worker(self, *words: str) -> Iterator[Process]:
        """A worker, once it is registered."""
        port = free_port()
        tie = ("--controller", self.address, "--port", str(port), "--worker", f"http://127.0.0.1:{port}")
        log = self.folder / f"worker-{port}.log"
        with process(module("serve.model_worker", *tie, *words), log, _environment()) as running:
            until_ready(f"http://127.0.0.1:{port}/ready", running)
            yield running

    @contextmanager
    def model(self, *words: str) -> Iterator[tuple[str, Process]]:
        """A worker with a model of its own name, which a page chooses by its address; "mini" comes before it in all lists."""
        name = f"model-{next(_NUMBERS)}"
        with self.worker("--model-name", name, *words) as running:
            yield name, running

    @contextmanager
    def page(self, program: str = "serve.gradio_web_server_ecso", words: Sequence[str] = ()) -> Iterator[str]:
        """A page; gives its address."""
        port = free_port()
        tie = ("--controller", self.address, "--port", str(port), "--model-list-mode", "reload")
        log = self.folder / f"page-{port}.log"
        with process(module(program, *tie, *words), log, _environment()) as running:
            until_ready(f"http://127.0.0.1:{port}/ready", running)
            yield f"http://127.0.0.1:{port}"
        assert "Traceback" not in log.read_text(encoding="utf-8")


@contextmanager
def hub(folder: Path) -> Iterator[Hub]:
    """A controller."""
    port = free_port()
    with process(module("serve.controller", "--port", str(port)), folder / "controller.log", _environment()) as running:
        until_ready(f"http://127.0.0.1:{port}/ready", running)
        yield Hub(port, folder)


def _environment() -> dict[str, str]:
    return {**os.environ, "LLAVA_CLUSTER_SECRET": "a-secret-of-these-tests"}


__all__ = ["DESKTOP", "PATIENCE", "PHONE", "Hub", "Tab", "expect", "hub", "tab"]
