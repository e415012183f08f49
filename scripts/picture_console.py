"""Takes the pictures of the console that the README and the docs show, of a server that has real traffic.

    .venv/bin/python -m scripts.picture_console [--folder docs/pictures] [--chromium /usr/bin/chromium]

A server is started on a folder of its own and sent a day of a small shop through its public port, with some broken
events and a refused request among them. Pictures are reduced to 256 colours, which screens like these do not miss.
"""

import argparse
import io
import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from PIL import Image
from playwright.sync_api import Page, ViewportSize, expect, sync_playwright

from kixo.bench.subject import running
from kixo.registry import open_registry
from kixo.registry.login import create_login_token
from kixo.server_card import console_url
from kixo.settings import Settings

EVENTS_PER_BATCH = 500
SESSIONS = 900
PAGES = ("/", "/pricing", "/docs", "/signup", "/checkout", "/blog/exactly-once")
APPS = (("web", "shop.example.com"), ("ios", "com.example.shop"), ("android", "com.example.shop"))
WAIT_MS_MAX = 60_000
SIZE = ViewportSize(width=1200, height=780)

Event = dict[str, Any]


def sessions(random: Random, now: datetime) -> Iterator[tuple[int, list[Event]]]:
    """The app and the events of each session of the last 24 hours; evenings are busier than nights."""
    for number in range(SESSIONS):
        hours = random.uniform(0, 24)
        if random.random() > 0.55 + 0.45 * math.sin((now.hour - hours - 9) / 24 * 2 * math.pi):
            continue
        started = now - timedelta(hours=hours)
        yield random.randrange(len(APPS)), list(_session(random, number, started))


def _session(random: Random, number: int, started: datetime) -> Iterator[Event]:
    seconds = 0.0
    kinds = ["session_start", *random.choices(["page_view", "click", "custom"], [6, 3, 1], k=random.randint(2, 14))]
    for kind in kinds:
        name = {"page_view": random.choice(PAGES), "click": "Buy now", "custom": "purchase"}.get(kind, kind)
        yield {
            "event_type": kind,
            "event_name": name,
            "device_id": f"d_{number % 400:03}",
            "session_id": f"s_{number:04}",
            "timestamp": (started + timedelta(seconds=seconds)).isoformat(),
            "properties": {"app_version": random.choice(["4.1.0", "4.2.0"]), "plan": random.choice(["free", "pro"])},
        }
        seconds += random.uniform(2, 60)


def send(url: str, project: str, key: str, random: Random) -> None:
    """Sends the day, then broken events of an old version, and a request that is no JSON."""
    batches: dict[int, list[Event]] = {}
    for app, events in sessions(random, datetime.now(UTC)):
        batches.setdefault(app, []).extend(events)
    with httpx.Client(base_url=url, timeout=60) as client:
        for app, events in batches.items():
            for start in range(0, len(events), EVENTS_PER_BATCH):
                client.post("/v1/batch", json=_batch(project, key, app, events[start : start + EVENTS_PER_BATCH]))
        sample = batches[1][-6:]
        broken = [{**sample[0], "timestamp": "next tuesday"}, {**sample[1], "device_id": ""}, *sample[2:]]
        client.post("/v1/batch", json=_batch(project, key, 1, broken)).raise_for_status()
        client.post("/v1/batch", content=json.dumps(_batch(project, key, 0, sample[:1]))[:-2] + ",]}")


def _batch(project: str, key: str, app: int, events: list[Event]) -> dict[str, Any]:
    platform, bundle = APPS[app]
    return {"project_id": project, "api_key": key, "bundle_id": bundle, "platform": platform, "batch": events}


def take(page: Page, folder: Path, console: str, project: str) -> None:
    """Goes through the pages and keeps what each looks like."""
    for path, name in (("/overview", "overview"), ("/rejected", "rejected")):
        page.goto(f"{console}{path}?project={project}&span=day")
        expect(page.locator("[aria-busy=true]")).to_have_count(0)
        page.wait_for_load_state("networkidle")
        _keep(page, folder / f"{name}.png")
    page.goto(f"{console}/live?project={project}")
    page.locator("tr", has_text="next tuesday").get_by_role("link").first.click()
    page.get_by_role("heading", name="As sent").wait_for()
    _keep(page, folder / "live.png")
    page.goto(f"{console}/explore?project={project}")
    page.locator("summary", has_text="Daily, weekly and monthly actives").click()
    page.get_by_role("button", name="Ask Daily, weekly and monthly actives").click()
    page.get_by_role("table").wait_for()
    _keep(page, folder / "explore.png")


def _keep(page: Page, path: Path) -> None:
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(256)
    image.save(path, optimize=True)


def main() -> None:
    """Runs the server, sends, and takes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as data:
        settings = Settings(data_dir=Path(data))
        with open_registry(settings, make=True) as registry:
            project = registry.create_project("Example shop").id
            key = registry.create_key(project)[1]
            token = create_login_token(registry, 600)
        with running(settings.data_dir, 0, loader=True) as subject, sync_playwright() as playwright:
            send(subject.url, project, key, Random(7))
            browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport=SIZE)
            page.set_default_timeout(WAIT_MS_MAX)
            expect.set_options(timeout=WAIT_MS_MAX)
            console = console_url(settings)
            page.goto(f"{console}/login?token={token}")
            take(page, options.folder, console, project)
            browser.close()


if __name__ == "__main__":
    main()
