"""The web pages as people have them: programs of ours on free ports of this machine, and the system's Chromium. For what measures and
records them; the tests of the pages drive the same browser.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = [f"--{word}" for word in ("no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync")]
SWITCHES += ["--disable-background-networking", "--disable-component-update"]
PATIENCE = 120.0  # seconds for a program to be ready


@contextmanager
def chromium() -> Iterator[Browser]:
    """Chromium, with a fresh profile for each context; raises `SystemExit` where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise SystemExit("The web pages are driven in Chromium, which is missing: apt-get install chromium, or your system's way.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=SWITCHES)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def running(program: str, *words: str, itself: str = "") -> Iterator[str]:
    """`python -m llava.PROGRAM words` on a free port; gives its address, which it is told with the option `itself`. Raises `SystemExit`
    with all that it said where it does not become ready."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", f"llava.{program}", "--port", str(port), *words, *([itself, url] if itself else [])]
    environment = os.environ | {"LLAVA_CLUSTER_SECRET": "of-this-script"}
    with TemporaryFile() as said, subprocess.Popen(command, stderr=said, env=environment) as process:
        try:
            if not _gets_ready(f"{url}/ready", process):
                said.seek(0)
                raise SystemExit(f"{said.read().decode(errors='replace')}llava.{program} did not become ready.")
            yield url
        finally:
            process.terminate()


def _gets_ready(url: str, process: subprocess.Popen[bytes]) -> bool:
    end = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return True
        except OSError:
            time.sleep(0.1)
    return False
