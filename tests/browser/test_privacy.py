"""What the browser SDK never collects, and whom it leaves alone."""

import json

from playwright.sync_api import Page

from tests.browser.gate import Gate
from tests.browser.looking import kept, track, types, waiting
from tests.browser.site import Site
from tests.test_server import wait_until


def test_what_people_type_or_choose_is_in_nothing_that_is_sent(site: Site, gate: Gate, tab: Page) -> None:
    tab.goto(site.url + "/form?search=s3arch")
    tab.fill("#name", "Ada Lovelace")
    tab.fill("#password", "hunter2")
    tab.fill("#note", "dear diary")
    for selector in ("#name", "#password", "#note", "#plan", "#edit", "#mixed"):
        tab.click(selector)
    tab.evaluate("Kixo.track('after')")
    wait_until(lambda: "after" in gate.names())
    assert types(gate)["click"] == 6
    sent = json.dumps(gate.requests)
    for secret in ("Ada", "hunter2", "diary", "typed", "gold", "edited", "inner", "prefilled", "s3arch"):
        assert secret not in sent


def test_what_the_page_marks_is_not_looked_at(site: Site, gate: Gate, tab: Page) -> None:
    tab.goto(site.url + "/form")
    for _ in range(3):
        tab.click("#ignored")
    tab.click("#mixed")
    wait_until(lambda: types(gate)["click"] == 1)
    assert "4711" not in json.dumps(gate.requests)
    assert types(gate)["rage_click"] == 0


def test_query_parameters_stay_only_where_they_are_named(site: Site, gate: Gate, tab: Page) -> None:
    site.options["queryParameters"] = ["step"]
    tab.goto(site.url + "/two?step=2&token=t0p&utm_source=mail#access_token=x")
    wait_until(lambda: "/two" in gate.names())
    (view,) = [event for event in gate.events() if event["event_type"] == "page_view"]
    assert view["properties"]["url"] == site.url + "/two?step=2"


def test_who_opts_out_leaves_nothing_and_sends_nothing(site: Site, gate: Gate, tab: Page) -> None:
    other = tab.context.new_page()
    for page_of in (tab, other):
        page_of.goto(site.url + "/")
    wait_until(lambda: gate.names().count("/") == 2 and waiting(tab) == 0)
    gate.closed = True
    track(tab, "waits in vain")
    tab.evaluate("Kixo.optOut()")
    wait_until(lambda: set(kept(tab).values()) == {"out"})
    gate.closed = False
    for page_of in (tab, other):
        page_of.click("#buy")
        track(page_of, "unheard")
        page_of.evaluate("Kixo.flush()")
    tab.goto(site.url + "/two")
    track(tab, "unheard")
    assert set(kept(tab).values()) == {"out"}
    before = {event["device_id"] for event in gate.events()}
    tab.evaluate("Kixo.optIn()")
    wait_until(lambda: "/two" in gate.names())
    after = [event for event in gate.events() if event["device_id"] not in before]
    assert {event["event_type"] for event in after} == {"session_start", "page_view"}
    assert {"unheard", "waits in vain"}.isdisjoint(gate.names())


def test_a_click_while_opted_out_is_not_told_later_as_a_dead_one(site: Site, tab: Page) -> None:
    tab.clock.install()
    tab.goto(site.url + "/")
    tab.evaluate("Kixo.optOut()")
    tab.click("#still")
    tab.evaluate("Kixo.optIn()")
    tab.clock.run_for(3000)
    assert dead_clicks(tab) == 0
    tab.click("#still")
    tab.clock.run_for(3000)
    wait_until(lambda: dead_clicks(tab) == 1)


def dead_clicks(tab: Page) -> int:
    """How many wait in the queue."""
    return sum('"dead_click"' in value for key, value in kept(tab).items() if ":event:" in key)


def test_a_site_can_ask_first(site: Site, gate: Gate, tab: Page) -> None:
    site.options["optedOut"] = True
    tab.goto(site.url + "/")
    track(tab, "too early")
    assert kept(tab) == {}
    tab.evaluate("Kixo.optIn()")
    tab.goto(site.url + "/two")
    wait_until(lambda: "/two" in gate.names())
    assert "too early" not in gate.names()


def test_before_send_can_change_and_drop_events_and_a_fault_in_it_drops_them(
    quiet: Site, gate: Gate, tab: Page
) -> None:
    quiet.script = """options.beforeSend = (event) => {
        if (event.event_name === "broken") throw new Error("in the page's own code");
        return event.event_name === "dropped" ? null : { ...event, properties: { changed: true } };
    }"""
    tab.goto(quiet.url + "/")
    track(tab, "dropped", "broken", "good")
    wait_until(lambda: bool(gate.names()))
    assert [(event["event_name"], event["properties"]) for event in gate.events()] == [("good", {"changed": True})]
