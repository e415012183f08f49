"""Explore, as a person uses it in Chromium: asking, being wrong, cancelling, drawing, keeping and taking away."""

import csv
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Page, expect

from kixo.console.assets import open_assets
from tests.conftest import Project, Server, event, running
from tests.console.entering import csrf_token, logged_in, login_link
from tests.console.looking import assert_accessible, assert_fits, screenshot
from tests.console.test_read_api import read_token, reader, runs
from tests.test_server import wait_until

GZIP_BYTES_MAX = 300_000
TODAY = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module")
def project(served: Server) -> Project:
    """A project with events of the last hours, in the tables."""
    project = served.project()
    events = [
        event(
            event_type="page_view" if number % 3 else "click",
            device_id=f"d_{number % 4}",
            timestamp=(TODAY - timedelta(hours=number)).isoformat(),
            properties={"plan": "pro", "nested": {"number": number}},
        )
        for number in range(24)
    ]
    position = served.http.post("/v1/batch", json=project.batch(*events)).headers["kixo-position"]
    with reader(served, read_token(served)) as script:
        assert script.get("/api/events", params={"after": position}).status_code == 200
    return project


@pytest.fixture
def explore(tab: Page, served: Server, project: Project) -> Page:
    """The page, with its editor."""
    tab.goto(f"{served.console_url}/explore?project={project.id}")
    expect(editor(tab)).to_be_visible()
    return tab


def editor(page: Page) -> Any:
    return page.get_by_role("textbox", name="SQL")


def write(page: Page, sql: str) -> None:
    """Types into the editor; of brackets and quotes the editor writes the other one."""
    editor(page).click()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.press("Delete")
    page.keyboard.insert_text(sql)


def ask(page: Page, sql: str) -> None:
    write(page, sql)
    page.get_by_role("button", name="Run", exact=True).click()


def shown(page: Page) -> list[list[str]]:
    """The cells of the answer."""
    page.locator("#rows").wait_for()
    found: list[list[str]] = page.evaluate(
        "[...document.querySelectorAll('#rows tbody tr')].map(row => [...row.cells].map(cell => cell.textContent))"
    )
    return found


def test_a_query_is_asked_and_its_answer_shown_by_type(explore: Page, project: Project) -> None:
    ask(
        explore,
        "SELECT event_type, count(*) AS events, max(timestamp) AS latest,\n"
        "any_value(properties) AS properties, NULL AS gone\n"
        f"FROM events WHERE project_id = '{project.id}' GROUP BY ALL ORDER BY ALL",
    )
    first, second = shown(explore)
    assert (first[:2], second[:2]) == (["click", "8"], ["page_view", "16"])
    assert second[2] == (TODAY - timedelta(hours=1)).isoformat(" ").removesuffix("+00:00")
    assert first[4] == "NULL"
    explore.locator("#rows details summary").first.click()
    assert '"plan": "pro"' in explore.locator("#rows details pre").first.inner_text()
    assert explore.locator("#summary").inner_text().startswith("2 rows.")
    assert_accessible(explore)
    screenshot(explore, "explore")


def test_rows_beyond_the_bound_are_left_out_and_it_says_so(explore: Page) -> None:
    ask(explore, "SELECT range AS n FROM range(1001)")
    assert len(shown(explore)) == 1000
    assert "there are more" in explore.locator("#summary").inner_text()


def test_no_rows_is_an_answer(explore: Page) -> None:
    ask(explore, "SELECT 1 WHERE false")
    expect(explore.get_by_text("The query ran, and nothing is as it asks.")).to_be_visible()


def test_an_error_names_its_place_and_marks_it_in_the_editor(explore: Page) -> None:
    ask(explore, "SELECT '😀',\n  projekt_id\nFROM events")
    alert = explore.get_by_role("alert")
    expect(alert).to_contain_text('Referenced column "projekt_id" not found')
    expect(alert).to_contain_text("At line 2, character 3.")
    assert explore.locator(".cm-content .wrong").inner_text() == "projekt_id"
    assert_accessible(explore)
    screenshot(explore, "explore-error")
    editor(explore).press("End")
    explore.keyboard.type(" ")
    expect(explore.locator(".cm-content .wrong")).to_have_count(0)


def test_cancel_ends_a_query_that_would_not_end_and_the_next_one_runs(explore: Page, served: Server) -> None:
    ask(explore, "SELECT sleep_ms(600000)")
    expect(explore.get_by_role("button", name="Run", exact=True)).to_be_disabled()
    wait_until(lambda: runs(served))
    explore.get_by_role("button", name="Cancel").click()
    expect(explore.get_by_role("alert")).to_contain_text("The query was stopped.")
    wait_until(lambda: not runs(served))
    ask(explore, "SELECT 7 AS seven")
    assert shown(explore) == [["7"]]


def test_leaving_the_page_ends_its_query(explore: Page, served: Server) -> None:
    ask(explore, "SELECT sleep_ms(600000)")
    wait_until(lambda: runs(served))
    explore.goto(f"{served.console_url}/projects")
    wait_until(lambda: not runs(served))


def test_a_query_can_be_given_less_time(explore: Page) -> None:
    explore.get_by_label("Seconds at most").fill("0.5")
    ask(explore, "SELECT sleep_ms(600000)")
    expect(explore.get_by_role("alert")).to_contain_text("The query took more than 0.5 seconds.")


def test_every_row_is_downloaded_as_csv_and_as_parquet(explore: Page, tmp_path: Path) -> None:
    write(explore, "SELECT range AS n, 'a,\"b\"' AS text FROM range(5000)")
    for name, ending in (("Download CSV", "csv"), ("Download Parquet", "parquet")):
        with explore.expect_download() as found:
            explore.get_by_role("button", name=name).click()
        assert found.value.suggested_filename == f"kixo-query.{ending}"
        found.value.save_as(tmp_path / ending)
    with (tmp_path / "csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert (rows[0], rows[-1], len(rows)) == (["n", "text"], ["4999", 'a,"b"'], 5001)
    assert pq.read_table(tmp_path / "parquet")["n"].to_pylist() == list(range(5000))


def test_a_download_that_cannot_be_says_why(explore: Page) -> None:
    write(explore, "SELECT nothere FROM events")
    explore.get_by_role("button", name="Download CSV").click()
    expect(explore.get_by_role("alert")).to_contain_text('"nothere" not found')
    assert "nothere" in editor(explore).inner_text()


def test_the_answer_is_drawn_over_time_and_by_name(explore: Page, project: Project) -> None:
    own = f"FROM events WHERE project_id = '{project.id}' GROUP BY ALL ORDER BY ALL"
    ask(explore, f"SELECT time_bucket(INTERVAL 6 HOURS, timestamp) AS time, event_type, count(*) AS events {own}")
    shown(explore)
    explore.get_by_label("Show as").select_option("Lines")
    legend = explore.locator("#drawing .u-legend")
    expect(legend).to_contain_text("click")
    expect(legend).to_contain_text("page_view")
    expect(explore.locator("#drawing canvas")).to_be_visible()
    explore.get_by_label("Show as").select_option("Bars")
    explore.get_by_label("Show as").select_option("Lines")
    expect(legend).to_have_count(1)
    assert_accessible(explore)
    screenshot(explore, "explore-chart")
    ask(explore, f"SELECT device_id, count(*) AS events {own}")
    expect(explore.locator("#rows")).to_contain_text("d_3")
    explore.get_by_label("Show as").select_option("Bars")
    expect(explore.locator("#drawing .u-legend")).to_contain_text("events")
    expect(explore.locator("#drawing canvas")).to_be_visible()


def test_completion_offers_tables_columns_and_event_types_with_their_sentences(explore: Page) -> None:
    def offered(text: str) -> Any:
        write(explore, "")
        explore.keyboard.type(text)
        explore.locator(".cm-tooltip-autocomplete").wait_for()
        return explore.locator(".cm-tooltip-autocomplete")

    expect(offered("SELECT dev")).to_contain_text("device_id")
    expect(explore.locator(".cm-completionInfo")).to_contain_text("The device")
    # The editor takes an Enter within 75 ms of an offer for one that was meant for the text; no person is that quick.
    explore.wait_for_timeout(500)
    explore.keyboard.press("Enter")
    expect(editor(explore)).to_have_text("SELECT device_id")
    expect(offered("SELECT 1 FROM sess")).to_contain_text("sessions")
    expect(offered("SELECT rejected.co")).to_contain_text("code")
    expect(offered("FROM events WHERE event_type = 'rage")).to_contain_text("rage_click")
    write(explore, "")
    explore.keyboard.type("SELECT 'dev")
    expect(explore.locator(".cm-tooltip-autocomplete")).to_have_count(0)


def test_a_link_fills_the_editor_and_runs_nothing(tab: Page, served: Server) -> None:
    tab.goto(f"{served.console_url}/explore?sql=SELECT+%27from+a+link%27")
    assert editor(tab).inner_text() == "SELECT 'from a link'"
    expect(tab.get_by_text("Nothing was asked yet")).to_be_visible()
    assert tab.locator("#rows").count() == 0


def test_a_question_that_is_ready_fills_the_editor_and_runs(explore: Page) -> None:
    explore.locator("summary", has_text="Daily, weekly and monthly actives").click()
    explore.get_by_role("button", name="Ask Daily, weekly and monthly actives").click()
    explore.locator("#rows").wait_for()
    assert "monthly" in editor(explore).inner_text()
    # Of the last thirty days: soon after midnight the events are not all of today.
    assert shown(explore)[-1][3] == "4"
    explore.locator("summary", has_text="Funnel").click()
    explore.get_by_label("Steps").fill("page_view\nclick")
    explore.get_by_role("button", name="Ask Funnel").click()
    expect(explore.locator("#rows")).to_contain_text("click")
    assert_accessible(explore)


def test_a_question_with_a_value_that_cannot_be_says_so(explore: Page, complaints: list[str]) -> None:
    explore.locator("summary", has_text="Funnel").click()
    explore.get_by_label("Steps").fill("page_view")
    explore.get_by_role("button", name="Ask Funnel").click()
    expect(explore.locator("#messages")).to_contain_text("Steps")
    # That the answer was 400.
    complaints.clear()


def test_a_saved_query_is_there_after_a_restart_with_its_chart(
    context: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("restarted")
    with running(folder, {}, loader=True) as server:
        page = context.new_page()
        page.goto(login_link(server))
        page.goto(f"{server.console_url}/explore")
        ask(page, "SELECT range AS n, range * range AS square FROM range(5)")
        shown(page)
        page.get_by_label("Show as").select_option("Bars")
        page.get_by_text("Save this query").click()
        page.get_by_label("Name of the query").fill("Squares")
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.locator("#messages")).to_contain_text("Saved as “Squares”.")
    with running(folder, {}, loader=True) as server:
        page.goto(login_link(server))
        page.goto(f"{server.console_url}/explore")
        page.get_by_role("link", name="Squares").click()
        page.wait_for_url("**saved=*")
        assert "range * range" in editor(page).inner_text()
        page.get_by_role("button", name="Run", exact=True).click()
        expect(page.locator("#drawing canvas")).to_be_visible()
        assert page.get_by_label("Show as").input_value() == "bars"
        write(page, "SELECT 'changed'")
        page.get_by_text("Save this query").click()
        page.get_by_role("button", name="Save changes").click()
        page.get_by_role("link", name="Squares").click()
        expect(editor(page)).to_have_text("SELECT 'changed'")
        page.get_by_role("button", name="Delete Squares").click()
        expect(page.locator("#messages")).to_contain_text("Deleted “Squares”.")
        assert page.get_by_role("link", name="Squares").count() == 0


def test_a_name_that_is_taken_is_refused_and_the_query_stays(explore: Page) -> None:
    for _ in range(2):
        write(explore, "SELECT 'kept'")
        explore.get_by_text("Save this query").click()
        explore.get_by_label("Name of the query").fill("Taken")
        explore.get_by_role("button", name=re.compile("^Save$|^Save as new$")).click()
        explore.wait_for_load_state()
    expect(explore.get_by_role("alert")).to_contain_text("There is a saved query 'Taken' already.")
    assert editor(explore).inner_text() == "SELECT 'kept'"
    explore.get_by_role("button", name="Delete Taken").click()


def test_the_keyboard_alone_writes_runs_and_leaves_the_editor(explore: Page) -> None:
    editor(explore).focus()
    explore.keyboard.press("ControlOrMeta+a")
    explore.keyboard.press("Delete")
    explore.keyboard.type("SELECT 6 * 7 AS answer")
    explore.keyboard.press("Escape")
    explore.keyboard.press("ControlOrMeta+Enter")
    assert shown(explore) == [["42"]]
    assert "\n" not in editor(explore).inner_text()
    explore.keyboard.press("Tab")
    assert explore.evaluate("document.activeElement.id") == "run"


def test_a_phone_has_room_for_all_of_it(explore: Page) -> None:
    explore.set_viewport_size({"width": 360, "height": 740})
    ask(explore, "SELECT * FROM events LIMIT 3")
    assert len(shown(explore)) == 3
    assert_fits(explore)
    assert_accessible(explore)


def test_without_a_script_a_query_runs_just_as_well(served: Server, project: Project) -> None:
    with logged_in(served) as client:
        form = {
            "csrf": csrf_token(client),
            "sql": f"SELECT count(*) AS n FROM events WHERE project_id = '{project.id}'",
        }
        page = client.post("/explore/run", params={"project": project.id}, data=form).text
        assert re.search(r'<td class="figure">24</td>', page)
        assert "SELECT count(*) AS n" in page
        page = client.post("/explore/run", data=form | {"sql": "FROM nothere"}).text
        assert "At line 1, character 6." in page
        page = client.post("/explore/run", data=form | {"seconds": "soon"}).text
        assert "Seconds cannot be" in page
        filled = client.get("/explore", params={"project": project.id, "question": "top_pages"}).text
        assert "AS page" in filled
        assert "There is no question" in client.get("/explore", params={"question": "why"}).text
        assert client.get("/explore", params={"saved": "q_nothing"}).text.count("There is no such saved query.") == 1


def test_nothing_runs_without_the_token_of_the_session(served: Server) -> None:
    with logged_in(served) as client:
        for path in ("run", "stop", "download", "save", "delete"):
            assert client.post(f"/explore/{path}", data={"sql": "SELECT 1"}).status_code == 403
            assert client.get(f"/explore/{path}").status_code == 405


def test_the_page_weighs_no_more_than_it_may(served: Server) -> None:
    with logged_in(served) as client:
        page = client.get("/explore")
        names = re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text)
        sizes = [sent_bytes(client, name) for name in names]
    assert any("explore" in name for name in names)
    assert sum(sizes) + len(page.content) <= GZIP_BYTES_MAX


def sent_bytes(client: httpx.Client, path: str) -> int:
    """The bytes of a file as they are sent."""
    asset = open_assets().by_path[path]
    assert client.get(path, headers={"Accept-Encoding": "gzip"}).content == asset.content
    return len(asset.compressed)
