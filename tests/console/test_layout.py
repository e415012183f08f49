"""The frame that all pages share, as a person sees it in Chromium."""

import pytest
from playwright.sync_api import Page

from kixo.console.navigation import PAGES
from tests.conftest import Server
from tests.console.entering import login_link
from tests.console.looking import assert_accessible, assert_fits, screenshot


def test_a_link_leads_to_the_first_page_and_the_menu_to_every_other(tab: Page, served: Server) -> None:
    assert tab.url == f"{served.console_url}{PAGES[0].path}"
    for page in PAGES:
        tab.get_by_role("navigation", name="Pages").get_by_role("link", name=page.title, exact=True).click()
        tab.wait_for_url(f"**{page.path}?*")
        assert tab.get_by_role("link", name=page.title, exact=True).get_attribute("aria-current") == "page"
        assert tab.title().startswith(page.title)


def test_the_chosen_project_and_environment_stay_from_page_to_page(tab: Page, served: Server) -> None:
    project = served.project()
    tab.get_by_label("Project", exact=True).select_option(project.id)
    tab.get_by_label("Environment", exact=True).select_option("staging")
    tab.get_by_role("button", name="Show", exact=True).click()
    for page in PAGES:
        # By the menu: pages link to each other, too.
        tab.get_by_role("navigation", name="Pages").get_by_role("link", name=page.title, exact=True).click()
        tab.wait_for_url(f"**{page.path}?project={project.id}&environment=staging")
        assert tab.get_by_label("Project", exact=True).input_value() == project.id
        assert tab.get_by_label("Environment", exact=True).input_value() == "staging"


def test_the_keyboard_reaches_the_content_at_once(tab: Page) -> None:
    tab.keyboard.press("Tab")
    skip = tab.get_by_role("link", name="Skip to the content")
    assert skip.evaluate("link => link === document.activeElement")
    assert skip.bounding_box() is not None
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "main"


def test_logging_out_and_coming_back_need_another_link(tab: Page, served: Server, complaints: list[str]) -> None:
    tab.get_by_role("button", name="Log out").click()
    tab.wait_for_url("**/login")
    assert "kixo console login-link" in tab.get_by_role("main").inner_text()
    assert_accessible(tab)
    screenshot(tab, "login")
    tab.goto(f"{served.console_url}/projects")
    assert tab.get_by_role("heading", name="Log in").is_visible()
    tab.goto(login_link(served))
    assert tab.get_by_role("navigation", name="Pages").is_visible()
    # That the answers were 401.
    complaints.clear()


def test_what_is_not_there_is_said_plainly(tab: Page, served: Server, complaints: list[str]) -> None:
    tab.goto(f"{served.console_url}/nothing")
    assert tab.get_by_role("heading", name="Not found").is_visible()
    assert_accessible(tab)
    screenshot(tab, "not-found")
    tab.get_by_role("link", name="Go to the console").click()
    assert tab.get_by_role("navigation", name="Pages").is_visible()
    complaints.clear()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path[1:])
def test_every_page_can_be_used_by_everybody_and_anywhere(tab: Page, served: Server, page: tuple[str, ...]) -> None:
    tab.goto(f"{served.console_url}{page[0]}")
    assert tab.get_by_role("heading", level=1).is_visible()
    assert_accessible(tab)
    assert_fits(tab)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path[1:])
def test_no_page_weighs_more_than_300_kilobytes(tab: Page, served: Server, page: tuple[str, ...]) -> None:
    tab.goto(f"{served.console_url}{page[0]}", wait_until="load")
    sizes = tab.evaluate("performance.getEntries().map(entry => entry.encodedBodySize ?? 0)")
    assert 0 < sum(sizes) <= 300_000


def test_a_page_of_another_site_can_neither_frame_nor_read_nor_change_the_console(
    tab: Page, served: Server, complaints: list[str]
) -> None:
    """What a browser itself lets through of an attack, from a page on another name of this machine."""
    address = served.console_url.replace("127.0.0.1", "localhost")
    session = tab.context.cookies()
    assert session
    other = tab.context.new_page()
    other.goto(f"{address}/healthz")
    read = f"fetch('{served.console_url}/projects', {{credentials: 'include'}}).then(() => 'read', () => 'refused')"
    assert other.evaluate(read) == "refused"
    changing = f"""fetch('{served.console_url}/logout', {{method: 'POST', mode: 'no-cors', credentials: 'include',
        body: new URLSearchParams({{csrf: 'x'}})}}).then(() => 'sent', () => 'refused')"""
    other.evaluate(changing)
    tab.reload()
    assert tab.get_by_role("navigation", name="Pages").is_visible()
    assert tab.context.cookies() == session
    complaints.clear()
