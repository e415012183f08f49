"""The browser SDK against every case of the conformance kit."""

import sys

import pytest

from kixo.conformance.case import load
from kixo.conformance.driver import run_cases
from tests.browser.chromium import SHARED, shared_chromium

JOBS = 3
PATIENCE_S = 120.0


def test_the_browser_sdk_passes_every_case(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = load()
    with shared_chromium() as url:
        monkeypatch.setenv(SHARED, url)
        command = f"{sys.executable} -m tests.browser.conformance"
        verdicts = run_cases(kit, kit.cases, command, JOBS, PATIENCE_S, lambda verdict: None)
    assert len(verdicts) == len(kit.cases)
    assert [verdict for verdict in verdicts if not verdict.passed] == []
