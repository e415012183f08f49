"""A Chromium, a small site, and a gate before a server that keeps what it takes."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.browser.chromium import chromium, free_port
from tests.browser.gate import Gate
from tests.browser.site import Site
from tests.conftest import PATIENCE_S, Server, running

PAGES = {
    "/": """<a id=next href='/two?token=t0p&utm_source=mail#secret'>Two</a>
        <button id=buy class='big red'>Buy now</button>
        <div id=still style='width:200px;height:100px'>nothing happens here</div><p style='height:4000px'>""",
    "/two": "<a id=back href='/'>Back</a>",
    "/form": """<form><input id=name value=prefilled><input id=password type=password><textarea id=note>typed</textarea>
        <select id=plan><option>gold</option></select></form><div id=edit contenteditable>edited</div>
        <button id=mixed>Send <textarea>inner</textarea></button>
        <div data-kixo-ignore><span><button id=ignored>Account 4711</button></span></div>""",
}


@pytest.fixture(scope="package")
def browser_port() -> int:
    return free_port()


@pytest.fixture(scope="package")
def browser(browser_port: int) -> Iterator[Browser]:
    with chromium(browser_port) as found:
        yield found


@pytest.fixture(scope="package")
def keeper(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that keeps what it takes, for the tests that ask its tables."""
    with running(tmp_path_factory.mktemp("keeper"), {}, loader=True, projects=50) as server:
        yield server


@pytest.fixture
def gate(keeper: Server) -> Iterator[Gate]:
    found = Gate(keeper.url)
    yield found
    found.close()


@pytest.fixture
def site(keeper: Server, gate: Gate) -> Iterator[Site]:
    found = Site(gate.url, keeper.project(), PAGES)
    yield found
    found.close()


@pytest.fixture
def quiet(site: Site) -> Site:
    """The site, with nothing collected by itself."""
    site.options["automatic"] = False
    return site


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    found = browser.new_context()
    found.set_default_timeout(PATIENCE_S * 1000)
    yield found
    found.close()


@pytest.fixture
def tab(context: BrowserContext) -> Page:
    return context.new_page()
