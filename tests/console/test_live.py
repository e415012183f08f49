"""The live page: what a person sees of events that arrive, whatever becomes of them."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from kixo.registry import open_registry
from kixo.registry.login import renew_session_secret
from kixo.settings import Settings
from tests.conftest import PATIENCE_S, Project, Server, event, running
from tests.console.entering import logged_in
from tests.console.looking import assert_accessible, screenshot
from tests.test_server import wait_until


@pytest.fixture
def project(served: Server) -> Project:
    return served.project()


def send(server: Server, body: bytes) -> httpx.Response:
    return server.http.post("/v1/batch", content=body)


def now_text(**ago: float) -> str:
    return (datetime.now(UTC) - timedelta(**ago)).isoformat()


def open_live(tab: Page, server: Server, project: Project, query: str = "") -> Locator:
    """The rows of the live page, once it follows what arrives."""
    tab.goto(f"{server.console_url}/live?project={project.id}{query}")
    expect(tab.locator("#rate")).not_to_have_text("Connecting…")
    expect(tab.locator("#rate")).to_contain_text("event")
    return tab.locator("#rows tr")


def test_an_accepted_event_is_seen_as_it_arrives_and_then_as_stored(
    tab: Page, served: Server, project: Project
) -> None:
    rows = open_live(tab, served, project)
    expect(tab.get_by_text("Nothing has arrived here yet.")).to_be_visible()
    assert send(served, project.body(event(event_name="Checkout"))).status_code == 200
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text("Checkout")
    expect(rows.first).to_contain_text("page_view")
    expect(rows.first.locator(".outcome")).to_have_text("stored")
    expect(tab.get_by_text("Nothing has arrived here yet.")).to_be_hidden()


def test_a_rejected_event_says_why_and_what_was_sent(tab: Page, served: Server, project: Project) -> None:
    rows = open_live(tab, served, project)
    send(served, project.body(event(), event(event_name="Broken", timestamp="next tuesday")))
    broken = rows.filter(has_text="Broken")
    expect(broken.locator(".outcome")).to_have_text("rejected")
    expect(broken).to_contain_text("invalid_timestamp")
    expect(broken.locator(".value")).to_have_text('"next tuesday"')


def test_a_refused_request_says_why(tab: Page, served: Server, project: Project) -> None:
    rows = open_live(tab, served, project)
    send(served, project.body(event())[:-3])
    send(served, project.body(event(), api_key="kx_key_wrong"))
    expect(rows.locator(".outcome")).to_have_text(["refused", "refused"])
    expect(rows.nth(1)).to_contain_text("invalid_json")
    expect(rows.nth(0)).to_contain_text("Request answered 401")
    only = open_live(tab, served, project, "&outcome=accepted")
    expect(only).to_have_count(0)


def test_the_second_of_two_copies_turns_into_a_duplicate(tab: Page, served: Server, project: Project) -> None:
    rows = open_live(tab, served, project)
    for _ in range(2):
        send(served, project.body(event(event_id="one and the same")))
    expect(rows).to_have_count(2)
    expect(rows.nth(0).locator(".outcome")).to_have_text("duplicate")
    expect(rows.nth(1).locator(".outcome")).to_have_text("stored")
    rows.nth(0).locator("a").click()
    expect(tab.locator("#event")).to_contain_text("It was there before, so it counts once")
    tab.get_by_role("link", name="the event that it repeats").click()
    expect(tab.locator("#event")).to_contain_text("It is in the table events.")
    only = open_live(tab, served, project, "&outcome=duplicate")
    expect(only).to_have_count(1)
    send(served, project.body(event(event_id="one and the same"), event(event_name="new")))
    expect(only).to_have_count(2)
    expect(only.filter(has_text="duplicate")).to_have_count(2)


def test_only_what_fits_the_filter_is_shown_and_the_filter_is_in_the_address(
    tab: Page, served: Server, project: Project
) -> None:
    open_live(tab, served, project)
    tab.get_by_label("Device").fill('d_"7"')
    tab.get_by_label("Name contains").fill("caf")
    tab.get_by_role("button", name="Filter").click()
    rows = tab.locator("#rows tr")
    expect(tab.locator("#rate")).to_contain_text("event")
    send(served, project.body(*(event(event_name=f"n{n}", device_id=f"d_{n}") for n in range(50))))
    send(served, project.body(event(event_name="the café", device_id='d_"7"'), event(event_name="café")))
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text("the café")
    tab.reload()
    expect(rows).to_have_count(1)
    assert "device=d_%227%22" in tab.url
    tab.get_by_role("link", name="Clear").click()
    expect(rows).to_have_count(52)


def test_events_of_other_environments_are_one_click_away(tab: Page, served: Server, project: Project) -> None:
    rows = open_live(tab, served, project)
    send(served, project.body(event(event_name="Staged"), environment="staging"))
    tab.get_by_role("link", name="Show all environments").click()
    expect(rows.filter(has_text="Staged")).to_have_count(1)


def test_a_pause_holds_the_list_and_counts_what_comes(tab: Page, served: Server, project: Project) -> None:
    rows = open_live(tab, served, project)
    send(served, project.body(event(event_name="before")))
    expect(rows).to_have_count(1)
    tab.get_by_role("button", name="Pause").click()
    send(served, project.body(event(event_name="meanwhile"), event(event_name="meanwhile too")))
    resume = tab.get_by_role("button", name="Resume (2 new)")
    expect(resume).to_be_visible()
    expect(resume).to_have_attribute("aria-pressed", "true")
    expect(rows).to_have_count(1)
    resume.click()
    expect(rows).to_have_count(3)
    expect(rows.first).to_contain_text("meanwhile too")


def test_the_whole_event_opens_beside_the_list_by_click_and_by_keys(
    tab: Page, served: Server, project: Project
) -> None:
    rows = open_live(tab, served, project)
    body = project.body(
        event(event_name="Late", event_id="e_42", timestamp=now_text(hours=3), properties={"price": 12.50}),
        sent_at=now_text(hours=2),
    )
    send(served, body)
    rows.first.locator(".device").click()
    panel = tab.locator("#event")
    expect(panel.get_by_role("heading", name="Late")).to_be_focused()
    expect(panel).to_contain_text('"price": 12.5')
    expect(panel).to_contain_text("Rule behind: `sent_at` lies 2 h before the request came in")
    expect(panel).to_contain_text("its event_id e_42")
    expect(panel).to_contain_text("It is in the table events.")
    expect(panel).to_contain_text("As stored")
    assert "event=0%3A" in tab.url
    tab.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(rows.first.get_by_role("link")).to_be_focused()
    tab.keyboard.press("Enter")
    expect(panel.get_by_role("heading", name="Late")).to_be_visible()
    tab.go_back()
    expect(panel).to_be_hidden()
    tab.go_forward()
    tab.reload()
    expect(panel.get_by_role("heading", name="Late")).to_be_visible()


def test_the_whole_of_a_rejected_event_has_the_reason(tab: Page, served: Server, project: Project) -> None:
    rows = open_live(tab, served, project)
    send(served, project.body(event(device_id="")))
    rows.first.get_by_role("link").click()
    panel = tab.locator("#event")
    expect(panel).to_contain_text("empty in device_id: `device_id` is empty.")
    expect(panel).to_contain_text('"device_id": ""')


@contextmanager
def standing_loader(server: Server) -> Iterator[Callable[[], None]]:
    """The loader stands still until what this gives is called."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    (loader,) = [int(pid) for pid in children if b"kixo.server.loader" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(loader, signal.SIGSTOP)
    try:
        yield lambda: os.kill(loader, signal.SIGCONT)
    finally:
        os.kill(loader, signal.SIGCONT)


def test_an_event_that_is_not_loaded_yet_fills_itself_in(tab: Page, served: Server, project: Project) -> None:
    rows = open_live(tab, served, project)
    with standing_loader(served) as go_on:
        send(served, project.body(event(event_name="Waiting")))
        rows.first.get_by_role("link").click()
        panel = tab.locator("#event")
        expect(panel).to_contain_text("not in the tables yet")
        expect(panel).to_contain_text("As it will be stored")
        go_on()
        expect(panel).to_contain_text("It is in the table events.")
        expect(rows.first.locator(".outcome")).to_have_text("stored")


def test_without_javascript_the_page_is_a_list_of_the_newest(served: Server, project: Project) -> None:
    send(served, project.body(event(event_name="First"), event(event_name="<b>Second</b>", timestamp="soon")))
    with logged_in(served) as client:
        text = client.get("/live", params={"project": project.id}).text
        assert text.index("&lt;b&gt;Second&lt;/b&gt;") < text.index("First")
        assert "invalid_timestamp" in text
        assert "<b>Second" not in text
        place = text.split('<tr data-id="')[1].split('"')[0]
        whole = client.get("/live", params={"project": project.id, "event": place}).text
        assert "Why it was rejected" in whole
        assert "As sent" in whole


@pytest.mark.parametrize("place", ["", "x", "0:1", "9:9:9", "0:99999999999999:0", "-1:0:0", "0:0:-1", "1e9:0:0"])
def test_a_place_that_is_none_is_no_error(served: Server, project: Project, place: str) -> None:
    with logged_in(served) as client:
        answer = client.get("/live", params={"project": project.id, "event": place})
        assert answer.status_code == 200


def test_the_stream_needs_a_session(served: Server, project: Project) -> None:
    assert httpx.get(f"{served.console_url}/live/stream", params={"project": project.id}).status_code == 401


def test_the_stream_ends_with_the_session(served: Server, project: Project) -> None:
    with logged_in(served) as client, client.stream("GET", "/live/stream", params={"project": project.id}) as told:
        lines = told.iter_lines()
        assert next(lines) == "retry: 1000"
        with open_registry(Settings(data_dir=served.folder)) as registry:
            renew_session_secret(registry)
        assert "event: ended" in list(lines)


def test_everybody_can_use_the_page(tab: Page, served: Server, project: Project) -> None:
    rows = open_live(tab, served, project)
    screenshot(tab, "live-empty")
    assert_accessible(tab)
    good = [event(event_name=name, event_type="tap", timestamp=now_text(), device_id=f"d_{name}") for name in "abcdef"]
    send(served, project.body(*good, event(event_name="Broken", timestamp="soon"), event(session_id=7)))
    send(served, project.body(*good[:2], event(event_id="x" * 200)))
    expect(rows.locator(".outcome", has_text="accepted")).to_have_count(0)
    rows.filter(has_text="Broken").get_by_role("link").click()
    expect(tab.locator("#event")).to_contain_text("As sent")
    assert_accessible(tab)
    screenshot(tab, "live")


@contextmanager
def traffic(server: Server, project: Project, events_per_s: int) -> Iterator[None]:
    """Events at a rate, in ten requests a second, with one device that is rare."""
    stop = threading.Event()
    size = events_per_s // 10

    def drive() -> None:
        number = 0
        with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client:
            due = time.monotonic()
            while not stop.is_set():
                number += 1
                stamp = now_text()
                events = [event(device_id=f"d_{n}", event_id=f"{number}-{n}", timestamp=stamp) for n in range(size)]
                if number % 10 == 0:
                    events[size // 2]["device_id"] = "d_rare"
                client.post("/v1/batch", content=project.body(*events))
                due = max(due + 0.1, time.monotonic() - 1)
                stop.wait(max(0.0, due - time.monotonic()))

    thread = threading.Thread(target=drive)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


FRAMES = """seconds => new Promise(resolve => {
    const times = [];
    const step = now => {
        times.push(now);
        if (now - times[0] < seconds * 1000) requestAnimationFrame(step); else resolve(times);
    };
    requestAnimationFrame(step);
})"""


def test_ten_thousand_events_a_second_are_sampled_and_the_page_goes_on(
    tab: Page, served: Server, project: Project
) -> None:
    rows = open_live(tab, served, project)
    with traffic(served, project, 10_000):
        expect(tab.locator("#rate")).to_contain_text("a sample")
        first = rows.first.get_attribute("data-id")
        times = tab.evaluate(FRAMES, 3)
        gaps = [after - before for before, after in pairwise(times)]
        print(f"\n{len(times) / 3:.0f} frames/s, longest gap {max(gaps):.0f} ms; {tab.locator('#rate').inner_text()}")
        assert rows.first.get_attribute("data-id") != first
        assert rows.count() <= 200
        tab.get_by_role("button", name="Pause").click()
        expect(tab.get_by_role("button", name="Resume")).to_be_visible()
        rows.first.get_by_role("link").click()
        expect(tab.locator("#event")).to_contain_text("As sent")
        screenshot(tab, "live-sample")
        open_live(tab, served, project, "&device=d_rare")
        expect(rows.nth(2)).to_be_visible()
        assert set(rows.locator(".device").all_inner_texts()) == {"d_rare"}


def test_a_server_stops_at_once_though_somebody_watches(tmp_path: Path) -> None:
    with running(tmp_path, {}, loader=True) as server:
        project = server.project()
        with logged_in(server) as client, client.stream("GET", "/live/stream", params={"project": project.id}) as told:
            assert told.headers["content-type"].startswith("text/event-stream")
            lines = told.iter_lines()
            assert next(lines) == "retry: 1000"
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            list(lines)
            server.process.wait(10)
            print(f"\nstopped after {time.monotonic() - began:.2f} s")
    assert "stop_forced" not in (tmp_path / "stderr").read_text()


def test_no_more_pages_watch_than_may(tmp_path: Path) -> None:
    with running(tmp_path, {"KIXO_LIVE_WATCHERS_MAX": "1"}, loader=True) as server, logged_in(server) as client:
        with client.stream("GET", "/live/stream") as told:
            assert told.status_code == 200
            refused = client.get("/live/stream")
            assert refused.status_code == 503
            assert "live_watchers_max" in json.loads(refused.text)["message"]
        wait_until(lambda: may_watch(client))


def may_watch(client: httpx.Client) -> bool:
    with client.stream("GET", "/live/stream") as told:
        return told.status_code == 200


def test_a_stream_goes_on_where_it_was_cut(served: Server, project: Project) -> None:
    with logged_in(served) as client:
        send(served, project.body(event(event_name="seen")))
        position = last_position(client, project, None, ["seen"])
        send(served, project.body(event(event_name="missed")))
        last_position(client, project, position, ["missed"])


def last_position(client: httpx.Client, project: Project, since: str | None, names: list[str]) -> str:
    """Reads the first rows of a stream, which have to be of these names; the id of their message."""
    headers = {"Last-Event-ID": since} if since else {}
    with client.stream("GET", "/live/stream", params={"project": project.id}, headers=headers) as told:
        id = ""
        for line in told.iter_lines():
            if line.startswith("id: "):
                id = line[4:]
            elif line.startswith("data: [{"):
                assert [row["name"] for row in json.loads(line[6:])] == names
                return id
    raise EOFError
