"""What every page is looked at for: whether everybody can use it, and how it looks."""

import os
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Page, ViewportSize

ROOT = Path(__file__).parent.parent.parent
AXE = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"
SCREENSHOTS = ROOT / "build" / "screenshots"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# The editor's list of completions is walked through by the arrow keys, with the focus in the editor.
RUN = """rules => axe.run({exclude: [".cm-tooltip-autocomplete"]}, {runOnly: rules}).then(found => found.violations.map(
    rule => `${rule.id}: ${rule.help}: ` +
        rule.nodes.map(node => node.target + " " + node.failureSummary).join("; ")))"""
PHONE = ViewportSize(width=360, height=740)


def assert_accessible(page: Page) -> None:
    """Fails where axe-core finds something, in light and dark, on a screen and on a phone."""
    if not AXE.exists():
        missing = f"There is no {AXE.relative_to(ROOT)}. Run `make webcheck`, which installs it."
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    before = page.viewport_size
    for scheme in ("light", "dark"):
        _emulate(page, scheme)
        assert_passes(page, scheme)
    page.set_viewport_size(PHONE)
    for scheme in ("dark", "light"):
        _emulate(page, scheme)
        assert_passes(page, f"on a phone, {scheme}")
    assert_fits(page)
    if before:
        page.set_viewport_size(before)


def assert_passes(page: Page, how: str) -> None:
    """Fails where axe-core finds something in the page as it is now, and says what."""
    found = _violations(page)
    assert not found, f"{how}: " + "\n".join(found)


def assert_fits(page: Page) -> None:
    """Fails where the page is wider than the window, so that a person had to scroll sideways."""
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "wider than the window"


def screenshot(page: Page, name: str) -> None:
    """Keeps the page as it looks in `build/screenshots`: light, dark, and on a phone."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    before = page.viewport_size
    page.evaluate("scrollTo(0, 0)")
    for scheme in ("light", "dark"):
        _emulate(page, scheme)
        page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}.png", full_page=True)
    _emulate(page, "light")
    page.set_viewport_size(PHONE)
    page.screenshot(path=SCREENSHOTS / f"{name}-phone.png", full_page=True)
    if before:
        page.set_viewport_size(before)


def _emulate(page: Page, scheme: str) -> None:
    chosen: Literal["light", "dark"] = "dark" if scheme == "dark" else "light"
    page.emulate_media(color_scheme=chosen, reduced_motion="reduce")


def _violations(page: Page) -> list[str]:
    # By the debugger, which the page's policy does not bind.
    page.evaluate(AXE.read_text("utf-8"))
    found: list[str] = page.evaluate(RUN, RULES)
    return found
