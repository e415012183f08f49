"""A running server with real traffic, and a Chromium that is logged in to its console."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.chromium import chromium
from tests.conftest import PATIENCE_S, Server, running
from tests.console.entering import login_link

# In the words of Chromium: what a page of a strict policy must never cause.
REPORTED = {"error", "warning"}


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE_S * 1000)
    with chromium() as found:
        yield found


@pytest.fixture(scope="package")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that loads what it takes, for tests that leave it as others can use it."""
    with running(tmp_path_factory.mktemp("console"), {}, loader=True, projects=200) as server:
        yield server


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser's profile that nobody has used."""
    found = browser.new_context(viewport={"width": 1280, "height": 800})
    found.set_default_timeout(PATIENCE_S * 1000)
    yield found
    found.close()


@pytest.fixture
def complaints() -> list[str]:
    """What the browser complained of on `tab`; a test that provokes some clears them."""
    return []


@pytest.fixture
def stranger(context: BrowserContext, complaints: list[str]) -> Iterator[Page]:
    """A tab of somebody who is not logged in."""
    page = context.new_page()

    def note(message: Any) -> None:
        if message.type in REPORTED:
            complaints.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    assert complaints == []


@pytest.fixture
def tab(stranger: Page, served: Server) -> Page:
    """A tab that is logged in to the console of `served`, on its first page. Fails a test whose page has errors."""
    stranger.goto(login_link(served))
    return stranger
