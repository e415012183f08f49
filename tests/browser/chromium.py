"""A Chromium that a test can drive."""

import os
import shutil
import socket
from collections.abc import Iterator
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


# The environment variable that says where a Chromium is that several programs share.
SHARED = "KIXO_TEST_CHROMIUM"


@contextmanager
def attached(url: str) -> Iterator[Browser]:
    """A Chromium that another program started."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.connect_over_cdp(url)
        try:
            yield browser
        finally:
            browser.close()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextmanager
def chromium(port: int | None = None) -> Iterator[Browser]:
    """A headless Chromium with a profile of its own; skips the test, in CI fails it, where there is none.

    At `port` of loopback other programs can attach to it; each makes a context, with a storage of its own.
    """
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        missing = "There is no Chromium. Install the package `chromium` to run the tests of the browser SDK."
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    flags = FLAGS if port is None else [*FLAGS, f"--remote-debugging-port={port}"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        try:
            yield browser
        finally:
            browser.close()
