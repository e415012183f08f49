import contextlib
import json
import os
import pty
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from kixo.cli import run
from kixo.log import REPLAYS
from kixo.registry import open_registry
from tests.conftest import KIXO, PATIENCE_S, event, running
from tests.replaying import Folder
from tests.test_server import kixo, query, send, wait_until

SET_DEVICE = ("--set", 'device_id="none"')


class Commands:
    """A data folder that no server uses, and `kixo rejected` on it."""

    def __init__(self, root: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.folder = Folder(root)
        self._capfd = capfd
        open_registry(self.folder.settings, make=True).close()

    def run(self, *arguments: object) -> tuple[int, str, str]:
        """The status, stdout and stderr of `kixo rejected` with these arguments."""
        status = run(["rejected", *map(str, arguments), "--data-dir", str(self.folder.root)])
        return (status, *self._capfd.readouterr())

    def groups(self, *arguments: object) -> list[dict[str, Any]]:
        status, stdout, stderr = self.run("list", "--format", "json", *arguments)
        assert status == 0, stderr
        return [json.loads(line) for line in stdout.splitlines()]

    def replay(self, *arguments: object) -> dict[str, Any]:
        status, stdout, stderr = self.run("replay", "--json", *arguments)
        assert status in (0, 9), stderr
        summary: dict[str, Any] = json.loads(stdout.splitlines()[-1])
        return summary


@pytest.fixture
def commands(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Commands:
    """With a good event and four bad ones in the tables, one of them of staging."""
    made = Commands(tmp_path, capfd)
    version = {"app_version": "2.1"}
    made.folder.receive(event(), broken(), broken(event_name="x"), event(timestamp=7, properties=version))
    made.folder.receive(event(timestamp="soon", properties=version), environment="staging")
    made.folder.load()
    return made


def broken(**members: Any) -> dict[str, Any]:
    found = event(**members)
    del found["device_id"]
    return found


def test_a_person_finds_the_reason_mends_it_and_sees_the_events(commands: Commands) -> None:
    first, *others = commands.groups()
    assert (first["code"], first["field"], first["events"], first["app_version"]) == ("missing", "device_id", 2, None)
    assert first["message"].startswith("`device_id` is missing.")
    assert first["sample"] is None
    found = {(other["sample"], other["app_version"], other["events"], other["environment"]) for other in others}
    assert found == {("7", "2.1", 1, "production"), ('"soon"', "2.1", 1, "staging")}

    status, stdout, _ = commands.run("replay", "--code", "missing", *SET_DEVICE)
    assert status == 0
    assert stdout.startswith("2 replayed, 0 still rejected.\n")
    commands.folder.load()
    sql = stdout.split('"')[1]
    assert [row["device_id"] for row in commands.folder.ask(sql)] == ["none", "none"]
    assert commands.groups("--code", "missing")[0]["replayed"] == 2
    assert commands.replay(*SET_DEVICE)["replayed_before"] == 2
    assert commands.folder.differences() == []


def test_what_is_still_rejected_is_told_and_is_the_status(commands: Commands) -> None:
    status, stdout, stderr = commands.run("replay", *SET_DEVICE)
    assert status == 9
    assert "2 replayed, 2 still rejected." in stdout
    assert "invalid_timestamp  timestamp" in stdout
    assert "2 of 4 events are still rejected" in stderr


def test_a_dry_run_tells_of_each_event_and_changes_nothing(commands: Commands) -> None:
    _, stdout, _ = commands.run("replay", "--dry-run", "--json", *SET_DEVICE)
    *lines, summary = map(json.loads, stdout.splitlines())
    assert sorted((line["outcome"], line["code"] or "") for line in lines) == [
        ("rejected", "invalid_timestamp"),
        ("rejected", "invalid_timestamp"),
        ("replayed", ""),
        ("replayed", ""),
    ]
    assert {json.loads(line["event"])["device_id"] for line in lines} == {"none"}
    assert (summary["replayed"], summary["first_offset"]) == (2, None)
    assert not (commands.folder.root / "log" / str(REPLAYS)).exists()
    assert "2 would be replayed, 2 would be still rejected." in commands.run("replay", "--dry-run", *SET_DEVICE)[1]
    assert commands.replay(*SET_DEVICE)["replayed"] == 2


@pytest.mark.parametrize(
    ("flags", "events"),
    [
        (("--project", "p"), 4),
        (("--project", "kx_proj_none"), 0),
        (("--environment", "staging"), 1),
        (("--code", "missing", "--code", "invalid_timestamp", "--app-version", ""), 2),
        (("--app-version", "2.1", "--field", "timestamp"), 2),
        (("--platform", "web"), 0),
        (("--bundle", "b", "--since", "2026-01-01"), 4),
        (("--until", "2026-01-01"), 0),
    ],
)
def test_flags_choose_events_and_groups_alike(commands: Commands, flags: tuple[str, ...], events: int) -> None:
    assert sum(group["events"] for group in commands.groups(*flags)) == events
    _, stdout, stderr = commands.run("replay", "--dry-run", *flags)
    assert ("No rejected event is chosen" in stderr) == (events == 0)
    assert (f"{events} would be still rejected" in stdout) == (events > 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--set", "device_id"), "has no value"),
        (("--set", "device_id=none"), "A text stands in quotes"),
        (("--set", 'devce_id="x"'), "Do you mean device_id?"),
        (("--remove", "nothing"), "Members are event_type"),
        (("--since", "yesterday"), "not ISO 8601"),
    ],
)
def test_what_cannot_be_is_one_clear_sentence(commands: Commands, arguments: tuple[str, ...], words: str) -> None:
    status, stdout, stderr = commands.run("replay", *arguments)
    assert (status, stdout) == (2, "")
    assert words in stderr
    assert len(stderr.splitlines()) == 1


@pytest.mark.parametrize(("answer", "replayed"), [(b"n\n", 0), (b"y\n", 2)])
def test_on_a_terminal_it_asks_first(commands: Commands, answer: bytes, replayed: int) -> None:
    ours, theirs = pty.openpty()
    folder = str(commands.folder.root)
    command = [str(KIXO), "rejected", "replay", "--data-dir", folder, "--field", "device_id", *SET_DEVICE]
    process = subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, text=True)
    os.close(theirs)
    asked = b""
    while b"[y/N]" not in asked:
        asked += os.read(ours, 1024)
    assert b"2 rejected events are judged again" in asked
    os.write(ours, answer)
    with contextlib.suppress(OSError):  # the end of a terminal whose program has ended
        while os.read(ours, 1024):
            pass
    stdout, _ = process.communicate(timeout=PATIENCE_S)
    os.close(ours)
    assert stdout.startswith("2 replayed") == (replayed == 2)
    assert sum(group["replayed"] for group in commands.groups()) == replayed


def test_killed_at_any_moment_and_repeated_every_event_is_there_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    commands = Commands(tmp_path, capfd)
    with running(tmp_path, {"KIXO_LOAD_INTERVAL_S": "0.05"}, loader=True) as server:
        project = server.project()
        names = [f"{batch}-{number}" for batch in range(8) for number in range(1000)]
        for batch in range(8):
            some = [broken(event_name=name) for name in names[batch * 1000 : (batch + 1) * 1000]]
            assert send(server, project, *some).status_code == 400
        wait_until(lambda: commands.groups()[:1] != [] and commands.groups()[0]["events"] == 8000)
        command = [str(KIXO), "rejected", "replay", "--data-dir", str(tmp_path), *SET_DEVICE]
        partition = tmp_path / "log" / str(REPLAYS)
        for _ in range(3):
            before = frames_of(partition)
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            # As soon as something of its own is in the log.
            while frames_of(partition) <= before and process.poll() is None:
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
            process.wait()
        summary = commands.replay("--set", 'device_id="last"')
        assert summary["replayed"] + summary["replayed_before"] == 8000
        wait_until(lambda: commands.folder.ask("SELECT count(*) AS n FROM events")[0]["n"] >= 8000)
        rows = commands.folder.ask("SELECT event_name FROM events")
        assert sorted(str(row["event_name"]) for row in rows) == sorted(names)
        assert commands.folder.differences() == []


def frames_of(partition: Path) -> set[str]:
    """The names of the segments in which something was written."""
    return {path.name for path in partition.glob("*.log") if path.stat().st_size > 100}


def test_with_the_server_stopped_a_replay_waits_for_the_next_start(commands: Commands, tmp_path: Path) -> None:
    assert commands.replay("--field", "device_id", *SET_DEVICE)["replayed"] == 2
    assert commands.folder.differences() == []
    with running(tmp_path, {}, loader=True):
        wait_until(lambda: query(tmp_path, "SELECT count(*) AS n FROM events") == [{"n": 3}])
    assert kixo("audit", "--data-dir", tmp_path).returncode == 0
