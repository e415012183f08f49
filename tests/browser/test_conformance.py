"""The browser SDK against every case of the conformance kit."""

import sys

import pytest

from kixo.conformance.case import load
from kixo.conformance.driver import run_cases
from tests.browser.chromium import SHARED

JOBS = 3
PATIENCE_S = 120.0


@pytest.mark.usefixtures("browser")
def test_the_browser_sdk_passes_every_case(browser_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    kit = load()
    monkeypatch.setenv(SHARED, f"http://127.0.0.1:{browser_port}")
    command = f"{sys.executable} -m tests.browser.conformance"
    verdicts = run_cases(kit, kit.cases, command, JOBS, PATIENCE_S, lambda verdict: None)
    assert len(verdicts) == len(kit.cases)
    assert [verdict for verdict in verdicts if not verdict.passed] == []
