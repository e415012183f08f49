"""The life of the processes: starting, dying, stopping, and what a person sees when something is wrong."""

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from kixo.files import write_atomically
from kixo.registry import open_registry
from kixo.server.logs import open_log
from kixo.settings import Settings
from tests.conftest import KIXO, PATIENCE_S, Project, Server, event, running


def wait_until(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.02)


def kixo(*arguments: object, environment: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(KIXO), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        env={**os.environ, **(environment or {})},
    )


def query(folder: Path, sql: str) -> list[dict[str, object]]:
    done = kixo("query", "--data-dir", folder, "--format", "json", sql)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def send(server: Server, project: Project, *events: object, **members: object) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/batch", content=project.body(*events, **members), timeout=PATIENCE_S)


def test_an_event_is_in_a_query_soon_after_the_answer(tmp_path: Path) -> None:
    with running(tmp_path, {}, loader=True) as server:
        project = server.project()
        assert send(server, project, event(event_name="seen"), event(timestamp="soon")).status_code == 200
        wait_until(lambda: query(tmp_path, "SELECT event_name FROM events") == [{"event_name": "seen"}])
        assert query(tmp_path, "SELECT code FROM rejected") == [{"code": "invalid_timestamp"}]
    assert kixo("audit", "--data-dir", tmp_path).returncode == 0


def test_copies_are_never_seen_twice_over_a_restart(tmp_path: Path) -> None:
    batch = [event(event_id="one"), event(event_name="no id"), event(event_name="no id")]
    with running(tmp_path, {}, loader=True) as server:
        project = server.project()
        assert send(server, project, *batch).status_code == 200
    for _ in range(2):
        with running(tmp_path, {}, loader=True) as server:
            assert send(server, project, *batch, sent_at="2026-04-08T12:00:01Z").status_code == 200
            later = event(event_id="one", timestamp="2026-04-09T12:00:00Z")
            assert send(server, project, later).status_code == 200
    assert query(tmp_path, "SELECT count(*) AS n FROM events") == [{"n": 3}]
    assert query(tmp_path, "SELECT sum(received) AS r, sum(duplicate) AS d FROM loads") == [{"r": 11, "d": 8}]
    assert kixo("audit", "--data-dir", tmp_path).returncode == 0


@pytest.mark.parametrize("role", ["worker", "loader", "console"])
def test_a_process_that_is_killed_is_started_again_and_nothing_is_lost(tmp_path: Path, role: str) -> None:
    with running(tmp_path, {}, loader=True) as server:
        project = server.project()
        assert send(server, project, event(event_id="before")).status_code == 200
        (victim,) = children(server, role)
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: children(server, role) not in ([], [victim]))
        wait_until(lambda: is_answered(server, project))
        wait_until(lambda: query(tmp_path, "SELECT count(DISTINCT event_id) AS n FROM events") == [{"n": 2}])
        wait_until(lambda: restarts(server, role) == 1)


def children(server: Server, role: str) -> list[int]:
    found = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return [int(pid) for pid in found if f"kixo.server.{role}" in command_line(int(pid))]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def test_memory_that_bursts_took_is_given_back_as_each_role_needs(tmp_path: Path) -> None:
    with running(tmp_path, {}, loader=True) as server:
        given = {
            role: Path(f"/proc/{children(server, role)[0]}/environ").read_text().split("\0")
            for role in ("worker", "loader", "console")
        }
    assert {f"MALLOC_MMAP_THRESHOLD_={32 << 20}", f"MALLOC_TRIM_THRESHOLD_={256 << 20}"} <= set(given["worker"])
    assert f"MALLOC_MMAP_THRESHOLD_={4 << 20}" in given["loader"]
    assert not any(line.startswith("MALLOC_") for line in given["console"])


def is_answered(server: Server, project: Project) -> bool:
    try:
        return send(server, project, event(event_id="after")).status_code == 200
    except httpx.TransportError:
        return False


def restarts(server: Server, role: str) -> float:
    try:
        return server.metric(f'kixo_restarts_total{{process="{role}"}}')
    except httpx.TransportError:
        return -1


def test_when_the_supervisor_is_killed_its_children_end_and_the_next_start_has_everything(tmp_path: Path) -> None:
    with running(tmp_path, {}, loader=True, status=-signal.SIGKILL) as server:
        project = server.project()
        assert send(server, project, event(event_id="kept")).status_code == 200
        orphans = [pid for role in ("worker", "loader", "console") for pid in children(server, role)]
        server.process.kill()
        server.process.wait()
        wait_until(lambda: not any("kixo.server" in command_line(pid) for pid in orphans))
    with running(tmp_path, {}, loader=True):
        wait_until(lambda: query(tmp_path, "SELECT event_id FROM events") == [{"event_id": "kept"}])


def test_a_second_signal_ends_the_server_at_once(tmp_path: Path) -> None:
    with running(tmp_path, {"KIXO_STOP_S_MAX": "600"}, loader=True, status=130) as server:
        for pid in children(server, "loader"):
            os.kill(pid, signal.SIGSTOP)
        server.process.terminate()
        wait_until(lambda: children(server, "worker") == [])
        server.process.terminate()
        assert server.process.wait(5) == 130


def test_a_port_in_use_is_one_clear_sentence(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = kixo("serve", "--data-dir", tmp_path, "--port", port, "--console-port", 0)
    assert done.returncode == 5
    said = f"kixo: Port {port} of 127.0.0.1 is in use. Stop the other program or choose another --port.\n"
    assert done.stderr == said


def test_a_second_server_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    with running(tmp_path, {}):
        done = kixo("serve", "--data-dir", tmp_path, "--port", 0, "--console-port", 0)
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
    assert "Another Kixo server uses the data folder" in done.stderr


def test_a_data_folder_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    write_atomically(tmp_path / "kixo.json", b'{"format": 2}')
    done = kixo("serve", "--data-dir", tmp_path, "--port", 0, "--console-port", 0)
    assert done.returncode == 4
    assert "has format 2, and this Kixo knows formats up to 1. Use the newer Kixo" in done.stderr


def test_a_bad_setting_is_one_clear_sentence(tmp_path: Path) -> None:
    done = kixo("serve", "--data-dir", tmp_path, environment={"KIXO_PORT": "eighty"})
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "KIXO_PORT is 'eighty'" in done.stderr


def test_a_data_folder_that_cannot_be_made_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = kixo("serve", "--data-dir", tmp_path / "file" / "below", "--port", 0)
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)


def test_the_demo_key_is_only_for_loopback(tmp_path: Path) -> None:
    done = kixo("serve", "--demo", "--host", "0.0.0.0", "--data-dir", tmp_path, "--port", 0)
    assert done.returncode == 2
    assert "loopback" in done.stderr


def test_the_first_start_shows_a_key_once_and_its_command_works(tmp_path: Path) -> None:
    first = start_and_stop(tmp_path, "--demo")
    assert "First project: kx_proj_" in first
    assert "kx_key_" in first
    again = start_and_stop(tmp_path)
    assert "kx_key_" not in again
    with open_registry(Settings(data_dir=tmp_path)) as registry:
        assert len(registry.list_projects()) == 2
        key = first.split("Its API key:")[1].split()[0]
        project = first.split("First project:")[1].split()[0]
        assert registry.snapshot().authenticate(project, key) is not None
        assert registry.snapshot().authenticate("kx_proj_abc123", "kx_key_xyz789") is not None


def start_and_stop(folder: Path, *arguments: str) -> str:
    command = [str(KIXO), "serve", "--data-dir", str(folder), "--port", "0", "--console-port", "0", *arguments]
    with (folder / "errors").open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    wait_until((folder / "run" / "server.json").exists)
    process.terminate()
    return process.communicate(timeout=PATIENCE_S)[0]


def test_on_a_running_server_a_new_key_comes_into_force_and_a_revoked_one_goes_out(tmp_path: Path) -> None:
    with running(tmp_path, {"KIXO_REGISTRY_POLL_S": "0.5"}, workers=2) as server:
        project = server.project()
        new = Project("kx_proj_taken.over", "kx_key_taken_over")
        assert kixo("project", "create", "--data-dir", tmp_path, "--id", new.id).returncode == 0
        assert kixo("key", "create", new.id, "--key", new.key, "--data-dir", tmp_path).returncode == 0
        wait_until(lambda: all(send(server, new, event()).status_code == 200 for _ in range(8)))
        assert kixo("key", "revoke", project.key, "--data-dir", tmp_path).returncode == 0
        wait_until(lambda: all(send(server, project, event()).status_code == 401 for _ in range(8)))


def test_below_the_floor_of_free_space_the_answer_is_503_and_not_ready(tmp_path: Path) -> None:
    with running(tmp_path, {"KIXO_LOG_FREE_BYTES_MIN": str(2**60)}) as server:
        reply = send(server, server.project(), event())
        assert (reply.status_code, reply.json()["code"]) == (503, "unavailable")
        assert int(reply.headers["retry-after"]) > 0
        assert reply.headers["ratelimit"] == '"project";r=100;t=0', "what was refused does not count"
        ready = httpx.get(f"{server.url}/readyz")
        assert (ready.status_code, "bytes free" in ready.json()["message"]) == (503, True)
        assert httpx.get(f"{server.url}/healthz").status_code == 200


def test_while_the_lake_is_gone_events_are_taken_and_come_in_when_it_is_back(tmp_path: Path) -> None:
    with running(tmp_path, {}, loader=True) as server:
        project = server.project()
        assert send(server, project, event(event_id="before")).status_code == 200
        wait_until(lambda: query(tmp_path, "SELECT event_id FROM events") == [{"event_id": "before"}])
        (tmp_path / "lake").rename(tmp_path / "lake-away")
        assert send(server, project, event(event_id="meanwhile")).status_code == 200
        for command in (["query", "SELECT 1"], ["audit"]):
            done = kixo(*command, "--data-dir", tmp_path)
            assert (done.returncode, "put the folder back" in done.stderr) == (4, True)
        wait_until(lambda: server.metric("kixo_load_failures_total") > 0)
        wait_until(lambda: server.metric("kixo_log_backlog_bytes") > 0)
        wait_until(lambda: server.metric("kixo_load_lag_seconds") > 0)
        (tmp_path / "lake-away").rename(tmp_path / "lake")
        wait_until(lambda: query(tmp_path, "SELECT count(*) AS n FROM events") == [{"n": 2}])
    assert kixo("audit", "--data-dir", tmp_path).returncode == 0
    assert "next_step" in (tmp_path / "stderr").read_text()


def test_a_loader_waits_for_that_of_an_earlier_server_which_is_still_ending(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / "loader.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        seen: list[bool] = []

        def let_go_when_it_waits() -> None:
            wait_until(lambda: list((tmp_path / "run").glob("metrics-*/loader-0")) != [])
            seen.append((tmp_path / "lake").exists())
            lock.close()

        earlier = threading.Thread(target=let_go_when_it_waits)
        earlier.start()
        with running(tmp_path, {}, loader=True):
            earlier.join()
    assert seen == [False]
    assert (tmp_path / "lake").exists()


def test_a_host_name_is_as_good_as_an_address(tmp_path: Path) -> None:
    assert "http://localhost:" in start_and_stop(tmp_path, "--host", "localhost")


def test_a_log_line_that_cannot_be_written_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1) as broken:
        monkeypatch.setattr("sys.stderr", broken)
        log = open_log(Settings(log_format="json"), "test")
        log.error("nobody reads this")
        log.error("nor this")
        with contextlib.suppress(BrokenPipeError):
            broken.close()


def test_log_lines_are_json_off_a_terminal(tmp_path: Path) -> None:
    with running(tmp_path, {}):
        pass
    lines = [json.loads(line) for line in (tmp_path / "stderr").read_text().splitlines()]
    assert {"stopping", "stopped", "worker_stopped"} <= {line["event"] for line in lines}
    assert all({"process", "level", "timestamp"} <= set(line) for line in lines)
