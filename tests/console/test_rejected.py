"""The page Rejected, as somebody uses it whose events do not come in."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from kixo.query import QueryCaps, open_query
from kixo.query.account import read_rows
from tests.conftest import PATIENCE_S, Project, Server, event
from tests.console.entering import csrf_token, logged_in
from tests.console.looking import assert_accessible, screenshot
from tests.test_server import send, wait_until

CAPS = QueryCaps(256 * 1024 * 1024, 60)


def ask(server: Server, sql: str) -> list[dict[str, Any]]:
    with open_query(server.folder / "lake", CAPS) as engine:
        return read_rows(engine, sql)


def without(name: str, **members: object) -> dict[str, Any]:
    found = event(**members)
    del found[name]
    return found


def reject(server: Server, project: Project, *events: object, **members: object) -> None:
    """Sends events all of which are bad, and waits until that can be seen."""
    assert send(server, project, *events, **members).status_code == 400
    count = f"SELECT count(*) AS n FROM rejected WHERE project_id = '{project.id}'"
    wait_until(lambda: ask(server, count)[0]["n"] >= len(events))


def stored(server: Server, project: Project) -> list[str]:
    rows = ask(server, f"SELECT event_name FROM events WHERE project_id = '{project.id}' ORDER BY ALL")
    return [row["event_name"] for row in rows]


def open_page(tab: Page, server: Server, project: Project) -> None:
    tab.goto(f"{server.console_url}/rejected?project={project.id}&environment=production")


def newcomers_traffic(server: Server, project: Project) -> None:
    version = {"app_version": "2.1.0"}
    lacking = [without("device_id", event_name=f"/page/{n}", properties=version) for n in range(3)]
    odd = [event(timestamp=1775649600000, properties=version), event(event_name="<script>alert(1)</script>" * 300)]
    reject(server, project, *lacking, *odd, 7)


def test_a_newcomer_finds_the_reason_mends_it_and_sees_the_events(tab: Page, served: Server) -> None:
    project = served.project()
    newcomers_traffic(served, project)
    open_page(tab, served, project)
    rows = tab.get_by_role("region", name="Groups of rejected events").locator("tbody tr")
    expect(rows).to_have_count(4)
    first = rows.nth(0)
    expect(first).to_contain_text("missing: device_id")
    expect(first).to_contain_text("`device_id` is missing. Send a string of 1 to 255 characters.")
    expect(first).to_contain_text("version 2.1.0")
    expect(rows.filter(has_text="invalid timestamp")).to_contain_text("1775649600000")
    assert_accessible(tab)
    screenshot(tab, "rejected")

    first.get_by_role("link").click()
    expect(tab.get_by_role("heading", level=1)).to_have_text("missing: device_id")
    assert_accessible(tab)
    tab.get_by_label("Set").first.fill("device_id")
    tab.get_by_label("to", exact=True).first.fill('"unknown"')
    screenshot(tab, "rejected-group")
    tab.get_by_role("button", name="Preview all 3").click()
    expect(tab.get_by_text("3 would be stored")).to_be_visible()
    expect(tab.get_by_text("passes", exact=True)).to_have_count(3)
    expect(tab.get_by_role("region", name="What would become")).to_contain_text('"device_id":"unknown"')
    assert stored(served, project) == [], "a preview stores nothing"
    assert_accessible(tab)
    screenshot(tab, "rejected-preview")

    tab.get_by_role("button", name="Replay all 3").click()
    expect(tab.get_by_text("3 replayed", exact=True)).to_be_visible()
    assert_accessible(tab)
    screenshot(tab, "rejected-replayed")
    wait_until(lambda: stored(served, project) == ["/page/0", "/page/1", "/page/2"])
    expect(tab.get_by_role("link", name="See them in Explore")).to_be_visible()
    sql = tab.locator("#see").inner_text()
    assert {row["device_id"] for row in ask(served, sql)} == {"unknown"}

    tab.get_by_role("link", name="Back to what was rejected").click()
    expect(rows.nth(0)).to_contain_text("all replayed")
    rows.nth(0).get_by_role("link").click()
    tab.get_by_label("to", exact=True).first.fill('"another"')
    tab.get_by_role("button", name="Preview all 3").click()
    expect(tab.get_by_text("3 were replayed before and stay as they are")).to_be_visible()
    expect(tab.get_by_role("button", name="Replay")).to_have_count(0)
    assert len(stored(served, project)) == 3


def test_one_event_is_shown_as_it_was_sent_and_mended_by_hand(tab: Page, served: Server) -> None:
    project = served.project()
    reject(served, project, event(event_name="mine", timestamp=1775649600000), without("device_id"))
    open_page(tab, served, project)
    tab.get_by_role("link", name="invalid timestamp").click()
    tab.get_by_role("region", name="Events of this group").get_by_role("link").click()
    assert tab.locator("mark").inner_text().endswith("1775649600000")
    assert_accessible(tab)
    screenshot(tab, "rejected-event")
    text = tab.get_by_label("The event's JSON", exact=True).last
    text.fill('{"event_type": "tap", oops')
    tab.get_by_role("button", name="Preview").click()
    expect(tab.get_by_role("alert")).to_contain_text("not JSON at byte")
    tab.go_back()
    mended = {**event(event_name="mine"), "timestamp": "2026-04-08T12:00:00Z"}
    text.fill(json.dumps(mended))
    tab.get_by_role("button", name="Preview").click()
    expect(tab.get_by_text("1 would be stored")).to_be_visible()
    tab.get_by_role("button", name="Replay").click()
    expect(tab.get_by_text("1 replayed", exact=True)).to_be_visible()
    wait_until(lambda: stored(served, project) == ["mine"])


def test_the_keyboard_chooses_some_events_and_replays_only_those(tab: Page, served: Server) -> None:
    project = served.project()
    reject(served, project, *[without("session_id", event_name=str(number)) for number in range(4)])
    open_page(tab, served, project)
    tab.get_by_role("link", name="missing: session_id").press("Enter")
    tab.get_by_label("to", exact=True).first.focus()
    tab.keyboard.type('"s"')
    boxes = tab.get_by_role("checkbox")
    expect(boxes).to_have_count(4)
    for place in (0, 2):
        boxes.nth(place).focus()
        tab.keyboard.press("Space")
    tab.get_by_role("button", name="Preview those chosen").press("Enter")
    expect(tab.get_by_text("2 would be stored")).to_be_visible()
    tab.get_by_role("button", name="Replay all 2").press("Enter")
    expect(tab.get_by_text("2 replayed", exact=True)).to_be_visible()
    wait_until(lambda: len(stored(served, project)) == 2)
    assert stored(served, project) == ["1", "3"], "the latest of a request stands first"


def test_choosing_nothing_replays_nothing(tab: Page, served: Server) -> None:
    project = served.project()
    reject(served, project, without("session_id"))
    open_page(tab, served, project)
    tab.get_by_role("link", name="missing: session_id").click()
    tab.get_by_role("button", name="Preview those chosen").click()
    expect(tab.get_by_text("No event is chosen")).to_be_visible()
    expect(tab.get_by_role("button", name="Replay")).to_have_count(0)


def test_where_nothing_was_rejected_the_page_says_so(tab: Page, served: Server) -> None:
    project = served.project()
    open_page(tab, served, project)
    expect(tab.get_by_text("Nothing was rejected", exact=True)).to_be_visible()
    assert_accessible(tab)
    screenshot(tab, "rejected-empty")


def test_a_large_group_is_replayed_in_steps_that_show_how_far_they_are(tab: Page, served: Server) -> None:
    project = served.project()
    for number in range(3):
        reject(served, project, *[without("device_id", event_name=f"{number}-{n}") for n in range(600)])
    count = f"SELECT count(*) AS n FROM rejected WHERE project_id = '{project.id}'"
    wait_until(lambda: ask(served, count)[0]["n"] == 1800)
    open_page(tab, served, project)
    tab.get_by_role("link", name="missing: device_id").click()
    expect(tab.get_by_role("checkbox")).to_have_count(50)
    tab.get_by_role("link", name="Earlier events").click()
    expect(tab.get_by_role("heading", name="Events before the ones seen")).to_be_visible()
    tab.get_by_label("to", exact=True).first.fill('"unknown"')
    tab.get_by_role("button", name="Preview all 1,800").click()
    expect(tab.get_by_text("Of the first 600 of 1,800 events")).to_be_visible()
    tab.get_by_role("button", name="Replay all 1,800").click()
    expect(tab.get_by_text("1,800 replayed", exact=True)).to_be_visible(timeout=PATIENCE_S * 1000)
    wait_until(lambda: len(stored(served, project)) == 1800)


def fields(server: Server, project: Project, **more: str) -> dict[str, str]:
    return {"code": "missing", "field": "device_id", "set_member_1": "device_id", "set_value_1": '"d"', **more}


def test_without_scripts_each_step_is_a_click(served: Server) -> None:
    project = served.project()
    for number in range(2):
        reject(served, project, *[without("device_id", event_name=f"{number}-{n}") for n in range(600)])
    count = f"SELECT count(*) AS n FROM rejected WHERE project_id = '{project.id}'"
    wait_until(lambda: ask(served, count)[0]["n"] == 1200)
    address = f"/rejected/replay?project={project.id}&environment=production"
    with logged_in(served) as client:
        form = fields(served, project, total="1200", csrf=csrf_token(client))
        answers: list[str] = []
        while True:
            answers.append(client.post(address, data=form).text)
            hidden = hidden_fields(answers[-1])
            if "after" not in hidden:
                break
            form = hidden
    assert "600 of 1,200 events are done" in answers[0]
    assert "<strong>1,200 replayed</strong>" in answers[-1]
    assert len(answers) == 3


def hidden_fields(page: str) -> dict[str, str]:
    """The fields of the last form of a page."""
    from html.parser import HTMLParser

    found: dict[str, str] = {}

    class Fields(HTMLParser):
        def handle_starttag(self, tag: str, attributes: Sequence[tuple[str, str | None]]) -> None:
            members = dict(attributes)
            if tag == "form":
                found.clear()
            if tag == "input" and members.get("type") == "hidden":
                found[str(members["name"])] = members.get("value") or ""

    Fields().feed(page)
    return found


def test_another_site_and_another_project_cannot_replay(served: Server) -> None:
    project, other = served.project(), served.project()
    reject(served, project, without("device_id"))
    address = f"/rejected/replay?project={project.id}&environment=production"
    with logged_in(served) as client:
        form = fields(served, project, csrf=csrf_token(client))
        assert client.post(address, data={**form, "csrf": "0"}).status_code == 403
        assert client.post(address, data=form, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
        assert client.get(address).status_code == 405
        elsewhere = client.post(f"/rejected/replay?project={other.id}&environment=production", data=form)
        assert "<strong>0 replayed</strong>" in elsewhere.text
    assert stored(served, project) == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/rejected?days=nonsense", 200),
        ("/rejected/group?code=x'%3B--&field=", 200),
        ("/rejected/group?before=x", 400),
        ("/rejected/group?from_us=x", 400),
        ("/rejected/event?place=x", 400),
        ("/rejected/event?place=l:1:2:3&at=5", 404),
        ("/rejected/preview", 405),
    ],
)
def test_an_address_that_nobody_made_is_answered_in_words(served: Server, path: str, status: int) -> None:
    with logged_in(served) as client:
        assert client.get(path).status_code == status
