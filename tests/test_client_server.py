"""The client against the real server: what was tracked is in the table, once, whatever happens in between."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kixo import Client
from kixo.client import Options, Rejection, TrackedEvent
from tests.clienting import WHERE
from tests.conftest import Project, Server, running
from tests.test_server import children, query, wait_until

BUNDLE = "com.example.shop"
QUICK = Options(flush_interval_s=0.05, retry_s_max=0.2, timeout_s=5, exit_s_max=30)


def stored(folder: Path) -> list[str]:
    return [str(row["event_name"]) for row in query(folder, "SELECT event_name FROM events ORDER BY event_id")]


def test_what_is_tracked_is_in_the_table(server: Server, project: Project) -> None:
    with Client(project.id, project.key, BUNDLE, "android", "staging", server.url) as client:
        client.screen("Home", {"plan": "pro", "half": "\ud83d"}, **WHERE)
        client.track("old", timestamp="2020-01-01T00:00:00Z", **WHERE)
        assert client.flush()
    (payload,) = server.payloads(project)
    first, second = payload["batch"]
    assert (payload["platform"], payload["environment"], payload["bundle_id"]) == ("android", "staging", BUNDLE)
    assert (first["event_type"], first["properties"]) == ("screen_view", {"plan": "pro", "half": "�"})
    assert second["timestamp"] == "2020-01-01T00:00:00Z"


def test_many_events_take_few_requests_and_pass_the_rate_limit(server: Server, project: Project) -> None:
    with Client(project.id, project.key, BUNDLE, host=server.url, options=Options(batch_events_max=10)) as client:
        for number in range(3000):
            client.track(str(number), **WHERE)
        assert client.flush(60), "300 requests need three rolling seconds, and some are answered 429"
    names = [event["event_name"] for payload in server.payloads(project) for event in payload["batch"]]
    assert Counter(names) == Counter(map(str, range(3000)))


def test_a_wrong_key_holds_the_events_and_says_so(
    server: Server, project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    options = Options(exit_s_max=0)
    with Client(project.id, "kx_key_wrong", BUNDLE, host=server.url, options=options) as client:
        client.track("a", **WHERE)
        assert not client.flush(30)
        assert client.stats.queued == 1
    assert "unauthorized" in caplog.text
    assert server.frames(project) == []


def test_a_wrong_path_is_told_from_a_server_that_is_away(
    server: Server, project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    with Client(project.id, project.key, BUNDLE, host=server.url + "/wrong", options=Options(exit_s_max=0)) as client:
        client.track("a", **WHERE)
        assert not client.flush(30)
    assert "not_found" in caplog.text


def test_limits_that_are_lower_on_the_server_are_learned(tmp_path: Path) -> None:
    told: list[tuple[TrackedEvent, Rejection]] = []
    settings = {"KIXO_EVENTS_PER_BATCH_MAX": "7", "KIXO_BODY_BYTES_MAX": "4096"}
    with running(tmp_path, settings) as server:
        project = server.project()
        client = Client(project.id, project.key, BUNDLE, host=server.url, on_rejected=lambda *both: told.append(both))
        with client:
            for number in range(50):
                client.track(str(number), {"x": "y" * (600 if number != 25 else 10_000)}, **WHERE)
            assert not client.flush(30)
        names = [event["event_name"] for payload in server.payloads(project) for event in payload["batch"]]
    assert names == [str(number) for number in range(50) if number != 25]
    ((event, rejection),) = told
    assert (event.event_name, rejection.code) == ("25", "body_too_large")


@contextmanager
def tracking(client: Client, tracked: list[str]) -> Iterator[None]:
    """A thread that tracks all the time."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            tracked.append(str(len(tracked)))
            client.track(tracked[-1], **WHERE)
            stop.wait(0.0005)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def free_port() -> int:
    """A port that is free now, for a server that has to come back on it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def kill_all(server: Server) -> None:
    victims = [server.process.pid, *(pid for role in ("worker", "loader", "console") for pid in children(server, role))]
    for pid in victims:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("spooled", [False, True], ids=["memory", "spool"])
def test_a_restart_of_the_server_under_load_loses_nothing_and_doubles_nothing(tmp_path: Path, spooled: bool) -> None:
    port = free_port()
    spool = tmp_path / "spool" if spooled else None
    tracked: list[str] = []
    folder = tmp_path / "data"
    folder.mkdir()
    with running(folder, {}, loader=True, port=port) as server:
        project = server.project()
        client = Client(project.id, project.key, BUNDLE, host=server.url, options=QUICK, spool=spool)
        with tracking(client, tracked):
            wait_until(lambda: client.stats.delivered > 200)
    with tracking(client, tracked):
        wait_until(lambda: client.stats.queued > 100)
        with running(folder, {}, loader=True, port=port, status=-signal.SIGKILL) as server:
            before = client.stats.delivered
            wait_until(lambda: client.stats.delivered > before + 200)
            kill_all(server)
        wait_until(lambda: client.stats.queued > 100)
    with running(folder, {}, loader=True, port=port):
        assert client.flush(60)
        client.close()
        wait_until(lambda: len(stored(folder)) >= len(tracked))
        assert Counter(stored(folder)) == Counter(tracked)
    assert client.stats.delivered == len(tracked)


EMBEDDED = """
import sys
from kixo import Client
from kixo.client import Options

project, key, host, spool = sys.argv[1:]
client = Client(project, key, "com.example.shop", host=host, spool=spool, options=Options(flush_interval_s=0.05))
for line in sys.stdin:
    client.track(line.strip(), device_id="d", session_id="s")
    print(client.stats.delivered, flush=True)
"""


def test_an_app_that_is_killed_loses_at_most_what_was_not_spooled_and_doubles_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    with running(folder, {}, loader=True) as server:
        project = server.project()
        spool = tmp_path / "spool"
        arguments = [project.id, project.key, server.url, str(spool)]
        started = 0
        for _ in range(3):
            with embedded(arguments) as app:
                assert app.stdin is not None
                assert app.stdout is not None
                delivered = 0
                while delivered < 100:
                    app.stdin.write(f"{started}\n".encode())
                    app.stdin.flush()
                    started += 1
                    delivered = int(app.stdout.readline())
                app.kill()
        with Client(project.id, project.key, BUNDLE, host=server.url, spool=spool) as client:
            assert client.flush(60)
        wait_until(lambda: query(folder, "SELECT sum(received) AS n FROM loads") == accepted(server))
        found = Counter(stored(folder))
    assert set(found.values()) == {1}
    assert set(found) <= set(map(str, range(started)))
    assert len(found) >= 300


def accepted(server: Server) -> list[dict[str, object]]:
    return [{"n": int(server.metric('kixo_events_total{outcome="accepted"}'))}]


@contextmanager
def embedded(arguments: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-c", EMBEDDED, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as app:
        try:
            yield app
        finally:
            app.kill()


def test_a_server_that_is_full_is_waited_for(tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path, {"KIXO_LOG_FREE_BYTES_MIN": str(2**60)}, port=port) as server:
        project = server.project()
        client = Client(project.id, project.key, BUNDLE, host=server.url, options=QUICK)
        client.track("a", **WHERE)
        wait_until(lambda: server.metric('kixo_requests_total{code="unavailable",status="503"}') >= 1)
        assert client.stats.queued == 1
    with running(tmp_path, {}, port=port) as server:
        assert client.flush(30)
        assert [event["event_name"] for payload in server.payloads(project) for event in payload["batch"]] == ["a"]
    client.close()
