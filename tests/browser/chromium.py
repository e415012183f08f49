"""A Chromium that a test can drive."""

import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


# Where a Chromium is that several programs share; see `shared_chromium`.
SHARED = "KIXO_TEST_CHROMIUM"


@contextmanager
def attached(url: str) -> Iterator[Browser]:
    """The Chromium that `shared_chromium` started."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.connect_over_cdp(url)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def shared_chromium() -> Iterator[str]:
    """A Chromium for several programs; where it is. Each makes a context of its own, with a storage of its own."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with chromium([f"--remote-debugging-port={port}"]):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def chromium(flags: Sequence[str] = ()) -> Iterator[Browser]:
    """A headless Chromium with a profile of its own; skips the test, in CI fails it, where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        missing = "There is no Chromium. Install the package `chromium` to run the tests of the browser SDK."
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*FLAGS, *flags])
        try:
            yield browser
        finally:
            browser.close()
