"""Our programs, and others, as real processes on loopback: started, waited for, stopped."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai

from llava.paths import MINI
from tests.loopback import free_port
from tests.serve.gateway.running import until

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0  # seconds; a program is there after a few, on a busy machine perhaps after a minute
Process = subprocess.Popen[bytes]


@contextmanager
def process(words: list[str], log: Path, environment: Mapping[str, str] | None = None) -> Iterator[Process]:
    """Run a program until the block ends; what it says goes to `log`."""
    with log.open("wb") as out, subprocess.Popen(words, cwd=ROOT, env=environment, stdout=out, stderr=out) as running:
        try:
            yield running
        finally:
            running.kill()


def module(name: str, *words: str) -> list[str]:
    """`python -m llava.NAME words`."""
    return [sys.executable, "-m", f"llava.{name}", *words]


def until_ready(url: str, running: Process) -> None:
    """Wait until a GET of `url` is answered with 200; raises when the process ends before."""

    def ready() -> bool:
        if running.poll() is not None:
            raise RuntimeError(f"it ended with exit code {running.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    until(ready, PATIENCE)


@contextmanager
def transformers_server(folder: Path) -> Iterator[str]:
    """The address of `transformers serve` with the embedded model; `folder` gets its log and its empty cache of the hub."""
    (folder / "cache").mkdir()  # without one, its /v1/models fails
    port = free_port()
    words = module("cli", "serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32", str(MINI))
    words[2] = "transformers.cli.transformers"
    with process(words, folder / "log", os.environ | {"HF_HUB_CACHE": str(folder / "cache")}) as running:
        until_ready(f"http://127.0.0.1:{port}/health", running)
        yield f"http://127.0.0.1:{port}/v1"


def client(port: int, key: str = "none") -> openai.OpenAI:
    """The official client, unchanged."""
    return openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=key, max_retries=0, timeout=PATIENCE)


def asking(picture: str, question: str) -> list[dict[str, Any]]:
    """The messages of one question about a picture of examples/, as the documentation sends them."""
    data = base64.b64encode((ROOT / f"examples/{picture}.png").read_bytes()).decode()
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    return [{"role": "user", "content": [image, {"type": "text", "text": question}]}]


def streamed(opened: openai.OpenAI, **request: Any) -> str:
    """The text of one streamed answer."""
    chunks = opened.chat.completions.create(stream=True, **request)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
