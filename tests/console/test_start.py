"""The start page: a newcomer sends a first event, and sees it, or the exact reason why it was not taken."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from kixo.console.assets import open_assets
from kixo.console.navigation import Chosen
from kixo.console.rendering import open_templates
from kixo.http.browser import script_integrity
from tests.browser.site import Site
from tests.conftest import PATIENCE_S, Project, Server, event
from tests.console.entering import csrf_token, logged_in
from tests.console.looking import assert_accessible, screenshot
from tests.test_server import wait_until


@pytest.fixture
def project(served: Server) -> Project:
    return served.project()


def open_start(tab: Page, server: Server, project: Project) -> Locator:
    """What has arrived, on a start page that waits."""
    with tab.expect_response(lambda answer: "/live/stream" in answer.url):
        tab.goto(f"{server.console_url}/start?project={project.id}")
    expect(tab.locator("#waiting")).to_have_text("Waiting for the first event…")
    # A stream has begun when its watcher has seen that nothing is there yet.
    expect(tab.locator("#arrivals li")).to_have_count(0)
    return tab.locator("#arrivals li")


def post(server: Server, body: bytes) -> httpx.Response:
    return server.http.post("/v1/batch", content=body)


def test_the_first_event_takes_the_place_of_the_waiting(tab: Page, served: Server, project: Project) -> None:
    arrivals = open_start(tab, served, project)
    assert post(served, project.body(event(event_name="Hello"), environment="development")).status_code == 200
    expect(arrivals).to_have_count(1)
    expect(tab.locator("#waiting")).to_have_text("It has arrived:")
    expect(arrivals.first).to_contain_text("Hello")
    expect(arrivals.first.locator(".outcome")).to_have_text("stored")
    arrivals.first.get_by_role("link").click()
    expect(tab.locator("#event").get_by_role("heading", name="Hello")).to_be_visible()


def test_a_broken_event_is_answered_by_its_reason_within_a_second(tab: Page, served: Server, project: Project) -> None:
    arrivals = open_start(tab, served, project)
    assert post(served, project.body(event(timestamp="08/04/2026"))).status_code == 400
    expect(arrivals).to_have_count(1)
    expect(tab.locator("#waiting")).to_have_text("An event was rejected:")
    expect(arrivals.first).to_contain_text("invalid_timestamp")
    expect(arrivals.first).to_contain_text("not ISO 8601")
    expect(arrivals.first.locator(".value")).to_have_text('"08/04/2026"')


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (lambda project: project.body(event(), api_key="kx_key_wrong"), "unauthorized"),
        (lambda project: project.body(event())[:-1], "invalid_json"),
        (lambda project: project.body(event(), platform="amiga"), "invalid_request"),
    ],
)
def test_a_refused_request_is_answered_by_its_reason_within_a_second(
    tab: Page, served: Server, project: Project, broken: Callable[[Project], bytes], words: str
) -> None:
    arrivals = open_start(tab, served, project)
    assert post(served, broken(project)).status_code in {400, 401}
    expect(arrivals).to_have_count(1)
    expect(tab.locator("#waiting")).to_have_text("A request was refused:")
    expect(arrivals.first).to_contain_text(words)
    expect(arrivals.first.get_by_role("link")).to_have_count(0)


def test_a_request_that_names_no_known_project_is_seen_by_who_waits(
    tab: Page, served: Server, project: Project
) -> None:
    arrivals = open_start(tab, served, project)
    post(served, project.body(event(), project_id="kx_proj_mistyped"))
    expect(arrivals).to_have_count(1)
    expect(arrivals.first).to_contain_text("unauthorized")


def test_a_key_is_made_on_a_click_shown_once_and_put_into_the_snippets(
    tab: Page, served: Server, project: Project
) -> None:
    open_start(tab, served, project)
    expect(tab.locator("#snippet-curl")).to_contain_text("YOUR_API_KEY")
    tab.get_by_role("button", name="Make a key").click()
    key = tab.locator("#api-key").inner_text()
    assert re.fullmatch("kx_key_[a-z0-9]{32}", key)
    for snippet in ("curl", "python", "browser"):
        text = tab.locator(f"#snippet-{snippet}").text_content() or ""
        assert key in text
        assert project.id in text
        assert served.url in text
    tab.get_by_role("link", name="Start", exact=True).click()
    expect(tab.locator("#snippet-curl")).to_contain_text("YOUR_API_KEY")
    assert key not in tab.content()


def test_the_curl_snippet_works_as_it_stands(tab: Page, served: Server, project: Project) -> None:
    open_start(tab, served, project)
    tab.get_by_role("button", name="Make a key").click()
    command = tab.locator("#snippet-curl").text_content() or ""
    assert shlex.split(command.replace("\\\n", ""))[:4] == ["curl", "-X", "POST", f"{served.url}/v1/batch"]
    body = shlex.split(command.replace("\\\n", ""))[-1]
    arrivals = tab.locator("#arrivals li")
    expect_accepted(served, body)
    expect(arrivals.filter(has_text="/pricing").first).to_be_visible()


def expect_accepted(server: Server, body: str) -> None:
    """Sends until it is taken: workers know a new key after a moment."""
    wait_until(lambda: post(server, body.encode()).status_code == 200)


def test_the_python_snippet_works_as_it_stands(tab: Page, served: Server, project: Project, tmp_path: Path) -> None:
    arrivals = open_start(tab, served, project)
    tab.get_by_role("button", name="Make a key").click()
    program = tab.locator("#snippet-python").text_content() or ""
    # A client that is refused drops what it has, so the key has to be known.
    key = tab.locator("#api-key").inner_text()
    expect_accepted(served, Project(project.id, key).body().decode())
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path, timeout=PATIENCE_S)
    expect(arrivals.filter(has_text="signed up")).to_be_visible()


def test_the_browser_snippet_works_as_it_stands(tab: Page, served: Server, project: Project) -> None:
    arrivals = open_start(tab, served, project)
    tab.get_by_role("button", name="Make a key").click()
    page = tab.locator("#snippet-browser").text_content() or ""
    assert script_integrity() in page
    key = tab.locator("#api-key").inner_text()
    expect_accepted(served, Project(project.id, key).body().decode())
    with closing(Site(served.url, project, {"/": f"<!doctype html><title>Shop</title>{page}"})) as site:
        site.raw.add("/")
        visitor = tab.context.new_page()
        visitor.goto(site.url)
        expect(arrivals.filter(has_text="signed up")).to_be_visible()
        visitor.close()


def test_try_it_tells_what_would_become_of_the_event_and_stores_nothing(
    tab: Page, served: Server, project: Project
) -> None:
    arrivals = open_start(tab, served, project)
    tab.get_by_role("button", name="Make a key").click()
    key = tab.locator("#api-key").inner_text()
    expect_accepted(served, Project(project.id, key).body().decode())
    tab.get_by_role("button", name="Try it").click()
    said = tab.locator("#try-answer")
    expect(said).to_contain_text("it would be taken")
    expect(said).to_contain_text("There is no `sent_at`")
    expect(said.locator("pre")).to_contain_text('"outcome": "accepted"')
    assert served.frames(project) == []
    expect(arrivals.filter(has_text="/pricing")).to_have_count(0)
    assert_accessible(tab)
    screenshot(tab, "start-try")


def test_a_dry_run_that_fails_says_why(tab: Page, served: Server, project: Project, complaints: list[str]) -> None:
    open_start(tab, served, project)
    tab.get_by_role("button", name="Make a key").click()
    tab.locator("#try").evaluate("frame => { frame.dataset.batch = frame.dataset.batch.replace('kx_key_', 'kx_no_') }")
    tab.get_by_role("button", name="Try it").click()
    expect(tab.locator("#try-answer .bad")).to_contain_text("401: The project and the API key do not belong together.")
    # The browser notes every answer that is not a success.
    complaints.clear()


def test_copy_puts_the_snippet_on_the_clipboard(tab: Page, served: Server, project: Project) -> None:
    tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_start(tab, served, project)
    tab.get_by_role("button", name="Copy the snippet for cURL").click()
    expect(tab.locator("#messages")).to_contain_text("Copied.")
    assert tab.evaluate("navigator.clipboard.readText()") == tab.locator("#snippet-curl").text_content()


def test_home_is_the_start_page_until_the_project_has_an_event(tab: Page, served: Server, project: Project) -> None:
    home = f"{served.console_url}/?project={project.id}"
    tab.goto(home)
    expect(tab.get_by_role("heading", name="Start")).to_be_visible()
    post(served, project.body(event(timestamp="soon")))
    tab.goto(home)
    expect(tab.get_by_role("heading", name="Start")).to_be_visible()
    post(served, project.body(event()))
    tab.goto(home)
    assert "/start" not in tab.url


def test_a_project_is_made_by_a_form_and_is_then_the_chosen_one(served: Server) -> None:
    with logged_in(served) as client:
        made = client.post("/start/project", data={"csrf": csrf_token(client), "name": "Shop"})
        assert made.status_code == 303
        page = client.get(made.headers["location"]).text
        assert "The project is made. Now make a key of it." in page
        assert "(Shop)" in page
        assert "The project has no key yet." in page
        refused = client.post("/start/project", data={"csrf": csrf_token(client), "name": "x" * 5000})
        assert "That cannot be a project name." in client.get(refused.headers["location"]).text


def test_where_there_is_no_project_the_page_offers_to_make_one() -> None:
    chosen = Chosen(None, "production", [])
    given = {
        "chosen": chosen,
        "link": chosen.link,
        "csrf": "token",
        "nonce": "",
        "page": None,
        "pages": (),
        "path": "/",
    }
    text = open_templates(open_assets()).get_template("start.html").render(messages=[], **given)
    assert 'action="/start/project"' in text
    assert "Waiting" not in text


def test_keys_and_projects_are_made_by_pages_of_the_console_only(served: Server, project: Project) -> None:
    with logged_in(served) as client:
        path = f"/start/key?project={project.id}"
        assert client.post(path).status_code == 403
        assert client.post("/start/project").status_code == 403
        assert client.get(path).status_code == 405
        answer = client.post(path, data={"csrf": csrf_token(client)})
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        assert "kx_key_" in answer.text


def test_everybody_can_use_the_page(tab: Page, served: Server, project: Project) -> None:
    arrivals = open_start(tab, served, project)
    assert_accessible(tab)
    screenshot(tab, "start")
    tab.get_by_role("button", name="Make a key").click()
    expect(tab.locator("#api-key")).to_be_visible()
    post(served, project.body(event(timestamp="next tuesday"), event()))
    post(served, project.body(event())[:-2])
    expect(arrivals).to_have_count(3)
    assert_accessible(tab)
    screenshot(tab, "start-arrived")
