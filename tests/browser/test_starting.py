"""Every way in which a page may start the browser SDK, as the docs show them."""

import json
import re
from collections import Counter

from playwright.sync_api import Page

from tests.browser.gate import Gate
from tests.browser.looking import stored, track
from tests.browser.site import Site
from tests.conftest import Server
from tests.test_docs import ROOT, page, rows, section
from tests.test_server import wait_until

DECLARATIONS = ROOT / "src" / "kixo" / "http" / "sdk" / "kixo.d.ts"


def test_a_second_start_changes_nothing(site: Site, gate: Gate, tab: Page) -> None:
    tab.goto(site.url + "/")
    tab.evaluate("Kixo.start(options); Kixo.start({...options, bundleId: 'other'})")
    tab.click("#buy")
    wait_until(lambda: "Buy now" in gate.names())
    assert Counter(gate.names()) == Counter(["session_start", "/", "Buy now"])
    assert {request["bundle_id"] for request in gate.requests} == {"com.example.site"}


def test_a_start_that_cannot_be_says_why(quiet: Site, gate: Gate, tab: Page) -> None:
    del quiet.options["apiKey"]
    with tab.expect_console_message() as told:
        tab.goto(quiet.url + "/")
    assert told.value.text == "Kixo.start() needs apiKey. Nothing is collected."
    track(tab, "kept for a start that may come")
    assert gate.requests == []


def test_calls_before_the_file_is_there_are_kept(keeper: Server, gate: Gate, site: Site, tab: Page) -> None:
    """The second example of docs/browser.md, as it stands there."""
    site.pages["/async"] = example("## Loading without waiting", site)
    site.raw.add("/async")
    site.pages["/async"] += "<script>Kixo.track('early')</script>"
    tab.goto(site.url + "/async")
    assert tab.evaluate("Kixo.calls") is None
    tab.goto("about:blank")
    wait_until(lambda: {"/async", "early"} <= set(gate.names()))


def test_it_is_a_module_too(keeper: Server, gate: Gate, site: Site, tab: Page) -> None:
    site.pages["/module"] = example("## As a module", site)
    site.raw.add("/module")
    tab.goto(site.url + "/module")
    tab.goto("about:blank")
    wait_until(lambda: "/module" in gate.names())


def test_the_first_lines_of_the_docs_show_a_visit_in_a_query(keeper: Server, gate: Gate, site: Site, tab: Page) -> None:
    site.pages["/first"] = example("# Browser", site)
    site.raw.add("/first")
    tab.goto(site.url + "/first")
    tab.goto("about:blank")
    wait_until(lambda: len(stored(keeper, site)) >= 3)
    found = {(row["event_type"], row["event_name"]) for row in stored(keeper, site)}
    assert {("session_start", "session_start"), ("page_view", "/first"), ("custom", "signed up")} <= found


def test_a_policy_that_allows_the_server_and_nothing_else_is_enough(site: Site, gate: Gate, tab: Page) -> None:
    policy = section(page("browser"), "## Content Security Policy and integrity")
    (rule,) = re.findall(r"```text\n(.*?)\n```", policy, re.DOTALL)
    site.pages["/start.js"] = f"Kixo.start({json.dumps(site.options)})"
    site.pages["/policy"] = f"<script src='{gate.url}/kixo.js'></script><script src='/start.js'></script>"
    site.raw |= {"/policy", "/start.js"}
    site.policy = f"default-src 'none'; {rule}".replace("https://events.example.com", f"{gate.url} {site.url}")
    tab.goto(site.url + "/policy")
    wait_until(lambda: "/policy" in gate.names())


def test_the_integrity_of_the_docs_lets_it_run(site: Site, gate: Gate, tab: Page) -> None:
    (block,) = re.findall(r"<!-- table: integrity -->\n\n```html\n(.*?)```", page("browser"), re.DOTALL)
    tag = block.replace("https://events.example.com", gate.url)
    site.pages["/whole"] = f"{tag}<script>Kixo.start({json.dumps(site.options)})</script>"
    site.raw.add("/whole")
    tab.goto(site.url + "/whole")
    wait_until(lambda: "/whole" in gate.names())


def example(heading: str, site: Site) -> str:
    """The example under a heading of docs/browser.md, with the test's server and project in it."""
    block: str = re.findall(r"```html\n(.*?)```", section("\n" + page("browser"), heading), re.DOTALL)[0]
    replaced = {
        "http://127.0.0.1:8000": site.host,
        "kx_proj_abc123": site.options["projectId"],
        "kx_key_xyz789": site.options["apiKey"],
    }
    for shown, real in replaced.items():
        assert shown in block
        block = block.replace(shown, real)
    return block


def test_every_option_and_call_is_in_the_docs() -> None:
    types_of = DECLARATIONS.read_text("utf-8")
    for interface, heading, pattern in (
        ("Options", "## Options", r"^    (\w+)\??[:(]"),
        ("KixoClient", "## Calls", r"^    (\w+)\("),
    ):
        (body,) = re.findall(rf"interface {interface} \{{\n(.*?)^\}}", types_of, re.DOTALL | re.MULTILINE)
        declared = re.findall(pattern, body, re.MULTILINE)
        shown = [cells[0] for cells in rows(section(page("browser"), heading))[2:]]
        assert [re.sub(r"`(?:Kixo\.)?(\w+).*", r"\1", cell) for cell in shown] == declared


def test_every_automatic_kind_is_in_the_docs() -> None:
    (union,) = re.findall(r"type AutomaticKind = (.*?);", DECLARATIONS.read_text("utf-8"), re.DOTALL)
    text = section(page("browser"), "## Automatic events")
    assert re.findall(r'"(\w+)"', union) == [
        kind for cells in rows(text)[2:] for kind in re.findall(r"`(\w+)`", cells[0])
    ]
