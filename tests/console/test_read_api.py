"""The read API: what scripts ask the private port with a read token, over a running server with real traffic."""

import csv
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pyarrow.parquet as pq
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi import checks

from kixo.console.api.document import ERRORS
from kixo.registry import open_registry
from kixo.registry.tokens import create_read_token, revoke_read_token
from kixo.settings import Settings
from tests.conftest import PATIENCE_S, Project, Server, event, running
from tests.console.entering import csrf_token, logged_in
from tests.test_query_pool import processes
from tests.test_server import wait_until

NOON = datetime(2026, 4, 8, 12, tzinfo=UTC)
DEAF = "SELECT sleep_ms(600000)"


def read_token(server: Server) -> str:
    with open_registry(Settings(data_dir=server.folder)) as registry:
        return create_read_token(registry, "tests")[1]


def reader(server: Server, token: str) -> httpx.Client:
    return httpx.Client(base_url=server.console_url, timeout=PATIENCE_S, headers={"Authorization": f"Bearer {token}"})


@pytest.fixture(scope="module")
def token(served: Server) -> str:
    return read_token(served)


@pytest.fixture(scope="module")
def script(served: Server, token: str) -> Iterator[httpx.Client]:
    """What asks with a read token."""
    with reader(served, token) as client:
        yield client


@pytest.fixture(scope="module")
def project(served: Server, script: httpx.Client) -> Project:
    """A project with ten good events, minutes apart, and two that were rejected; all of them in the tables."""
    project = served.project()
    good = [
        event(
            event_name=f"/{number}",
            device_id=f"d_{number % 3}",
            timestamp=(NOON + timedelta(minutes=number)).isoformat(),
            properties={"number": number, "far": 10**30},
        )
        for number in range(10)
    ]
    bad = [event(timestamp="soon"), event(timestamp="late", event_type="tap")]
    answer = served.http.post("/v1/batch", json=project.batch(*good, *bad))
    assert answer.json()["accepted"] == 10
    after = answer.headers["kixo-position"]
    assert script.get("/api/query", params={"sql": "SELECT 1", "after": after}).status_code == 200
    return project


def rows(answer: httpx.Response) -> list[list[Any]]:
    assert answer.status_code == 200, answer.text
    found: list[list[Any]] = answer.json()["rows"]
    return found


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["status"], body["code"]) == (status, "error", code), answer.text
    return body


class TestWhoMayRead:
    @pytest.mark.parametrize("path", ["/api/query?sql=SELECT+1", "/api/events", "/api/openapi.json"])
    def test_without_a_token_nothing_is_told(self, served: Server, project: Project, path: str) -> None:
        for headers in (
            {},
            {"Authorization": f"Bearer {project.key}"},
            {"Authorization": "Bearer kx_read_nothing"},
            {"Authorization": "Basic eDp5"},
        ):
            answer = httpx.get(served.console_url + path, headers=headers)
            refused(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"].startswith("Bearer")

    def test_a_revoked_token_opens_nothing_from_then_on(self, served: Server) -> None:
        token = read_token(served)
        with reader(served, token) as client:
            assert client.get("/api/events").status_code == 200
            with open_registry(Settings(data_dir=served.folder)) as registry:
                revoke_read_token(registry, token)
            refused(client.get("/api/events"), 401, "unauthorized")

    def test_a_session_reads_and_sends_its_token_with_a_query(self, served: Server, project: Project) -> None:
        with logged_in(served) as client:
            assert client.get("/api/events", params={"project": project.id}).json()["events"]
            body = {"sql": "SELECT 1"}
            refused(client.post("/api/query", json=body), 403, "forbidden")
            assert rows(client.post("/api/query", json=body, headers={"X-CSRF-Token": csrf_token(client)})) == [[1]]

    def test_a_link_from_elsewhere_runs_nothing_for_a_session(self, served: Server) -> None:
        with logged_in(served) as client:
            for site in ("none", "cross-site", "same-site"):
                answer = client.get("/api/query?sql=SELECT+1", headers={"Sec-Fetch-Site": site})
                refused(answer, 403, "forbidden")


class TestQueries:
    def test_an_answer_in_json_names_columns_and_types(self, script: httpx.Client, project: Project) -> None:
        sql = f"SELECT event_name, timestamp FROM events WHERE project_id = '{project.id}' ORDER BY timestamp LIMIT 1"
        for answer in (script.get("/api/query", params={"sql": sql}), script.post("/api/query", json={"sql": sql})):
            found = answer.json()
            assert found["columns"] == [
                {"name": "event_name", "type": "string"},
                {"name": "timestamp", "type": "timestamp[us, tz=UTC]"},
            ]
            assert (found["rows"], found["truncated"]) == ([["/0", "2026-04-08T12:00:00.000000Z"]], False)
            assert len(answer.headers["kixo-query-id"]) == 32

    @pytest.mark.parametrize("way", ["format", "accept"])
    def test_every_row_comes_as_csv_as_json_lines_and_as_parquet(self, script: httpx.Client, way: str) -> None:
        def fetch(format: str, media_type: str) -> httpx.Response:
            asked = {"sql": "SELECT range AS n FROM range(50000)"}
            headers = {"Accept": f"text/html, {media_type};q=0.9"} if way == "accept" else {}
            answer = script.post(
                "/api/query", json=asked | ({"format": format} if way == "format" else {}), headers=headers
            )
            assert answer.headers["content-type"].partition(";")[0] == media_type
            assert answer.headers["content-disposition"].endswith(f'filename="kixo-query.{format}"')
            return answer

        found = list(csv.reader(io.StringIO(fetch("csv", "text/csv").text)))
        assert (found[0], found[-1], len(found)) == (["n"], ["49999"], 50_001)
        lines = fetch("jsonl", "application/jsonl").text.splitlines()
        assert [json.loads(line)["n"] for line in lines] == list(range(50_000))
        table = pq.read_table(io.BytesIO(fetch("parquet", "application/vnd.apache.parquet").content))
        assert table["n"].to_pylist() == list(range(50_000))

    def test_a_result_without_a_byte_is_an_empty_answer(self, script: httpx.Client) -> None:
        answer = script.get("/api/query", params={"sql": "SELECT 1 WHERE false", "format": "jsonl"})
        assert (answer.status_code, answer.content) == (200, b"")

    def test_rows_seconds_and_memory_can_be_lowered(self, script: httpx.Client) -> None:
        answer = script.post("/api/query", json={"sql": "FROM range(100)", "rows": 3}).json()
        assert (len(answer["rows"]), answer["truncated"]) == (3, True)
        refused(script.post("/api/query", json={"sql": DEAF, "seconds": 0.5}), 400, "query_too_long")
        asked = {"sql": "SELECT list(md5(range::VARCHAR)) FROM range(5000000)", "memory": 64 * 1024 * 1024}
        assert "64 MiB" in refused(script.post("/api/query", json=asked), 400, "query_too_large")["message"]

    def test_an_error_says_where_in_the_query_it_is(self, script: httpx.Client) -> None:
        body = refused(script.post("/api/query", json={"sql": "SELECT 1,\n nothere FROM events"}), 400, "query_failed")
        assert (body["position"], body["line"], body["column"]) == (11, 2, 2)
        assert "nothere" in body["message"]

    def test_an_error_before_the_first_row_of_a_download_is_an_answer(self, script: httpx.Client) -> None:
        refused(script.get("/api/query", params={"sql": "FROM nothere", "format": "csv"}), 400, "query_failed")

    def test_a_download_that_fails_in_the_middle_is_cut_off(self, script: httpx.Client) -> None:
        sql = "SELECT CASE WHEN range < 1000000 THEN range ELSE error('bad row') END FROM range(1000001)"
        with pytest.raises(httpx.RemoteProtocolError):
            script.get("/api/query", params={"sql": sql, "format": "csv"})

    @pytest.mark.parametrize(
        ("body", "code", "field"),
        [
            (b"nonsense", "invalid_json", None),
            (b"\xff", "invalid_json", None),
            (b"[]", "invalid_json", None),
            (b"{}", "invalid_request", "sql"),
            (b'{"sql": 7}', "invalid_request", "sql"),
            (b'{"sql": " "}', "invalid_request", "sql"),
            (b'{"sql": "SELECT 1", "format": "xml"}', "invalid_request", "format"),
            (b'{"sql": "SELECT 1", "seconds": 0}', "invalid_request", "seconds"),
            (b'{"sql": "SELECT 1", "seconds": "1"}', "invalid_request", "seconds"),
            (b'{"sql": "SELECT 1", "memory": -1}', "invalid_request", "memory"),
            (b'{"sql": "SELECT 1", "rows": 1.5}', "invalid_request", "rows"),
            (b'{"sql": "SELECT 1", "id": "a b"}', "invalid_request", "id"),
            (b'{"sql": "SELECT 1", "after": "soon"}', "invalid_request", "after"),
            (b'{"sql": "SELECT 1", "after": [1]}', "invalid_request", "after"),
        ],
    )
    def test_what_cannot_be_asked_is_told_by_member(
        self, script: httpx.Client, body: bytes, code: str, field: str | None
    ) -> None:
        headers = {"Content-Type": "application/json"}
        assert refused(script.post("/api/query", content=body, headers=headers), 400, code).get("field") == field

    def test_a_form_is_no_query(self, script: httpx.Client) -> None:
        refused(script.post("/api/query", data={"sql": "SELECT 1"}), 415, "unsupported_media_type")

    def test_members_that_nobody_knows_are_ignored(self, script: httpx.Client) -> None:
        assert rows(script.post("/api/query", json={"sql": "SELECT 1", "colour": "red"})) == [[1]]


def test_the_script_of_the_docs_prints_what_there_is(served: Server, project: Project, token: str) -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "read-api.md").read_text("utf-8")
    (script,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    for written, meant in (
        ("http://127.0.0.1:8001", served.console_url),
        ("kx_proj_abc123", project.id),
        ("current_date - 7", "DATE '2026-04-01'"),
    ):
        assert written in script
        script = script.replace(written, meant)
    environment = {**os.environ, "KIXO_TOKEN": token}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["date,event_type,events,devices", "2026-04-08,page_view,10,3"]


class TestStopping:
    def test_another_request_stops_a_query_by_its_id(self, served: Server, script: httpx.Client, token: str) -> None:
        answers: list[httpx.Response] = []

        def ask() -> None:
            with reader(served, token) as client:
                answers.append(client.post("/api/query", json={"sql": DEAF, "id": "slow"}))

        thread = threading.Thread(target=ask)
        thread.start()
        wait_until(lambda: script.delete("/api/query/slow").status_code == 200)
        thread.join()
        refused(answers[0], 409, "query_stopped")
        refused(script.delete("/api/query/slow"), 404, "not_found")

    @pytest.mark.parametrize("sql", [DEAF, "FROM range(1000000000000)"])
    def test_a_client_that_goes_away_ends_its_query(self, served: Server, token: str, sql: str) -> None:
        body = json.dumps({"sql": sql, "format": "csv", "id": "left"}).encode()
        with socket.create_connection(
            (httpx.URL(served.console_url).host, httpx.URL(served.console_url).port or 80)
        ) as c:
            head = f"Host: {c.getpeername()[0]}:{c.getpeername()[1]}\r\nAuthorization: Bearer {token}\r\n"
            c.sendall(f"POST /api/query HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            wait_until(lambda: runs(served))
        wait_until(lambda: not runs(served))


def runs(server: Server) -> bool:
    """Whether a query of the server computes: its process has put a folder aside for it."""
    return any(list(folder.glob("kixo-query-*")) for folder in map(folder_of, processes(server.folder / "lake")))


def folder_of(process: int) -> Path:
    """Where a query process puts things aside; somewhere that is not there, once it has ended."""
    try:
        found = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    except OSError:
        return Path("/nothing")
    return Path(os.fsdecode(next(entry for entry in found if entry.startswith(b"TMPDIR=")).removeprefix(b"TMPDIR=")))


class TestAfter:
    def test_a_read_sees_what_was_acknowledged_just_before(self, served: Server, script: httpx.Client) -> None:
        project = served.project()
        for number in range(5):
            sent = served.http.post("/v1/batch", json=project.batch(event(event_name=f"/{number}")))
            sql = f"SELECT count(*) FROM events WHERE project_id = '{project.id}'"
            asked = {"sql": sql, "after": sent.headers["kixo-position"]}
            assert rows(script.post("/api/query", json=asked)) == [[number + 1]]
            found = script.get("/api/events", params={"project": project.id, "after": asked["after"]}).json()
            assert len(found["events"]) == number + 1

    def test_several_positions_are_waited_for(self, served: Server, script: httpx.Client) -> None:
        project = served.project()
        acks = [served.http.post("/v1/batch", json=project.batch(event(n=n))) for n in range(3)]
        positions = [ack.headers["kixo-position"] for ack in acks]
        for after in (positions, ",".join(positions)):
            assert rows(script.post("/api/query", json={"sql": "SELECT 1", "after": after})) == [[1]]
        assert script.get("/api/query", params={"sql": "SELECT 1", "after": positions}).status_code == 200

    def test_what_does_not_become_visible_is_told_in_time(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        folder = tmp_path_factory.mktemp("unloaded")
        with running(folder, {"KIXO_AFTER_S_MAX": "0.3"}, loader=False) as server:
            project = server.project()
            position = server.http.post("/v1/batch", json=project.batch(event())).headers["kixo-position"]
            with reader(server, read_token(server)) as client:
                answer = client.get("/api/events", params={"after": position})
                assert position in refused(answer, 504, "not_yet_visible")["message"]
                assert answer.headers["retry-after"] == "1"


class TestEvents:
    def events(self, script: httpx.Client, project: Project, **parameters: Any) -> list[dict[str, Any]]:
        answer = script.get("/api/events", params={"project": project.id, **parameters})
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["events"]
        return found

    def test_events_come_newest_first_with_what_is_kept_of_them(self, script: httpx.Client, project: Project) -> None:
        found = self.events(script, project)
        assert [each["event_name"] for each in found] == [f"/{number}" for number in reversed(range(10))]
        assert found[0]["properties"] == {"number": 9, "far": 10**30}
        assert found[0]["timestamp"] == "2026-04-08T12:09:00.000000Z"
        assert {"clock_rule", "received_at", "identity", "log_offset"} <= found[0].keys()

    def test_rejected_ones_come_with_the_reason_and_the_event_as_sent(
        self, script: httpx.Client, project: Project
    ) -> None:
        found = self.events(script, project, outcome="rejected")
        assert {each["code"] for each in found} == {"invalid_timestamp"}
        assert [each["event"]["timestamp"] for each in found] == ["late", "soon"]
        assert len(self.events(script, project, outcome="rejected", type="tap")) == 1

    @pytest.mark.parametrize(
        ("parameters", "count"),
        [
            ({"environment": "staging"}, 0),
            ({"platform": "web"}, 10),
            ({"type": "page_view"}, 10),
            ({"name": "/3"}, 1),
            ({"device": "d_0"}, 4),
            ({"device": "d_0", "name": "/3"}, 1),
            ({"name": "'; DROP TABLE events"}, 0),
            ({"since": "2026-04-08T12:05:00Z"}, 5),
            ({"until": "2026-04-08T12:05:00Z"}, 5),
            ({"since": "2026-04-08T14:02:00+02:00", "until": "2026-04-08T12:04:00Z"}, 2),
            ({"limit": 3}, 3),
        ],
    )
    def test_filters(self, script: httpx.Client, project: Project, parameters: dict[str, Any], count: int) -> None:
        assert len(self.events(script, project, **parameters)) == count

    @pytest.mark.parametrize("outcome", ["accepted", "rejected"])
    def test_pages_hold_each_event_once_whatever_arrives_meanwhile(
        self, served: Server, script: httpx.Client, outcome: str
    ) -> None:
        project = served.project()
        # All at one instant, so that only the place in the log tells them apart.
        wrong = {"event_type": ""} if outcome == "rejected" else {}
        batch = project.batch(*[event(device_id=f"d_{n}", **wrong) for n in range(25)])
        position = served.http.post("/v1/batch", json=batch).headers["kixo-position"]
        asked: dict[str, Any] = {"project": project.id, "outcome": outcome, "limit": 10, "after": position}
        found: list[Any] = []
        cursor = None
        for number in range(3):
            page = script.get("/api/events", params={**asked, **({"cursor": cursor} if cursor else {})}).json()
            found += [each["log_index"] for each in page["events"]]
            cursor = page["next"]
            assert (cursor is None) == (number == 2)
            later = served.http.post("/v1/batch", json=project.batch(event(timestamp="2026-05-01T00:00:00Z", **wrong)))
            assert later.headers["kixo-position"]
        assert found == list(reversed(range(25)))

    @pytest.mark.parametrize(
        ("parameters", "field"),
        [
            ({"since": "soon"}, "since"),
            ({"until": "7"}, "until"),
            ({"limit": "0"}, "limit"),
            ({"limit": "1001"}, "limit"),
            ({"limit": "٣"}, "limit"),
            ({"outcome": "lost"}, "outcome"),
            ({"cursor": "nonsense"}, "cursor"),
            ({"cursor": "OTk5OTk5OTk5OTk5OTk5OTk5OTk5LjAuMC4w"}, "cursor"),
            ({"after": "0"}, "after"),
        ],
    )
    def test_what_cannot_be_asked_is_told(self, script: httpx.Client, parameters: dict[str, str], field: str) -> None:
        answer = script.get("/api/events", params=parameters)
        assert refused(answer, 400, "invalid_request")["field"] == field


class TestDocument:
    NOT_OURS: list[Any] = [
        # A text that the schema allows need not be SQL; a token is needed and the generator takes it away as it likes.
        checks.positive_data_acceptance,
        checks.negative_data_rejection,
        checks.ignored_auth,
    ]

    def test_it_is_valid_openapi_3_1_and_names_every_error(self, script: httpx.Client) -> None:
        document = script.get("/api/openapi.json").json()
        schemathesis.openapi.from_dict(document).validate()
        codes = document["components"]["schemas"]["Error"]["properties"]["code"]["enum"]
        assert set(codes) == {error.code for error in ERRORS}
        for path in document["paths"].values():
            for operation in path.values():
                for answer in operation["responses"].values():
                    for media in answer["content"].values():
                        examples = [each["value"] for each in media.get("examples", {}).values()]
                        for example in [*examples, *([media["example"]] if "example" in media else [])]:
                            schema = {**media["schema"], "components": document["components"]}
                            jsonschema_rs.validate(schema, example)

    def test_every_answer_is_one_that_it_describes(self, served: Server, script: httpx.Client, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        api: Any = schemathesis.openapi.from_url(f"{served.console_url}/api/openapi.json", headers=headers)
        for operation in api.get_all_operations():
            self.check(operation, headers)

    def check(self, operation: Any, headers: dict[str, str]) -> None:
        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
        @given(operation.ok().as_strategy())
        def check(case: Any) -> None:
            case.call_and_validate(excluded_checks=self.NOT_OURS, headers=headers)

        check()


def test_nothing_is_left_of_queries_when_the_server_stops(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("stopped")
    with running(folder, {}, loader=True) as server:
        token = read_token(server)

        def ask() -> None:
            with reader(server, token) as client:
                refused(client.post("/api/query", json={"sql": DEAF}), 409, "query_stopped")

        thread = threading.Thread(target=ask)
        thread.start()
        wait_until(lambda: runs(server))
    thread.join()
    assert processes(folder / "lake") == []
    assert "stop_forced" not in (folder / "stderr").read_text()


def test_a_console_that_is_killed_leaves_no_query_behind_and_comes_again(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("killed")
    with running(folder, {}, loader=True) as server:
        token = read_token(server)
        with reader(server, token) as client:
            assert rows(client.get("/api/query", params={"sql": "SELECT 1"})) == [[1]]
            (process,) = processes(folder / "lake")
            status = Path(f"/proc/{process}/status").read_text()
            (owner,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith("PPid:")]
            os.kill(owner, signal.SIGKILL)
            wait_until(lambda: process not in processes(folder / "lake"))

        def answers() -> bool:
            try:
                with reader(server, token) as fresh:
                    return rows(fresh.get("/api/query", params={"sql": "SELECT 1"})) == [[1]]
            except httpx.TransportError:
                return False

        wait_until(answers)
