#!/usr/bin/env python3
"""Measures the pages of the console in Chromium: weight over the wire, first paint, and what answering costs.

    .venv/bin/python scripts/measure_console.py

A server of its own on free ports, with a few hundred events; every page is opened several times, each time in a
profile that has nothing cached, and the medians are printed.
"""

import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from playwright.sync_api import Browser

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from kixo.console.navigation import PAGES  # noqa: E402
from tests.browser.chromium import chromium  # noqa: E402
from tests.conftest import Server, event, running  # noqa: E402
from tests.console.entering import login_link  # noqa: E402

TIMES = 5
FIGURES = """() => ({
  weight: performance.getEntries().reduce((sum, entry) => sum + (entry.encodedBodySize ?? 0), 0),
  paint: performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? null,
  answer: performance.getEntriesByType("navigation")[0].responseEnd,
})"""

# The page's policy forbids what Playwright would wait with.
PAINTED = """() => new Promise(done => new PerformanceObserver(found => {
  if (found.getEntriesByName("first-contentful-paint").length) done();
}).observe({type: "paint", buffered: true}))"""


def main() -> None:
    with TemporaryDirectory() as folder, running(Path(folder), {}, projects=1, loader=True) as server:
        project = server.project()
        batch = project.body(*(event(event_id=str(number)) for number in range(500)))
        httpx.post(f"{server.url}/v1/batch", content=batch, timeout=30).raise_for_status()
        print(f"{'page':20} {'KB over the wire':>17} {'first paint ms':>15} {'answer ms':>10}")
        with chromium() as browser:
            for page in PAGES:
                found = [_open(browser, server, f"{page.path}?project={project.id}") for _ in range(TIMES)]
                figures = [median(each[name] for each in found) for name in ("weight", "paint", "answer")]
                print(f"{page.title:20} {figures[0] / 1000:17.1f} {figures[1]:15.0f} {figures[2]:10.0f}", flush=True)


def _open(browser: Browser, server: Server, path: str) -> dict[str, Any]:
    """The figures of one opening."""
    context = browser.new_context()
    try:
        entered = context.request.get(login_link(server), max_redirects=0)
        assert entered.status == 303
        tab = context.new_page()
        tab.goto(server.console_url + path, wait_until="load")
        tab.evaluate(PAINTED)
        figures: dict[str, Any] = tab.evaluate(FIGURES)
        return figures
    finally:
        context.close()


if __name__ == "__main__":
    main()
