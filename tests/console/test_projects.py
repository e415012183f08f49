"""Projects and keys, as a person uses the page in Chromium."""

import re
from pathlib import Path

import httpx
from playwright.sync_api import Page, expect

from kixo.registry import open_registry
from kixo.registry.tokens import find_live_read_token
from kixo.settings import Settings
from tests.conftest import PATIENCE_S, Project, Server, event, running
from tests.console.entering import csrf_token, logged_in, login_link
from tests.console.looking import assert_accessible, screenshot
from tests.test_server import wait_until


def send(server: Server, project: Project) -> int:
    return httpx.post(f"{server.url}/v1/batch", content=project.body(event()), timeout=PATIENCE_S).status_code


def open_page(tab: Page, server: Server, project: Project | None = None) -> None:
    tab.goto(f"{server.console_url}/projects" + (f"?project={project.id}" if project else ""))


def make_project(tab: Page, name: str) -> str:
    tab.get_by_label("Name", exact=True).fill(name)
    tab.get_by_role("button", name="Make a project").click()
    message = tab.get_by_role("status").inner_text()
    found = re.search(r"kx_proj_[a-z0-9]{20}", message)
    assert found is not None
    return found[0]


def test_a_project_and_a_key_are_made_and_an_event_goes_through(tab: Page, served: Server) -> None:
    open_page(tab, served)
    project = make_project(tab, "Shop <b>&</b> more")
    assert tab.get_by_role("heading", name="Keys of Shop <b>&</b> more").is_visible()
    assert tab.get_by_text("No keys yet").is_visible()
    tab.get_by_role("button", name="Make a key").click()
    key = tab.locator("#made-text").inner_text().strip()
    assert re.fullmatch(r"kx_key_[a-z0-9]{32}", key)
    assert_accessible(tab)
    screenshot(tab, "projects-key-made")
    wait_until(lambda: send(served, Project(project, key)) == 200)
    open_page(tab, served, Project(project, key))
    assert key not in tab.content()
    assert tab.get_by_role("cell", name=key[-4:], exact=True).is_visible()


def test_a_key_is_copied_by_its_button(tab: Page, served: Server) -> None:
    tab.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=served.console_url)
    open_page(tab, served, served.project())
    tab.get_by_role("button", name="Make a key").click()
    key = tab.locator("#made-text").inner_text().strip()
    tab.get_by_role("button", name="Copy Key").click()
    expect(tab.get_by_role("status")).to_contain_text("Copied.")
    assert tab.evaluate("navigator.clipboard.readText()").strip() == key


def test_a_key_is_in_no_address_and_in_no_cache(served: Server) -> None:
    project = served.project()
    with logged_in(served) as client:
        form = {"csrf": csrf_token(client), "project": project.id}
        answer = client.post("/projects/keys", data=form)
        assert answer.status_code == 200
        assert "kx_key_" in answer.text
        assert answer.headers["cache-control"] == "no-store"
        assert "set-cookie" not in answer.headers


def test_revoking_asks_first_and_is_in_force_within_two_seconds(tab: Page, served: Server) -> None:
    project = served.project()
    assert send(served, project) == 200
    open_page(tab, served, project)
    row = tab.get_by_role("row").filter(has_text=project.key[-4:])
    row.get_by_text("Revoke", exact=False).first.click()
    assert row.get_by_text("It cannot be taken back.").is_visible()
    row.get_by_role("button", name=re.compile("Revoke k_")).click()
    expect(tab.get_by_role("status")).to_contain_text("is revoked")
    expect(tab.get_by_role("row").filter(has_text=project.key[-4:])).to_contain_text("revoked")
    wait_until(lambda: send(served, project) == 401)
    tab.reload()
    expect(tab.get_by_role("status")).to_have_text("")


def test_a_read_token_is_made_shown_once_and_revoked(tab: Page, served: Server) -> None:
    open_page(tab, served)
    tab.get_by_label("What it is for").fill("Dashboard")
    tab.get_by_role("button", name="Make a read token").click()
    token = tab.locator("#made-text").inner_text().strip()
    with open_registry(Settings(data_dir=served.folder)) as registry:
        assert find_live_read_token(registry, token) is not None
        open_page(tab, served)
        assert token not in tab.content()
        row = tab.get_by_role("row").filter(has_text=token[-4:])
        row.get_by_text("Revoke", exact=False).first.click()
        row.get_by_role("button", name=re.compile("Revoke t_")).click()
        expect(tab.get_by_role("row").filter(has_text=token[-4:])).to_contain_text("revoked")
        assert find_live_read_token(registry, token) is None


def test_how_close_a_project_is_to_its_limit_is_seen(tab: Page, served: Server) -> None:
    project = served.project()
    statuses = [send(served, project) for _ in range(12)]
    assert set(statuses) == {200}

    def most() -> int:
        open_page(tab, served, project)
        rows = tab.get_by_role("region", name="Table of projects").get_by_role("row")
        text = rows.filter(has_text=project.id).get_by_role("cell").nth(2).inner_text()
        return int(text) if text.isdigit() else 0

    wait_until(lambda: most() > 0)
    assert_accessible(tab)
    screenshot(tab, "projects")


def test_what_each_key_was_used_for_is_seen(tab: Page, served: Server) -> None:
    project = served.project()
    open_page(tab, served, project)
    row = tab.get_by_role("row").filter(has_text=project.key[-4:])
    expect(row).to_contain_text("never")
    for _ in range(3):
        assert send(served, project) == 200
    body = project.body(*(event(event_id=str(number)) for number in range(7)))
    assert httpx.post(f"{served.url}/v1/batch", content=body, timeout=PATIENCE_S).status_code == 200
    open_page(tab, served, project)
    assert row.get_by_role("cell").all_inner_texts()[2:4] == ["4", "10"]
    expect(row).not_to_contain_text("never")


def test_a_project_that_went_over_its_limit_is_shown_with_its_429(tmp_path: Path, stranger: Page) -> None:
    with running(tmp_path, {"KIXO_REQUESTS_PER_SECOND_MAX": "3"}, projects=1) as server:
        project = server.project()
        wait_until(lambda: send(server, project) == 429)
        stranger.goto(login_link(server))

        def row() -> str:
            open_page(stranger, server, project)
            rows = stranger.get_by_role("region", name="Table of projects").get_by_role("row")
            return rows.filter(has_text=project.id).inner_text()

        wait_until(lambda: "reached the limit" in row())
        shown = row()
        assert "ago" in shown or "just now" in shown
        screenshot(stranger, "projects-limit")


def test_what_cannot_be_is_said_beside_what_was_typed(tab: Page, served: Server, complaints: list[str]) -> None:
    project = served.project()
    open_page(tab, served)
    tab.get_by_label("Name", exact=True).fill("Twice")
    tab.get_by_label("Id, if it has one already").fill(project.id)
    tab.get_by_role("button", name="Make a project").click()
    expect(tab.get_by_role("alert")).to_contain_text(f"There is a project {project.id} already.")
    assert tab.get_by_label("Name", exact=True).input_value() == "Twice"
    assert tab.get_by_label("Id, if it has one already").input_value() == project.id
    complaints.clear()


def test_forms_of_this_page_need_the_session_s_token(served: Server) -> None:
    project = served.project()
    with logged_in(served) as client, open_registry(Settings(data_dir=served.folder)) as registry:
        before = registry.revision()
        for path in ("", "/keys", "/keys/revoke", "/tokens", "/tokens/revoke"):
            form = {"project": project.id, "key": project.key, "token": "t_any", "name": "x"}
            assert client.post(f"/projects{path}", data=form).status_code == 403
        assert registry.revision() == before


def test_a_key_of_another_project_cannot_be_revoked_through_this_one(served: Server) -> None:
    mine, other = served.project(), served.project()
    with logged_in(served) as client:
        form = {"csrf": csrf_token(client), "project": mine.id, "key": other.key}
        answer = client.post("/projects/keys/revoke", data=form)
        assert answer.status_code == 400
        assert other.key not in answer.text
    assert send(served, other) == 200


def test_it_works_without_javascript(tab: Page, served: Server) -> None:
    plain = tab.context.browser
    assert plain is not None
    context = plain.new_context(java_script_enabled=False, storage_state=tab.context.storage_state())
    page = context.new_page()
    try:
        page.goto(f"{served.console_url}/projects")
        page.get_by_label("Name", exact=True).fill("No script")
        page.get_by_role("button", name="Make a project").click()
        page.get_by_role("button", name="Make a key").click()
        assert page.locator("#made-text").inner_text().startswith("kx_key_")
    finally:
        context.close()
