"""One controller, one worker with the embedded model and one of each page for all tests; a browser for each module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scripts import pages
from tests.serve.canary import SECRET_TEXT, Canary, canary
from tests.serve.web.browser import Hub, Tab, expect, hub, tab

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def mini_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A controller and a worker with the embedded model."""
    with hub(tmp_path_factory.mktemp("mini")) as found, found.worker("--model-path", "mini"):
        yield found


@pytest.fixture(scope="session")
def ecso_url(mini_hub: Hub) -> Iterator[str]:
    """The ECSO page before them."""
    with mini_hub.page() as url:
        yield url


@pytest.fixture(scope="module")  # Playwright keeps an event loop running, beside which tests with asyncio could not run
def chromium() -> Iterator[Browser]:
    """A browser."""
    with pages.chromium() as opened:
        yield opened


@pytest.fixture
def ecso(chromium: Browser, ecso_url: str) -> Iterator[Tab]:
    """The ECSO page in a new tab, with its model."""
    with tab(chromium) as found:
        found.page.goto(ecso_url)
        found.page.locator("#model input").wait_for()
        found.page.wait_for_function("document.querySelector('#model input').value === 'mini'")
        yield found


@pytest.fixture(scope="session")
def votes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the LLaVA page keeps its votes."""
    return tmp_path_factory.mktemp("votes") / "kept"


@pytest.fixture(scope="session")
def chat_url(mini_hub: Hub, votes: Path) -> Iterator[str]:
    """The LLaVA page before them."""
    with mini_hub.page("serve.gradio_web_server", ["--vote-log", str(votes)]) as url:
        yield url


@pytest.fixture
def chat(chromium: Browser, chat_url: str) -> Iterator[Tab]:
    """The LLaVA page in a new tab, with its model."""
    with tab(chromium) as found:
        found.page.goto(chat_url)
        expect(found.page.locator("#model input")).to_have_value("mini")
        yield found


@pytest.fixture
def trap() -> Iterator[Canary]:
    """A server that nobody should ever call."""
    with canary() as found:
        yield found


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that nobody should ever read."""
    file = tmp_path / "secret.txt"
    file.write_text(SECRET_TEXT, encoding="utf-8")
    return file


@pytest.fixture(params=["chat", "ecso"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each of our pages."""
    return str(request.param)
