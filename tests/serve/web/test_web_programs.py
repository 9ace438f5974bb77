"""The programs of the web pages: their options, their sentences, `llava demo`, and whom their process calls."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import socket
import sys
import urllib.request
from pathlib import Path

import pytest

from llava.cli import COMMANDS, Parser, main
from llava.errors import UserError
from llava.serve import demo
from llava.serve.web import options as web
from tests.loopback import free_port
from tests.serve.gateway.running import until
from tests.serve.processes import PATIENCE, module, process, until_ready


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAVA_API_KEY", raising=False)


def read(*words: str) -> web.Settings:
    parser = Parser()
    web.arguments(parser)
    return web.settings(parser.parse_args(words))


def test_the_options_are_those_of_llava() -> None:
    words = "--controller-url http://localhost:10000 --model-list-mode reload --concurrency-count 3 --embed --port 0"
    found = read(*words.split(" "))
    assert (found.controller, found.reload, found.concurrency) == ("controller://localhost:10000", True, 3)
    assert (found.embed, found.port) == (True, 0)
    assert read("--controller", "http://localhost:1").controller == "controller://localhost:1"
    assert (read().host, read().reload, read().share, read().moderate) == ("127.0.0.1", False, False, False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--model-list-mode often", "there is once, reload"),
        ("--concurrency-count 0", "at least 1"),
        ("--controller https://localhost:1", "over http only"),
        ("--controller localhost", "looks like http://localhost:10000"),
        ("--host 0.0.0.0", "lets other machines in, but no key is set"),
        ("--share", "opens the page to the internet"),
        ("--api-key short", "at least 8 visible ASCII"),
    ],
)
def test_what_cannot_be_is_a_sentence(words: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read(*words.split())


def test_with_a_key_other_machines_may_be_served() -> None:
    assert read("--host", "0.0.0.0", "--share", "--api-key", "visitors-key").rules.keys


@pytest.mark.parametrize("command", ["demo", "ecso-page", "chat-page"])
def test_without_gradio_it_is_said_what_to_install(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main([command]) == 2
    assert capsys.readouterr().err == "llava: The web pages need gradio, which is not installed here: pip install 'llava[demo]'.\n"


@pytest.mark.parametrize("command", ["ecso-page", "chat-page"])
def test_a_port_that_is_taken_is_a_sentence(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main([command, "--port", str(taken.getsockname()[1])]) == 2
    assert "Choose another --port" in capsys.readouterr().err


def test_the_demo_tells_of_a_taken_port_before_it_starts_anything(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "serve_before", lambda *_: pytest.fail("a model was loaded"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["demo", "--port", str(taken.getsockname()[1])]) == 2
    assert "Choose another --port" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["--controller", "--controller-url"])
def test_the_demo_has_a_controller_of_its_own(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", name, "http://localhost:10000"]) == 2
    assert "starts a controller of its own" in capsys.readouterr().err


@pytest.mark.parametrize(("host", "url"), [("127.0.0.1", "http://127.0.0.1:7"), ("::1", "http://[::1]:7"), ("[::1]", "http://[::1]:7")])
def test_an_address_that_is_told_can_be_opened(host: str, url: str) -> None:
    assert web.url(host, 7) == url


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(word) for task in Path(f"/proc/{pid}/task").iterdir() for word in (task / "children").read_text().split()]


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_llava_demo_is_one_command_that_tells_its_address_and_leaves_nothing_behind(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    words = ["--model-path", "scripted:A cat.|No", "--port", str(port)]
    with process(module("cli", "demo", *words), log) as running:
        until_ready(f"http://127.0.0.1:{port}/ready", running)
        until(lambda: f"the ECSO page is at http://127.0.0.1:{port}" in log.read_text(encoding="utf-8"), PATIENCE)
        until(lambda: "registered" in log.read_text(encoding="utf-8"), PATIENCE)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENCE) as page:
            assert b"ECSO" in page.read()
        started = children(running.pid)
        assert len(started) == 2
        os.kill(running.pid, signal.SIGTERM)
        assert running.wait(PATIENCE) == 0
    until(lambda: all(map(is_gone, started)), PATIENCE)
    assert "Traceback" not in log.read_text(encoding="utf-8")


ALONE = """
import asyncio, sys
called = []
def hook(event, values):
    if event in ("socket.connect", "socket.getaddrinfo"):
        called.append(str(values[1] if event == "socket.connect" else values[0]))
sys.addaudithook(hook)

import httpx2
from llava.serve.app import listen, server
from llava.serve.security import Keys, Rules
from llava.serve.web import site
from llava.serve.web.door import Front
from llava.serve.web.ecso.page import EcsoPage
from llava.serve.web.options import Settings

async def main():
    settings = Settings("127.0.0.1", 0, "controller://127.0.0.1:1", Rules(Keys()))
    async with site.page(lambda *parts: EcsoPage(*parts).blocks(), settings) as app:
        with listen("127.0.0.1", 0) as listener:
            runner = server(Front(app))
            serving = asyncio.create_task(runner.serve([listener]))
            async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", trust_env=False, timeout=600) as client:
                assert (await client.get("/")).status_code == 200
            await asyncio.sleep(1)
            runner.should_exit = True
            await serving

asyncio.run(main())
print([address for address in called if "127.0.0.1" not in address])
"""


def test_the_pages_process_calls_nobody_else(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with process([sys.executable, "-c", ALONE], log) as running:
        assert running.wait(PATIENCE) == 0, log.read_text(encoding="utf-8")
    assert log.read_text(encoding="utf-8").splitlines()[-1] == "[]"


def test_each_program_is_a_command_too() -> None:
    for command in ("demo", "ecso-page", "chat-page"):
        parser = argparse.ArgumentParser()
        importlib.import_module(COMMANDS[command].module).arguments(parser)
        assert parser.parse_args([]).model_list_mode == "once"
