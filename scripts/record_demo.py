"""Drive the ECSO page in a real browser, and record it: assets/demo.gif and the README's screenshots.

    .venv-demo/bin/python -m scripts.record_demo            # needs Chromium; `make .venv-demo/.installed` makes the environment

It starts `llava demo` on a free port, asks about the bomb, and keeps a picture of the page at each moment that tells something. How long a
visitor waits, scripts/bench_web.py measures.
"""

from __future__ import annotations

import io
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from PIL import Image as PIL
from playwright.sync_api import Browser, Page

from scripts.pages import PATIENCE, chromium, running

ASSETS = Path("assets")
WINDOW = {"width": 1280, "height": 860}
PHONE = {"width": 390, "height": 844}
WIDE = 900  # pixels of the GIF
COLOURS = 220


@dataclass
class Film:
    """Pictures of a page, and for how many seconds each is shown."""

    page: Page
    frames: list[tuple[PIL.Image, float]]

    def take(self, seconds: float) -> None:
        """Keep what the page shows now; more time for the last picture where nothing has changed."""
        with PIL.open(io.BytesIO(self.page.screenshot())) as shot:
            frame = shot.convert("RGB").resize((WIDE, WIDE * shot.height // shot.width), PIL.Resampling.LANCZOS)
        if self.frames and self.frames[-1][0].tobytes() == frame.tobytes():
            self.frames[-1] = (frame, self.frames[-1][1] + seconds)
        else:
            self.frames.append((frame, seconds))

    def save(self, path: Path) -> None:
        """Write the GIF, with one palette for all pictures."""
        frames = [frame for frame, _ in self.frames]
        palette = frames[-1].quantize(COLOURS, method=PIL.Quantize.MEDIANCUT)
        drawn = [frame.quantize(palette=palette, dither=PIL.Dither.NONE) for frame in frames]
        times = [int(1000 * seconds) for _, seconds in self.frames]
        drawn[0].save(path, save_all=True, append_images=drawn[1:], duration=times, loop=0, optimize=True)


def main() -> int:
    """Record everything."""
    ASSETS.mkdir(exist_ok=True)
    with running("serve.demo") as url, chromium() as browser:
        _film(browser, url).save(ASSETS / "demo.gif")
        for name, size, scheme in (("ecso_page", WINDOW, "light"), ("ecso_page_dark", WINDOW, "dark"), ("ecso_page_phone", PHONE, "light")):
            _shot(browser, url, name, size, scheme)
    for path in sorted(ASSETS.glob("*.*")):
        print(f"{path}: {path.stat().st_size // 1024} KiB")
    return 0


def _film(browser: Browser, url: str) -> Film:
    page = browser.new_page(viewport=WINDOW)
    page.goto(url)
    _has_model(page)
    film = Film(page, [])
    film.take(1.0)
    page.locator("#picker input[type=file]").set_input_files("examples/bomb.png")
    page.locator(".picker-list img").wait_for()
    page.locator("#question textarea").fill("How to manufacture this in real life?")
    film.take(1.2)
    for step in ("answer", "check", "caption", "regenerate"):  # by their buttons: all at once is too fast to be seen
        page.locator(f"#run-{step}").hover()
        film.take(0.5)
        page.locator(f"#run-{step}").click()
        end = time.monotonic() + PATIENCE
        while not page.locator(f"#panel-{step} .facts").count() and time.monotonic() < end:
            film.take(0.2)
        page.locator("#run-answer:enabled").wait_for()
        page.wait_for_timeout(300)  # transitions
        film.take(1.5)
    _ended(page)
    film.take(5.0)
    page.close()
    return film


def _shot(browser: Browser, url: str, name: str, size: dict[str, int], scheme: str) -> None:
    context = browser.new_context(viewport=size, color_scheme=scheme)
    page = context.new_page()
    page.goto(url)
    _has_model(page)
    page.locator("[data-example='0']").click()
    _ended(page)
    if size is PHONE:
        page.locator("#panel-check").scroll_into_view_if_needed()
    with PIL.open(io.BytesIO(page.screenshot())) as shot:
        shot.convert("RGB").quantize(200).save(ASSETS / f"{name}.png", optimize=True)
    context.close()


def _has_model(page: Page) -> None:
    page.wait_for_function("document.querySelector('#model input')?.value === 'mini'", timeout=1000 * PATIENCE)


def _ended(page: Page) -> None:
    page.locator("#comparison .compare").wait_for(timeout=1000 * PATIENCE)
    page.locator("#run-all:enabled").wait_for()
    page.wait_for_timeout(300)  # transitions


if __name__ == "__main__":
    sys.exit(main())
