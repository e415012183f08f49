"""Bad days of the browser SDK: whatever happens, each event is in the table exactly once."""

from collections import Counter

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.browser.gate import Gate, Reply
from tests.browser.looking import crash, stored, track, waiting
from tests.browser.site import Site
from tests.conftest import Server, running
from tests.test_server import wait_until


def test_what_is_tracked_offline_is_sent_when_the_network_is_back(
    keeper: Server, quiet: Site, gate: Gate, tab: Page
) -> None:
    tab.goto(quiet.url + "/")
    tab.context.set_offline(True)
    names = [f"offline {number}" for number in range(45)]
    track(tab, *names)
    tab.evaluate("Kixo.flush()")
    assert (waiting(tab), gate.names()) == (45, [])
    tab.context.set_offline(False)
    wait_until(lambda: waiting(tab) == 0)
    assert gate.names() == names
    wait_until(lambda: [row["event_name"] for row in stored(keeper, quiet)] == names)


def test_a_full_queue_survives_a_reload_and_keeps_the_newest(quiet: Site, gate: Gate, tab: Page) -> None:
    quiet.options["queueEvents"] = 30
    gate.replies = [Reply(503, "unavailable", {"Retry-After": "3600"})]
    tab.goto(quiet.url + "/")
    track(tab, "first")
    tab.evaluate("Kixo.flush()")
    track(tab, *[f"waits {number}" for number in range(40)])
    assert waiting(tab) == 30
    tab.reload()
    assert waiting(tab) == 30
    track(tab, "after the reload")
    tab.evaluate("Kixo.flush()")
    assert gate.names() == ["first"], "Retry-After holds over reloads"
    tab.evaluate(
        "Object.keys(localStorage).filter(key => key.endsWith('wait')).forEach(key => localStorage.removeItem(key))"
    )
    tab.evaluate("Kixo.flush()")
    wait_until(lambda: waiting(tab) == 0)
    assert gate.names()[1:] == [*[f"waits {number}" for number in range(11, 40)], "after the reload"]


@pytest.mark.parametrize(
    "replies",
    [
        [Reply(429, "rate_limited", {"Retry-After": "1"}), Reply(503, "unavailable", {"Retry-After": "1"})],
        [Reply(500, "internal"), Reply(408, "timeout")],
        [Reply(429, "of a newer server"), None],
    ],
    ids=["asked to wait", "not asked", "unknown and lost"],
)
def test_what_may_pass_later_is_sent_again_with_its_id_and_a_fresh_sent_at(
    keeper: Server, quiet: Site, gate: Gate, tab: Page, replies: list[Reply | None]
) -> None:
    gate.replies = list(replies)
    tab.goto(quiet.url + "/")
    track(tab, "one", "two")
    wait_until(lambda: len(gate.requests) == 3 and waiting(tab) == 0)
    assert gate.names() == ["one", "two"] * 3
    assert len({(event["event_id"], event["timestamp"]) for event in gate.events()}) == 2
    sent = [request["sent_at"] for request in gate.requests]
    assert sent == sorted(set(sent))
    for reply, before, after in zip(replies, gate.arrivals, gate.arrivals[1:], strict=False):
        asked = float(reply.headers.get("Retry-After", 0)) if reply else 0
        assert after - before >= asked
    wait_until(lambda: [row["event_name"] for row in stored(keeper, quiet)] == ["one", "two"])


@pytest.mark.parametrize(
    ("status", "code"), [(400, "invalid_request"), (401, "unauthorized"), (415, "unsupported_media_type")]
)
def test_what_can_never_pass_is_not_sent_again_and_the_page_is_told(
    quiet: Site, gate: Gate, tab: Page, status: int, code: str
) -> None:
    quiet.script = "refused = []; options.onRejected = (event, error) => refused.push([event.event_name, error])"
    gate.replies = [Reply(status, code)]
    tab.goto(quiet.url + "/")
    track(tab, "never")
    wait_until(lambda: waiting(tab) == 0)
    track(tab, "next")
    wait_until(lambda: gate.names() == ["never", "next"])
    assert tab.evaluate("refused") == [["never", {"code": code, "message": "by the test"}]]


@pytest.mark.parametrize(
    "reply", [Reply(413, "body_too_large"), Reply(429, "too_many_events", {}, {"limit": 3, "actual": 8})]
)
def test_what_is_too_much_for_one_request_is_split(
    keeper: Server, quiet: Site, gate: Gate, tab: Page, reply: Reply
) -> None:
    gate.replies = [reply]
    tab.goto(quiet.url + "/")
    names = [f"part {number}" for number in range(8)]
    track(tab, *names)
    wait_until(lambda: waiting(tab) == 0 and len(gate.names()) == 16)
    sizes = [len(request["batch"]) for request in gate.requests]
    assert sizes == ([8, 4, 4] if reply.status == 413 else [8, 3, 3, 2])
    wait_until(lambda: [row["event_name"] for row in stored(keeper, quiet)] == names)


def test_one_bad_event_costs_no_good_one_and_is_told_of(keeper: Server, quiet: Site, gate: Gate, tab: Page) -> None:
    quiet.script = "refused = []; options.onRejected = (event, error) => refused.push([event.event_name, error])"
    tab.goto(quiet.url + "/")
    tab.evaluate("Kixo.track('good'); Kixo.track('large', {text: 'x'.repeat(66000)}); Kixo.track('good too')")
    wait_until(lambda: waiting(tab) == 0)
    (refused,) = tab.evaluate("refused")
    assert (refused[0], refused[1]["code"], refused[1]["field"]) == ("large", "too_large", "properties")
    wait_until(lambda: [row["event_name"] for row in stored(keeper, quiet)] == ["good", "good too"])


def test_what_cannot_be_an_event_is_not_taken_and_throws_nothing(quiet: Site, gate: Gate, tab: Page) -> None:
    tab.goto(quiet.url + "/")
    tab.evaluate("""() => {
        const loop = {}; loop.loop = loop;
        Kixo.track('loop', loop); Kixo.track('big', {n: 1n}); Kixo.track(Symbol('name'));
        Kixo.track('huge', {text: 'x'.repeat(200000)}); Kixo.track('good');
    }""")
    wait_until(lambda: bool(gate.names()))
    assert gate.names() == ["good"]


def test_a_tab_that_is_killed_leaves_its_events_to_the_next(keeper: Server, quiet: Site, gate: Gate, tab: Page) -> None:
    quiet.options["flushSeconds"] = 3600
    tab.goto(quiet.url + "/")
    track(tab, "of the dead", "of the dead too")
    wait_until(lambda: waiting(tab) == 2)
    crash(tab)
    assert gate.names() == []
    survivor = tab.context.new_page()
    survivor.goto(quiet.url + "/two")
    survivor.evaluate("Kixo.flush()")
    wait_until(lambda: [row["event_name"] for row in stored(keeper, quiet)] == ["of the dead", "of the dead too"])


def test_a_tab_that_is_killed_while_it_sends_leaves_its_events_too(
    keeper: Server, quiet: Site, gate: Gate, tab: Page
) -> None:
    quiet.options["requestSeconds"] = 1
    gate.hold()
    tab.goto(quiet.url + "/")
    track(tab, "half sent")
    wait_until(lambda: gate.names() == ["half sent"])
    crash(tab)
    survivor = tab.context.new_page()
    survivor.goto(quiet.url + "/two")
    gate.let_go()
    wait_until(lambda: waiting(survivor) == 0)
    assert set(gate.names()) == {"half sent"}
    assert len({event["event_id"] for event in gate.events()}) == 1
    wait_until(lambda: [row["event_name"] for row in stored(keeper, quiet)] == ["half sent"])


def test_what_waits_when_the_page_is_left_is_sent_at_once_and_counts_once(
    keeper: Server, quiet: Site, gate: Gate, tab: Page
) -> None:
    quiet.options |= {"flushSeconds": 3600, "requestSeconds": 1}
    tab.goto(quiet.url + "/")
    track(tab, "last words")
    tab.goto(quiet.url + "/two")
    wait_until(lambda: gate.names() == ["last words"])
    assert gate.content_types == ["text/plain;charset=UTF-8"]
    # Nobody heard the answer, so the next page sends it again when the claim has run out.
    wait_until(
        lambda: tab.evaluate("Kixo.flush().then(() => Object.keys(localStorage).every(k => !k.includes(':event:')))")
    )
    assert gate.names() == ["last words"] * 2
    wait_until(lambda: [row["event_name"] for row in stored(keeper, quiet)] == ["last words"])


def test_leaving_stays_within_what_browsers_let_out(quiet: Site, gate: Gate, tab: Page) -> None:
    quiet.options["flushSeconds"] = 3600
    quiet.options["flushEvents"] = 1000
    tab.goto(quiet.url + "/")
    tab.evaluate("for (let i = 0; i < 30; i++) Kixo.track('heavy ' + i, {text: 'ä'.repeat(2000)})")
    tab.goto(quiet.url + "/two")
    wait_until(lambda: bool(gate.requests))
    assert gate.names() == [f"heavy {number}" for number in range(len(gate.names()))]
    assert 40_000 < gate.lengths[0] <= 64 * 1024
    tab.evaluate("Kixo.flush()")
    wait_until(lambda: len(set(gate.names())) == 30)


def test_a_backlog_is_compressed(keeper: Server, quiet: Site, gate: Gate, tab: Page) -> None:
    quiet.options["flushEvents"] = 1000
    tab.goto(quiet.url + "/")
    tab.evaluate("for (let i = 0; i < 100; i++) Kixo.track('heavy', {i, text: 'ä'.repeat(1000)}); Kixo.flush()")
    wait_until(lambda: waiting(tab) == 0)
    assert len(gate.names()) == 100
    assert gate.lengths[0] < 60_000
    wait_until(lambda: len(stored(keeper, quiet)) == 100)


@pytest.mark.parametrize("without", ["", "delete Navigator.prototype.locks"], ids=["locks", "lease"])
def test_two_tabs_send_nothing_twice(
    keeper: Server, quiet: Site, gate: Gate, context: BrowserContext, without: str
) -> None:
    context.add_init_script(without)
    tabs = [context.new_page(), context.new_page()]
    for number, tab in enumerate(tabs):
        tab.goto(quiet.url + "/")
        tab.evaluate(f"""() => {{ let i = 0; const timer = setInterval(() => {{
            Kixo.track('tab {number} event ' + i);
            if (++i === 60) {{ clearInterval(timer); window.done = true; }} }}, 5) }}""")
    for tab in tabs:
        tab.wait_for_function("window.done")
    wait_until(lambda: waiting(tabs[0]) == 0)
    names = [f"tab {number} event {event}" for number in range(2) for event in range(60)]
    assert Counter(gate.names()) == Counter(names)
    wait_until(lambda: len(stored(keeper, quiet)) == 120)


def test_without_storage_the_queue_is_in_memory(
    keeper: Server, quiet: Site, gate: Gate, context: BrowserContext
) -> None:
    denied = "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('denied') } })"
    context.add_init_script(denied)
    tab = context.new_page()
    gate.replies = [Reply(503, "unavailable")]
    tab.goto(quiet.url + "/")
    track(tab, "one", "two")
    wait_until(lambda: [row["event_name"] for row in stored(keeper, quiet)] == ["one", "two"])
    assert len(gate.requests) == 2


def test_where_storage_is_full_the_queue_goes_on_in_memory(keeper: Server, quiet: Site, gate: Gate, tab: Page) -> None:
    tab.goto(quiet.url + "/two")
    tab.evaluate("""() => { for (let size = 4_000_000; size > 1; size /= 2)
        try { localStorage.setItem('full' + size, 'x'.repeat(size)) } catch {} }""")
    track(tab, *[f"full {number}" for number in range(10)])
    wait_until(lambda: len(stored(keeper, quiet)) == 10)


def test_nothing_is_lost_or_doubled_through_a_restart_of_the_server_under_load(
    quiet: Site, gate: Gate, tab: Page, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("restarted")
    with running(folder, {}, loader=True) as server:
        project = server.project()
        options = {"projectId": project.id, "apiKey": project.key, "flushSeconds": 0.05, "queueEvents": 100_000}
        quiet.options |= options
        gate.upstream = server.url
        tab.goto(quiet.url + "/")
        tab.evaluate("tracked = 0; timer = setInterval(() => Kixo.track('event ' + tracked++), 10)")
        wait_until(lambda: len(gate.names()) >= 100)
    before = tab.evaluate("tracked")
    tab.wait_for_function(f"tracked >= {before + 50}")
    with running(folder, {}, loader=True) as server:
        gate.upstream = server.url
        tab.wait_for_function(f"tracked >= {before + 100}")
        # The browser says this when the network is back, which ends the wait between two attempts.
        tab.evaluate("clearInterval(timer); dispatchEvent(new Event('online'))")
        wait_until(lambda: waiting(tab) == 0)
        expected = Counter(f"event {number}" for number in range(tab.evaluate("tracked")))
        wait_until(lambda: Counter(row["event_name"] for row in stored(server, quiet)) == expected)
