"""What tests ask of the table, of the browser, and of what was sent."""

import json
from collections import Counter
from contextlib import suppress
from typing import Any

from playwright.sync_api import Error, Page

from kixo.query import QueryCaps, open_query
from tests.browser.gate import Gate
from tests.browser.site import Site
from tests.conftest import MIB, Server

CAPS = QueryCaps(memory_bytes_max=256 * MIB, seconds_max=30)


def stored(server: Server, site: Site) -> list[dict[str, Any]]:
    """The rows of the table, in the order in which they happened."""
    sql = (
        "SELECT event_type, event_name, device_id, session_id, event_id, client_timestamp, properties FROM events "
        f"WHERE project_id = '{site.options['projectId']}' ORDER BY client_timestamp, event_id"
    )
    # In this process: a command for each look would cost more than the rest of a test.
    with open_query(server.folder / "lake", CAPS) as engine:
        found = engine.run(sql).table().to_pylist()
    return [{**row, "properties": json.loads(row["properties"])} for row in found]


def kept(tab: Page) -> dict[str, str]:
    """What the SDK has in localStorage."""
    found = json.loads(tab.evaluate("JSON.stringify(localStorage)"))
    return {key: value for key, value in found.items() if key.startswith("kixo:")}


def waiting(tab: Page) -> int:
    """How many events are in the queue."""
    return sum(":event:" in key for key in kept(tab))


def track(tab: Page, *names: str) -> None:
    """Tracks events of these names."""
    tab.evaluate("names => names.forEach(name => Kixo.track(name, {from: 'test'}))", list(names))


def types(gate: Gate) -> Counter[str]:
    """How many events of each type were sent, copies apart."""
    return Counter({event["event_id"]: event["event_type"] for event in gate.events()}.values())


def crash(tab: Page) -> None:
    """Ends the process of the page, as the system does where memory is short: no event of the page's end is fired."""
    with suppress(Error):
        tab.goto("chrome://crash")
