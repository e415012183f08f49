"""The kit can pass and can fail: a right client, and one wrong client for each check and nearly each rule."""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from kixo.cli import run
from kixo.conformance.case import Case, load
from kixo.conformance.checks import FINDERS
from kixo.conformance.driver import run_case, run_cases
from kixo.conformance.host import Host
from kixo.conformance.script import DATE
from kixo.conformance.task import task
from kixo.conformance.verdict import Verdict, judge_case
from tests.conftest import KIXO
from tests.toy_client import WRONG

KIT = load()
CASES = {case.name: case for case in KIT.cases}
TOY = [sys.executable, str(Path(__file__).parent / "toy_client.py")]
# What is wrong would be tried until the deadline, which so comes sooner than for an honest client.
HURRY_MS, PATIENCE_S = 2500, 2.5


def hurried(case: Case) -> Case:
    return replace(case, options=replace(case.options, flush_timeout_ms=HURRY_MS))


def verdict_of(name: str, *arguments: str) -> Verdict:
    case = hurried(CASES[name]) if arguments else CASES[name]
    patience = {"patience_s": PATIENCE_S} if arguments else {}
    return judge_case(KIT, case, run_case(case, [*TOY, *arguments], **patience))


def test_a_client_that_is_right_passes_every_case() -> None:
    verdicts = run_cases(KIT, KIT.cases, " ".join(TOY), 4, 60.0, lambda verdict: None)
    assert [verdict for verdict in verdicts if not verdict.passed] == []
    assert [verdict.case for verdict in verdicts] == list(CASES)


def test_the_python_client_passes_every_case() -> None:
    command = f"{sys.executable} -m kixo.client.conformance"
    verdicts = run_cases(KIT, KIT.cases, command, 4, 60.0, lambda verdict: None)
    assert [verdict for verdict in verdicts if not verdict.passed] == []


@pytest.mark.parametrize("wrong", WRONG)
def test_a_client_that_is_wrong_is_caught_by_the_case_meant_for_it(wrong: str) -> None:
    case, check = WRONG[wrong]
    verdict = verdict_of(case, wrong)
    assert check in [failure.check for failure in verdict.failures], verdict


def test_every_check_has_caught_somebody() -> None:
    assert {check for _, check in WRONG.values()} == set(FINDERS) == {check.name for check in KIT.checks}


def test_names_of_cases_are_unique_and_each_says_what_and_why() -> None:
    assert len(CASES) == len(KIT.cases)
    for case in KIT.cases:
        assert case.what.endswith(".")
        assert case.why.endswith(".")
        assert re.fullmatch(r"[a-z0-9_]+", case.name)


def test_answers_of_the_script_are_what_their_fate_says() -> None:
    """A status that the contract calls final is never followed by `again`, and the other way round."""
    for case in KIT.cases:
        for row in case.answers:
            code = (row.body or {}).get("code")
            if row.status in {400, 401, 415}:
                assert row.then == "never"
            elif row.status == 413 or code == "too_many_events":
                assert row.then in {"smaller", "never"}
            elif row.status is not None:
                assert row.then == "again"


def test_a_failure_says_what_was_due_what_came_and_why_it_matters() -> None:
    (failure,) = [f for f in verdict_of("unauthorized", "repeats_401").failures if f.check == "never"]
    assert "not sent again: it was answered 401" in failure.expected
    assert failure.found == "it came again in request 2"
    assert "battery" in failure.why


class TestHost:
    def test_it_serves_the_task_to_a_page_of_any_origin(self) -> None:
        host = Host(CASES["plain"])
        host.open()
        try:
            found = httpx.get(f"{host.url}/conformance/case")
            preflight = httpx.options(f"{host.url}/v1/batch", headers={"Origin": "http://elsewhere.example"})
        finally:
            host.close()
        assert found.json() == task(CASES["plain"], host.url)
        assert found.headers["access-control-allow-origin"] == "*"
        assert preflight.status_code == 204
        assert "Content-Encoding" in preflight.headers["access-control-allow-headers"]

    def test_chunked_bodies_are_read(self) -> None:
        host = Host(CASES["plain"])
        host.open()
        try:
            body = request_body(host)
            answer = httpx.post(f"{host.url}/v1/batch", content=iter([body[:100], body[100:]]))
        finally:
            host.close()
        assert answer.json() == {"status": "ok", "accepted": 5}
        assert host.settled

    def test_what_the_server_would_refuse_is_refused_and_is_a_problem(self) -> None:
        host = Host(CASES["plain"])
        host.open()
        try:
            answer = httpx.post(f"{host.url}/v1/batch", content=b"{}")
            other = httpx.post(f"{host.url}/batch", content=b"{}")
        finally:
            host.close()
        assert (answer.status_code, answer.json()["field"]) == (400, "project_id")
        assert other.status_code == 404
        assert [len(request.problems) for request in host.requests] == [1, 1]

    def test_a_date_lies_more_than_the_seconds_ahead_that_it_says(self) -> None:
        rows = [row for case in KIT.cases for row in case.answers if (row.retry_after or "").startswith(DATE)]
        assert rows
        for row in rows:
            assert row.retry_after is not None
            assert row.wait_ms <= 1000 * int(row.retry_after.removeprefix(DATE))


def request_body(host: Host) -> bytes:
    return json.dumps(batch(task(host.case, host.url))).encode()


def batch(told: dict[str, Any]) -> dict[str, Any]:
    """A request with all events of a task."""
    now = datetime.now(UTC).isoformat()
    events = [event | {"timestamp": now} for event in told["events"]]
    return {**told, "batch": events, "sent_at": now}


class TestCommand:
    def test_it_ends_with_0_where_everything_passed(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["conformance", "--client", " ".join(TOY), "--case", "plain", "--case", "partial"]) == 0
        output = capsys.readouterr().out
        assert "plain" in output
        assert "2 of 2 cases passed" in output

    def test_it_ends_with_1_and_says_why_where_something_failed(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["conformance", "--client", f"{' '.join(TOY)} no_sent_at", "--case", "plain"]) == 1
        output = capsys.readouterr().out
        assert "expected" in output
        assert "`sent_at` in every request" in output

    def test_json_has_a_verdict_on_each_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["conformance", "--client", f"{' '.join(TOY)} shared_id", "--case", "plain", "--json"]) == 1
        (line,) = capsys.readouterr().out.splitlines()
        verdict = json.loads(line)
        assert (verdict["case"], verdict["passed"]) == ("plain", False)
        assert {failure["check"] for failure in verdict["failures"]} >= {"identity"}

    def test_a_case_that_nobody_knows_is_named(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["conformance", "--client", "true", "--case", "plane"]) == 2
        assert "plain" in capsys.readouterr().err

    def test_a_client_that_is_not_there_is_named(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["conformance", "--client", "/nowhere/client", "--case", "plain"]) == 2
        assert "cannot be started" in capsys.readouterr().err

    def test_the_cases_can_be_listed_without_a_client(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["conformance", "--list"]) == 0
        output = capsys.readouterr().out
        assert all(name in output for name in CASES)

    def test_a_case_can_be_driven_by_hand(self) -> None:
        command = [str(KIXO), "conformance", "--serve", "partial"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
            assert process.stdout is not None
            url = next(found[1] for line in process.stdout if (found := re.search(r"Send to (\S+)\.", line)))
            told = httpx.get(f"{url}/conformance/case").json()
            answer = httpx.post(f"{url}/v1/batch", json=batch(told))
            httpx.post(f"{url}/conformance/end", json={"rejected": [1]})
            output = process.stdout.read()
        assert answer.json()["rejected"] == 2
        assert "rejected events 3 reported" in output
        assert process.returncode == 1


def test_a_client_that_cannot_start_is_told_with_what_it_said_first_and_last() -> None:
    program = "import sys; sys.exit('no such adapter' + chr(10) + 'x' * 5000 + chr(10) + 'at the end')"
    (verdict,) = run_cases(KIT, KIT.cases[:1], f'{sys.executable} -c "{program}"', 1, 30.0, lambda verdict: None)
    said = next(failure.found for failure in verdict.failures if failure.check == "ended")
    assert "status 1: no such adapter | " in said
    assert said.endswith("at the end")
