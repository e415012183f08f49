"""The client against the real server: what was tracked is in the table, once, whatever happens in between."""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from kixo import Client
from kixo.client import Options, Rejection, TrackedEvent
from tests.clienting import WHERE
from tests.conftest import Project, Server, running
from tests.test_server import query, wait_until

ROOT = Path(__file__).parent.parent
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


def fixed_port() -> int:
    """A port that is free now, for a server that has to come back on the same one."""
    with httpx.HTTPTransport() as _:
        import socket

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])


@contextmanager
def serving(folder: Path, port: int, *, end: int) -> Iterator[None]:
    """A server on that port, which ends by that signal."""
    kixo = Path(sys.executable).parent / "kixo"
    places = ["--data-dir", str(folder), "--port", str(port), "--console-port", "0", "--workers", "1"]
    process = subprocess.Popen([kixo, "serve", *places], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: is_ready(port))
        yield
    finally:
        if end == signal.SIGKILL:
            for child in children(process.pid):
                os.kill(child, signal.SIGKILL)
        process.send_signal(end)
        process.wait(30)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    except httpx.TransportError:
        return False
