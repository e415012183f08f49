"""Health, as a person sees it in Chromium, with real traffic and with processes that are down."""

import os
import signal
from pathlib import Path

import httpx
from playwright.sync_api import Page, expect

from kixo.metrics import CATALOGUE
from tests.conftest import PATIENCE_S, Server, event, running
from tests.console.entering import logged_in, login_link
from tests.console.looking import assert_accessible, screenshot
from tests.test_server import children, wait_until

NAMES = {metric.exposed_name for metric in CATALOGUE}


def send(server: Server, count: int) -> None:
    project = server.project()
    with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client:
        for number in range(count):
            assert client.post("/v1/batch", content=project.body(event(event_id=str(number)))).status_code == 200


def card(tab: Page, name: str) -> str:
    """The value of a card, as shown."""
    return tab.locator(".card", has=tab.get_by_text(name, exact=True)).locator("dd").first.inner_text()


def test_the_figures_of_now_are_shown_and_renew_themselves(tab: Page, served: Server) -> None:
    tab.goto(f"{served.console_url}/health")
    expect(tab.get_by_role("heading", name="Now")).to_be_visible()
    send(served, 30)
    expect(tab.locator(".card", has_text="99 % of the answers within").locator("dd").first).to_contain_text("ms")
    expect(tab.locator(".card", has_text="Accepted events").locator("dd").first).not_to_have_text("0/s")
    assert card(tab, "Workers") == "1 of 1"
    assert "iB" in card(tab, "Disk free")


def test_every_figure_names_a_metric_that_there_is(tab: Page, served: Server) -> None:
    tab.goto(f"{served.console_url}/health")
    expect(tab.get_by_role("heading", name="Now")).to_be_visible()
    named = set(tab.locator(".card code, figcaption code").all_inner_texts())
    assert len(named) >= 8
    assert named <= NAMES


def test_charts_are_drawn_and_their_tables_have_the_same_figures(tab: Page, served: Server) -> None:
    tab.goto(f"{served.console_url}/health")
    expect(tab.locator("figure canvas")).to_have_count(6)
    figure = tab.locator("#chart-rate")
    figure.get_by_text("Table", exact=True).click()
    rows = figure.locator(".chart-more").get_by_role("row")
    assert rows.count() >= 2
    assert "accepted events" in rows.first.inner_text()
    # Somebody reads it now: it stays as it is while the page would renew itself.
    tab.evaluate(
        """() => new Promise(done => document.addEventListener("htmx:beforeRequest", () => done(), {once: true}))"""
    )
    assert rows.first.is_visible()
    assert figure.locator("details").first.get_attribute("open") is not None
    assert_accessible(tab)
    screenshot(tab, "health")


def test_the_hour_can_be_chosen_without_javascript(served: Server) -> None:
    with logged_in(served) as client:
        text = client.get("/health?period=1h").text
        assert "In the last 1 hour" in text
        assert client.get("/health?period=nonsense").status_code == 200


def test_a_loader_that_is_down_is_said_in_words(tmp_path: Path, stranger: Page) -> None:
    with running(tmp_path, {}, projects=2) as server:
        stranger.goto(login_link(server))
        stranger.goto(f"{server.console_url}/health")
        expect(stranger.get_by_text("The loader does not run.")).to_be_visible()
        expect(stranger.get_by_text("Needs you")).to_be_visible()
        send(server, 3)
        expect(stranger.locator(".card", has_text="Accepted events").locator("dd").first).not_to_have_text("0/s")
        assert_accessible(stranger)
        screenshot(stranger, "health-loader-down")


def test_a_worker_that_died_is_told_and_counted(tmp_path: Path, stranger: Page) -> None:
    with running(tmp_path, {}, projects=2, loader=True) as server:
        stranger.goto(login_link(server))
        stranger.goto(f"{server.console_url}/health")
        expect(stranger.get_by_text("All is well")).to_be_visible()
        (worker,) = children(server, "worker")
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: server.metric('kixo_restarts_total{process="worker"}') == 1)
        expect(stranger.get_by_text("A worker process died and was started again")).to_be_visible()
        expect(stranger.locator(".card", has_text="Restarts").locator("dd").first).to_have_text("1")


def test_a_page_that_cannot_reach_the_console_says_so(tmp_path: Path, stranger: Page, complaints: list[str]) -> None:
    with running(tmp_path, {}, projects=1) as server:
        stranger.goto(login_link(server))
        stranger.goto(f"{server.console_url}/health")
        expect(stranger.get_by_role("heading", name="Health")).to_be_visible()
    expect(stranger.get_by_role("status")).to_contain_text("cannot be reached")
    complaints.clear()
