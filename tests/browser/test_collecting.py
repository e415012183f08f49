"""What the browser SDK collects by itself, and what the docs say of it."""

import json
import re
from collections import Counter

from playwright.sync_api import Page

from kixo.event import EVENT_TYPES
from tests.browser.gate import Gate
from tests.browser.looking import stored, track, types
from tests.browser.site import Site
from tests.conftest import Server
from tests.test_docs import page, rows, section
from tests.test_server import wait_until

KINDS = {"page_view", "session_start", "session_end", "click", "rage_click", "dead_click", "scroll_depth", "error"}


def test_a_visit_of_several_pages_is_in_the_table_event_by_event(
    keeper: Server, site: Site, gate: Gate, tab: Page
) -> None:
    tab.goto(site.url + "/")
    tab.click("#buy")
    tab.evaluate("Kixo.track('signed up', {plan: 'pro'})")
    tab.click("#next")
    tab.wait_for_url("**/two*")
    tab.click("#back")
    tab.wait_for_url(site.url + "/")
    expected = [
        ("session_start", "session_start"),
        ("page_view", "/"),
        ("click", "Buy now"),
        ("custom", "signed up"),
        ("click", "Two"),
        ("performance", "/"),
        ("page_view", "/two"),
        ("click", "Back"),
        ("performance", "/two"),
        ("page_view", "/"),
    ]
    wait_until(lambda: len(stored(keeper, site)) == len(expected))
    found = stored(keeper, site)
    assert Counter((row["event_type"], row["event_name"]) for row in found) == Counter(expected)
    assert len({row["session_id"] for row in found}) == len({row["device_id"] for row in found}) == 1
    assert all("ttfb_ms" in row["properties"] for row in found if row["event_type"] == "performance")
    views = [row["properties"] for row in found if row["event_type"] == "page_view"]
    assert [view["referrer"] for view in views] == ["", site.url + "/", site.url + "/two?utm_source=mail"]
    assert views[1]["url"] == site.url + "/two?utm_source=mail"


def test_pages_that_are_shown_without_a_load_are_viewed(site: Site, gate: Gate, tab: Page) -> None:
    tab.goto(site.url + "/")
    tab.evaluate("history.pushState({}, '', '/cart?step=1'); document.title = 'Cart'")
    wait_until(lambda: "/cart" in gate.names())
    tab.evaluate("history.replaceState({}, '', '/cart?step=2')")
    tab.evaluate("history.replaceState({}, '', '/paid')")
    wait_until(lambda: "/paid" in gate.names())
    tab.evaluate("location.hash = '#/thanks?order=7'")
    wait_until(lambda: "/paid#/thanks" in gate.names())
    tab.evaluate("location.hash = '#access_token=x'")
    wait_until(lambda: gate.names().count("/paid") == 2)
    tab.evaluate("history.go(-3)")
    wait_until(lambda: gate.names().count("/") == 2)
    views = [event for event in gate.events() if event["event_type"] == "page_view"]
    assert [(view["event_name"], view["properties"]["navigation"]) for view in views] == [
        ("/", "load"),
        ("/cart", "push"),
        ("/paid", "replace"),
        ("/paid#/thanks", "history"),
        ("/paid", "history"),
        ("/", "history"),
    ]
    assert views[1]["properties"] == {
        "url": site.url + "/cart",
        "title": "Cart",
        "referrer": site.url + "/",
        "navigation": "push",
    }
    assert "access_token" not in json.dumps(gate.requests)


def test_clicks_in_anger_and_in_vain_are_told_apart(site: Site, gate: Gate, tab: Page) -> None:
    tab.clock.install()
    tab.goto(site.url + "/")
    tab.click("#buy")
    tab.evaluate("document.body.dataset.answer = 'here'")
    tab.clock.run_for(3000)
    tab.click("#still", click_count=5)
    tab.evaluate("getSelection().empty()")
    tab.clock.run_for(3000)
    wait_until(lambda: "dead_click" in types(gate))
    assert types(gate)["click"] == 6
    assert types(gate)["dead_click"] == 1
    (dead,) = [event for event in gate.events() if event["event_type"] == "dead_click"]
    assert dead["event_name"] == "html > body > div#still"


def test_a_series_of_clicks_in_one_place_is_one_rage_click(site: Site, gate: Gate, tab: Page) -> None:
    tab.goto(site.url + "/")
    for _ in range(5):
        tab.click("#buy")
    wait_until(lambda: types(gate)["click"] == 5)
    assert types(gate)["rage_click"] == 1


def test_each_depth_is_recorded_once_for_a_page(site: Site, gate: Gate, tab: Page) -> None:
    tab.goto(site.url + "/")
    tab.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    wait_until(lambda: types(gate)["scroll_depth"] == 4)
    tab.evaluate("scrollTo(0, 0)")
    tab.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    tab.evaluate("Kixo.track('after')")
    wait_until(lambda: "after" in gate.names())
    percents = [e["properties"]["percent"] for e in gate.events() if e["event_type"] == "scroll_depth"]
    assert percents == [25, 50, 75, 100]


def test_errors_are_recorded_once_each_and_no_more_than_ten(site: Site, gate: Gate, tab: Page) -> None:
    tab.goto(site.url + "/")
    tab.evaluate("for (let i = 0; i < 15; i++) setTimeout(() => { throw new Error('oops ' + (i >> 1)) })")
    tab.evaluate("void Promise.reject(new TypeError('no such https://shop.example/?key=k3y thing'))")
    tab.evaluate("setTimeout(() => Kixo.track('after'))")
    wait_until(lambda: "after" in gate.names())
    names = [event["event_name"] for event in gate.events() if event["event_type"] == "error"]
    assert names == [
        *[f"Uncaught Error: oops {number}" for number in range(8)],
        "TypeError: no such https://shop.example/ thing",
    ]
    tab.evaluate("for (let i = 0; i < 15; i++) setTimeout(() => { throw new Error('more ' + i) })")
    tab.evaluate("setTimeout(() => Kixo.track('end'))")
    wait_until(lambda: "end" in gate.names())
    assert types(gate)["error"] == 10


def test_a_session_ends_after_thirty_idle_minutes_in_all_tabs(site: Site, gate: Gate, tab: Page) -> None:
    tab.clock.install()
    other = tab.context.new_page()
    for page_of in (tab, other):
        page_of.goto(site.url + "/")
    minutes(tab, 20)
    track(other, "still here")
    minutes(tab, 20)
    track(tab, "in the first session")
    minutes(tab, 31)
    track(other, "in the second")
    track(tab, "in the second too")
    wait_until(lambda: minutes(tab, 1) and {"in the second", "in the second too"} <= set(gate.names()))
    by_name = {event["event_name"]: event for event in gate.events()}
    first, second = by_name["still here"]["session_id"], by_name["in the second"]["session_id"]
    assert first == by_name["in the first session"]["session_id"] != second
    assert second == by_name["in the second too"]["session_id"]
    (ended,) = {e["event_id"]: e for e in gate.events() if e["event_type"] == "session_end"}.values()
    assert ended["session_id"] == first
    assert ended["timestamp"] == by_name["in the first session"]["timestamp"]
    assert len({e["event_id"] for e in gate.events() if e["event_type"] == "session_start"}) == 2


def test_each_kind_can_be_switched_off(site: Site, gate: Gate, tab: Page) -> None:
    site.options["automatic"] = dict.fromkeys([*KINDS, "performance"], False)
    tab.goto(site.url + "/")
    tab.click("#buy")
    tab.click("#next")
    tab.wait_for_url("**/two*")
    tab.evaluate("Kixo.track('mine')")
    wait_until(lambda: bool(gate.names()))
    assert gate.names() == ["mine"]


def test_every_property_is_in_the_docs_and_every_one_in_the_docs_is_sent(site: Site, gate: Gate, tab: Page) -> None:
    tab.clock.install()
    tab.goto(site.url + "/")
    tab.evaluate("scrollTo(0, 2000)")
    tab.add_script_tag(content="throw new Error('oops')")
    tab.clock.run_for(10)
    tab.evaluate("scrollTo(0, 0)")
    tab.click("#still", click_count=3)
    tab.evaluate("getSelection().empty()")
    tab.clock.run_for(3000)
    tab.click("#next")
    tab.wait_for_url("**/two*")
    minutes(tab, 31)
    documented = properties_in_docs()
    due = set(documented) - {"rage_click"}
    wait_until(lambda: minutes(tab, 1) and due <= set(types(gate)))
    sent: dict[str, set[str]] = {}
    for event in gate.events():
        sent.setdefault(event["event_type"], set()).update(event["properties"])
    assert set(documented) == {*KINDS, "performance"} <= set(EVENT_TYPES)
    for kind, names in sent.items():
        assert names <= documented[kind], kind
    # Whether a page is painted before it is left is the machine's business, and this clock is none to measure by.
    optional = {"text", "href", "ttfb_ms", "fcp_ms", "lcp_ms", "inp_ms", "cls"}
    for kind in set(documented) - {"rage_click"}:
        assert documented[kind] - optional <= sent[kind], kind
    assert sent["click"] == documented["click"]


def minutes(tab: Page, count: int) -> bool:
    """Lets time pass in all tabs."""
    tab.clock.run_for(count * 60_000)
    return True


def properties_in_docs() -> dict[str, set[str]]:
    """The properties of each kind, as docs/api.md lists them."""
    found: dict[str, set[str]] = {}
    kinds: list[str] = []
    for cells in rows(section(page("api"), "#### What the browser sends"))[2:]:
        kinds = re.findall(r"`(\w+)`", cells[0]) or kinds
        for kind in kinds:
            found.setdefault(kind, set()).update(re.findall(r"`(\w+)`", cells[2]))
    return found
