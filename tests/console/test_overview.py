"""The Overview as a person sees it: real traffic through the public port, a real browser, real tables."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from playwright.sync_api import Page, expect

from kixo.console import overview_figures as figures
from kixo.console.overview_figures import Compared
from kixo.query import QueryCaps, open_query
from kixo.query.questions import Span
from tests.conftest import PATIENCE_S, Project, Server, running
from tests.console.entering import logged_in, login_link
from tests.console.looking import assert_accessible, screenshot
from tests.test_server import wait_until

CAPS = QueryCaps(memory_bytes_max=256 * 1024 * 1024, seconds_max=30.0)
HOSTILE = "</script><b>it's</b>"
NOTHING = "\N{EN DASH}"


def sent(project: Project, server: Server, events: list[dict[str, Any]], **members: Any) -> None:
    """Sends events through the public port and waits until queries see them."""
    before = stored(server, project)
    batch = {"project_id": project.id, "api_key": project.key, "bundle_id": "com.example.shop", "platform": "web"}
    answer = server.http.post("/v1/batch", json={**batch, "batch": events, **members})
    assert answer.status_code == 200, answer.text
    wait_until(lambda: stored(server, project) == before + answer.json()["accepted"])


def stored(server: Server, project: Project) -> int:
    return int(asked(server, f"SELECT count(*) AS n FROM events WHERE project_id = '{project.id}'")[0]["n"])


def asked(server: Server, sql: str) -> list[dict[str, Any]]:
    with open_query(server.folder / "lake", CAPS) as engine:
        found: list[dict[str, Any]] = engine.run(sql).table().to_pylist()
    return found


def event(ago: timedelta, device: str, event_type: str, event_name: str, **members: Any) -> dict[str, Any]:
    return {
        "event_type": event_type,
        "event_name": event_name,
        "device_id": device,
        "session_id": f"{device}-s",
        "timestamp": (datetime.now(UTC) - ago).isoformat(),
        **members,
    }


def an_hour_of_a_shop() -> list[dict[str, Any]]:
    """Two devices with a session each, one of them with nothing but a bounce; and a session of the day before."""
    minute = timedelta(minutes=1)
    return [
        event(10 * minute, "ada", "page_view", "/", properties={"app_version": "4.2.0"}),
        event(8 * minute, "ada", "page_view", "/pricing", properties={"app_version": "4.2.0"}),
        event(6 * minute, "ada", "tap", "Buy now"),
        event(6 * minute, "ada", HOSTILE, HOSTILE),
        event(5 * minute, "bob", "screen_view", "Home", properties={"app_version": "4.1.0"}),
        event(timedelta(hours=30), "old", "page_view", "/"),
    ]


@pytest.fixture(scope="module")
def shop(served: Server) -> Project:
    """A project with an hour of traffic, of which one event was rejected."""
    project = served.project()
    sent(project, served, [*an_hour_of_a_shop(), {**event(timedelta(), "bob", "tap", "x"), "timestamp": "yesterday"}])
    return project


def overview(server: Server, project: Project, **query: str) -> str:
    return str(httpx.URL(f"{server.console_url}/overview", params={"project": project.id, **query}))


def loaded(tab: Page) -> None:
    """Waits until every card is there."""
    expect(tab.locator("[aria-busy=true]")).to_have_count(0, timeout=PATIENCE_S * 1000)


def figure(tab: Page, name: str) -> str:
    return tab.locator(f"#{name} dd").first.inner_text()


def cells(tab: Page, name: str) -> list[list[str]]:
    rows = tab.locator(f"#{name} .scroll tbody tr").all()
    return [row.locator("th, td").all_inner_texts() for row in rows]


class TestAPerson:
    def test_sees_what_was_sent(self, tab: Page, served: Server, shop: Project) -> None:
        tab.goto(overview(served, shop))
        loaded(tab)
        assert [figure(tab, f"{name}-number") for name in ("events", "devices", "sessions", "rejected")] == [
            "5",
            "2",
            "2",
            "1",
        ]
        assert figure(tab, "bounce-number") == "50 %"
        assert figure(tab, "median-number") == "2 minutes"
        assert cells(tab, "top-pages") == [["/", "1"], ["/pricing", "1"]]
        assert cells(tab, "top-screens") == [["Home", "1"]]
        assert cells(tab, "top-events") == [[HOSTILE, HOSTILE, "1"], ["Buy now", "tap", "1"]]
        assert cells(tab, "top-apps") == [["com.example.shop", "web", "5", "2"]]
        assert cells(tab, "top-reasons") == [["invalid_timestamp", "timestamp", "1"]]
        assert cells(tab, "top-versions") == [
            ["4.2.0", "com.example.shop", "web", "2", "1"],
            ["4.1.0", "com.example.shop", "web", "1", "1"],
        ]
        assert "less than before" not in tab.locator("#events-number").inner_text()
        expect(tab.locator("#events-number .more")).to_have_text("▲ 400 % more than before (1)")

    def test_sees_charts_with_their_figures_in_a_table(self, tab: Page, served: Server, shop: Project) -> None:
        tab.goto(overview(served, shop, span="hour"))
        loaded(tab)
        expect(tab.locator("figure canvas")).to_have_count(4)
        chart = tab.locator("#events-over-time")
        chart.get_by_text("Table").click()
        # Every minute has its row, also those in which nothing came.
        assert chart.locator(".scroll tbody tr").count() in {60, 61, 62}
        totals = [sum(map(int, row[1:])) for row in cells(tab, "events-over-time")]
        assert (sum(totals), totals.count(0)) == (5, len(totals) - 4)
        heads = chart.locator(".scroll thead th").all_inner_texts()
        assert heads == ["Time (UTC)", "page_view", HOSTILE, "screen_view", "tap"]

    def test_changes_the_span_and_keeps_the_project(self, tab: Page, served: Server, shop: Project) -> None:
        tab.goto(overview(served, shop, span="hour"))
        tab.get_by_role("link", name="Last 7 days").click()
        loaded(tab)
        assert figure(tab, "events-number") == "6"
        assert parse_qs(urlsplit(tab.url).query)["project"] == [shop.id]
        expect(tab.get_by_role("link", name="Last 7 days")).to_have_attribute("aria-current", "true")

    def test_asks_for_a_span_of_their_own(self, tab: Page, served: Server, shop: Project) -> None:
        tab.goto(overview(served, shop))
        tab.get_by_text("Another span").click()
        day = (datetime.now(UTC) - timedelta(hours=30)).strftime("%Y-%m-%dT%H:%M")
        tab.get_by_label("From (UTC)").fill(f"{day[:10]}T00:00")
        tab.get_by_label("To, not included (UTC)").fill(f"{day[:13]}:59")
        tab.get_by_role("button", name="Show").last.click()
        loaded(tab)
        assert figure(tab, "events-number") == "1"
        assert tab.get_by_label("From (UTC)").input_value() == f"{day[:10]}T00:00"

    def test_opens_the_sql_of_a_chart_and_gets_the_same_figures(self, tab: Page, served: Server, shop: Project) -> None:
        tab.goto(overview(served, shop))
        loaded(tab)
        chart = tab.locator("#events-over-time")
        chart.locator("summary", has_text="SQL").click()
        sql = chart.locator("pre").inner_text()
        rows = asked(served, sql)
        assert sum(row["events"] for row in rows) == 5
        link = chart.get_by_role("link", name="Open in Explore").get_attribute("href")
        assert parse_qs(urlsplit(link or "").query)["sql"] == [sql]

    def test_is_led_to_the_questions_that_are_ready_to_ask(self, tab: Page, served: Server, shop: Project) -> None:
        tab.goto(overview(served, shop, span="week"))
        loaded(tab)
        tab.get_by_role("link", name="Retention").click()
        tab.wait_for_url("**/explore?*")
        assert parse_qs(urlsplit(tab.url).query)["question"] == ["retention"]
        expect(tab.get_by_role("main")).to_contain_text("WITH present AS")

    def test_opens_explore_with_the_sql_of_a_list(self, tab: Page, served: Server, shop: Project) -> None:
        tab.goto(overview(served, shop))
        loaded(tab)
        places = tab.locator("#top-apps")
        places.locator("summary").click()
        places.get_by_role("link", name="Open in Explore").click()
        expect(tab.get_by_role("main")).to_contain_text("SELECT platform, bundle_id, count(*) AS events")

    def test_takes_a_line_away_by_keyboard_and_brings_it_back(self, tab: Page, served: Server, shop: Project) -> None:
        tab.goto(overview(served, shop))
        loaded(tab)
        name = tab.locator("#events-over-time").get_by_role("button", name="page_view")
        expect(name).to_have_attribute("aria-pressed", "true")
        name.focus()
        tab.keyboard.press("Enter")
        expect(name).to_have_attribute("aria-pressed", "false")
        tab.keyboard.press("Space")
        expect(name).to_have_attribute("aria-pressed", "true")

    def test_sees_what_came_since_after_a_refresh(self, tab: Page, served: Server) -> None:
        project = served.project()
        sent(project, served, [event(timedelta(minutes=1), "ada", "tap", "One")])
        tab.goto(overview(served, project))
        loaded(tab)
        assert figure(tab, "events-number") == "1"
        sent(project, served, [event(timedelta(seconds=30), "ada", "tap", "Two")])
        tab.get_by_role("link", name="Refresh").click()
        expect(tab.locator("#events-number dd").first).to_have_text("2")

    def test_sees_an_empty_span_as_one(self, tab: Page, served: Server) -> None:
        tab.goto(overview(served, served.project(), span="quarter"))
        loaded(tab)
        expect(tab.get_by_text("No events in this span")).to_be_visible()
        assert (figure(tab, "events-number"), figure(tab, "bounce-number")) == ("0", NOTHING)
        tab.locator("#events-over-time").get_by_text("Table").click()
        assert {row[1] for row in cells(tab, "events-over-time")} == {"0"}
        screenshot(tab, "overview-empty")
        assert_accessible(tab)

    def test_can_use_it_whoever_they_are(self, tab: Page, served: Server, shop: Project) -> None:
        tab.goto(overview(served, shop, span="hour"))
        loaded(tab)
        screenshot(tab, "overview")
        for summary in tab.locator("main summary").all():
            summary.click()
        assert_accessible(tab)


class TestWithoutAScript:
    @pytest.fixture
    def client(self, served: Server) -> Iterator[httpx.Client]:
        with logged_in(served) as found:
            yield found

    def test_everything_is_in_one_page(self, client: httpx.Client, shop: Project) -> None:
        page = client.get("/overview", params={"project": shop.id, "all": "1"})
        assert page.status_code == 200
        for text in ("Buy now", "com.example.shop", "invalid_timestamp", "4.2.0", "page_view"):
            assert text in page.text
        assert HOSTILE not in page.text

    def test_the_page_without_its_cards_leads_there(self, client: httpx.Client, shop: Project) -> None:
        assert "all=1" in client.get("/overview", params={"project": shop.id}).text

    @pytest.mark.parametrize(
        ("query", "words"),
        [
            ({"span": "year"}, "There is no span"),
            ({"span": "custom"}, "no ISO 8601 instant"),
            ({"span": "custom", "from": "2026-04-08", "to": "2026-04-07"}, "ends before it begins"),
            ({"span": "custom", "from": "2020-04-08", "to": "2026-04-07"}, "days long"),
        ],
    )
    def test_a_span_that_cannot_be_is_said_with_what_to_do(
        self, client: httpx.Client, shop: Project, query: dict[str, str], words: str
    ) -> None:
        page = client.get("/overview", params={"project": shop.id, **query})
        assert page.status_code == 200
        assert words in page.text
        assert client.get("/overview/traffic", params={"project": shop.id, **query}).status_code == 400

    @pytest.mark.parametrize("path", ["/overview/nothing", "/overview/traffic?project=kx_proj_nobody"])
    def test_what_is_not_there_is_not_found(self, client: httpx.Client, path: str) -> None:
        assert client.get(path).status_code == 404

    def test_values_of_an_address_never_become_sql(self, client: httpx.Client, shop: Project) -> None:
        query = {"project": shop.id, "environment": "production' OR true --"}
        assert client.get("/overview/traffic", params=query).status_code == 404


def test_a_card_whose_query_fails_says_so_and_the_others_stand(stranger: Page, tmp_path: Path) -> None:
    with running(tmp_path, {}, loader=True) as server:
        project = server.project()
        sent(project, server, [event(timedelta(minutes=1), "ada", "tap", "One")])
        for path in (server.folder / "lake" / "events").glob("date=*/*.parquet"):
            spoil(path)
        stranger.goto(login_link(server))
        stranger.goto(overview(server, project))
        loaded(stranger)
        expect(stranger.locator("#traffic .card-failed")).to_contain_text("The query failed")
        expect(stranger.locator("#rejected-number dd").first).to_have_text("0")
        with stranger.expect_response("**/overview/traffic*"):
            stranger.locator("#traffic").get_by_role("button", name="Try again").click()
        expect(stranger.locator("#traffic .card-failed")).to_be_visible()
        screenshot(stranger, "overview-failed")
        assert_accessible(stranger)


def spoil(path: Path) -> None:
    """Overwrites the rows of a Parquet file, and leaves the footer that tells of them."""
    data = path.read_bytes()
    footer = int.from_bytes(data[-8:-4], "little") + 8
    path.write_bytes(data[:4] + bytes(len(data) - 4 - footer) + data[-footer:])


class TestFigures:
    def test_a_number_is_compared_with_what_was_before(self) -> None:
        assert Compared(150, 100).change == pytest.approx(0.5)
        assert Compared(0, 100).change == -1
        assert Compared(100, 0).change is None
        assert Compared(None, 5).change is None
        assert Compared(5, None).change is None

    def test_buckets_without_events_are_zero_and_lengths_without_sessions_are_nothing(self) -> None:
        span = Span(60_000_000, 240_000_000)
        figures_of = dict.fromkeys(("sessions", "seconds_median", "seconds_p90", "bounce_rate"))
        at = {"part": "sessions_at", "time": "1970-01-01T00:02:00.000000Z", **figures_of, "sessions": 2}
        one = [{"part": part, "devices": 0, **figures_of} for part in PARTS]
        shown = figures.visits([*one, at | {"seconds_median": 1.5, "seconds_p90": 2}], span)
        assert shown["sessions_at"]["x"] == [60, 120, 180]
        assert shown["sessions_at"]["series"] == [{"label": "Sessions", "values": [0, 2, 0]}]
        assert [line["values"] for line in shown["lengths_at"]["series"]] == [[None, 1.5, None], [None, 2, None]]
        assert json.dumps(shown["lengths_at"])


PARTS = ("devices", "devices_before", "sessions", "sessions_before")
