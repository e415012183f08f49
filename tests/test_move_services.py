"""`kixo move` to Kafka, S3 and PostgreSQL and back, under traffic, killed before each of its steps: each event once."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import KIXO, PATIENCE_S, Project, event, running, wait_for_greeting
from tests.services import S3, Kafka, PostgreSQL
from tests.test_move import Traffic
from tests.test_places_together import Environment, address_of, asked, rows, taken
from tests.test_server import wait_until

KILLED = -signal.SIGKILL


@pytest.fixture
def environment(kafka: Kafka, s3: S3, postgresql: PostgreSQL) -> Environment:
    """Places that nobody has used."""
    return {
        "KIXO_LOG": kafka.url(kafka.topic()),
        "KIXO_LOG_PARTITIONS": "2",
        "KIXO_LAKE": s3.url(),
        **s3.variables,
        "KIXO_REGISTRY": postgresql.url(),
        "KIXO_REGISTRY_PASSWORD": postgresql.password,
    }


@contextmanager
def node(folder: Path, environment: Environment, command: str) -> Iterator[dict[str, str]]:
    """A part of the server, which has to end in order; its card."""
    folder.mkdir()
    public = ("--port", "0") if command != "load" else ()
    arguments = [str(KIXO), command, "--data-dir", str(folder), *public, "--console-port", "0"]
    with (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=stderr, env={**os.environ, **environment}, process_group=0
        )
    try:
        wait_for_greeting(process, folder)
        yield address_of(folder)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, (folder / "stderr").read_text()


def moved_though_killed(environment: Environment, *arguments: str, stride: int = 1) -> int:
    """Repeats a part of a move, each time killed some steps later, until it comes to its end; before which step."""
    for step in range(1, 100, stride):
        command = [sys.executable, "-m", "tests.killed_move", str(step), *arguments]
        done = subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        if done.returncode != KILLED:
            assert done.returncode == 0, done.stderr
            return step
    raise AssertionError("it never came to its end")


def sent_again(url: str, project: Project, ids: list[str]) -> None:
    """Sends events once more, in batches that are cut otherwise."""
    for start in range(0, len(ids), 333):
        taken(url, project.body(*(event(event_id=one) for one in ids[start : start + 333])))


COUNTS = "SELECT count(*) AS n, count(DISTINCT event_id) AS ids FROM events"


def test_a_move_to_services_and_back_under_traffic_killed_at_each_step_loses_and_doubles_nothing(
    tmp_path: Path, environment: Environment
) -> None:
    old, back = str(tmp_path / "old"), str(tmp_path / "back")
    (tmp_path / "old").mkdir()
    with running(tmp_path / "old", {"KIXO_COMPACTION_FILES_MIN": "3"}, loader=True, status=KILLED) as server:
        project = server.project()
        with Traffic(server.url, project, "old").flowing() as before:
            wait_until(lambda: len(before.acked) > 100)
            assert moved_though_killed(environment, "copy", "--data-dir", old, stride=5) > 3
            count = len(before.acked)
            wait_until(lambda: len(before.acked) > count)
            os.kill(server.process.pid, signal.SIGKILL)
    with (
        node(tmp_path / "ingest", environment, "ingest") as card,
        Traffic(card["url"], project, "new").flowing() as after,
    ):
        wait_until(lambda: len(after.acked) > 100)
        assert moved_though_killed(environment, "finish", "--data-dir", old) > 8
        with node(tmp_path / "load", environment, "load"):
            sent_again(card["url"], project, before.acked)
            sent_again(card["url"], project, after.acked[:100])
            wait_until(lambda: {*before.acked, *after.acked[:100]} <= ids(tmp_path / "load", environment))
            # The way back: what takes events is stopped first, then what loads them.
            after.stop()
            moved = {*before.acked, *after.acked}
            wait_until(lambda: moved <= ids(tmp_path / "load", environment))
    assert once(tmp_path / "load", environment)
    asked(tmp_path / "load", environment, "audit")
    assert moved_though_killed(environment, "copy", "--back", "--data-dir", back, stride=6) > 4
    assert moved_though_killed(environment, "finish", "--back", "--data-dir", back, stride=4) > 6
    with running(tmp_path / "back", {}, loader=True) as server:
        sent_again(server.url, project, sorted(moved))
        sent_again(server.url, project, ["the last one"])
        wait_until(lambda: "the last one" in ids(tmp_path / "back", {}))
    assert moved < ids(tmp_path / "back", {})
    assert once(tmp_path / "back", {})
    asked(tmp_path / "back", {}, "audit")


def ids(folder: Path, environment: Environment) -> set[object]:
    return {row["event_id"] for row in rows(folder, environment, "SELECT event_id FROM events")}


def once(folder: Path, environment: Environment) -> bool:
    """Whether no event is in the tables twice."""
    (found,) = rows(folder, environment, COUNTS)
    return found["n"] == found["ids"]
