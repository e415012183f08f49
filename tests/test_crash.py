"""`kill -9` under load, reconciled from outside: what was acknowledged is in the table, once."""

import json
import os
import random
import signal
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.conftest import Project, Server, event, running
from tests.test_server import children, kixo, query, wait_until

SENDERS = 4
KILLS = 6


@dataclass
class Sender:
    """A client that repeats what was not answered, as the SDKs do, and remembers what it was told."""

    name: str
    url: str
    project: Project
    acknowledged: set[str] = field(default_factory=set)
    sent: set[str] = field(default_factory=set)

    def run(self, stop: threading.Event) -> None:
        number = 0
        with httpx.Client(timeout=5) as client:
            while not stop.is_set():
                ids = [f"{self.name}-{number}-{place}" for place in range(20)]
                number += 1
                self.sent.update(ids)
                self._deliver(client, ids, stop)

    def _deliver(self, client: httpx.Client, ids: list[str], stop: threading.Event) -> None:
        body = self.project.body(*[event(event_id=name, event_name=name) for name in ids])
        while not stop.is_set():
            try:
                answer = client.post(f"{self.url}/v1/batch", content=body)
            except httpx.TransportError:
                continue
            if answer.status_code == 200:
                self.acknowledged.update(ids)
                return
            assert answer.status_code in (429, 503), answer.text


@pytest.mark.parametrize("seed", [1, 2])
def test_what_was_acknowledged_survives_any_kill_exactly_once(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    settings = {"KIXO_LOG_SEGMENT_BYTES": "200000", "KIXO_LOAD_INTERVAL_S": "0.05", "KIXO_COMPACTION_FILES_MIN": "4"}
    with running(tmp_path, settings, workers=2, loader=True) as server:
        senders = [Sender(f"{seed}-{n}", server.url, server.project()) for n in range(SENDERS)]
        stop = threading.Event()
        threads = [threading.Thread(target=sender.run, args=(stop,)) for sender in senders]
        for thread in threads:
            thread.start()
        for _ in range(KILLS):
            before = acknowledged_by(senders)
            wait_until(lambda before=before: acknowledged_by(senders) >= before + 100)  # type: ignore[misc]
            stop.wait(dice.uniform(0, 0.3))
            kill_one(server, dice)
        wait_until(lambda: all(len(children(server, role)) == n for role, n in (("worker", 2), ("loader", 1))))
        stop.set()
        for thread in threads:
            thread.join()
    load_all(tmp_path, senders)
    reconcile(tmp_path, senders)


def test_what_was_acknowledged_survives_the_death_of_everything_at_once(tmp_path: Path) -> None:
    with running(tmp_path, {}, loader=True, status=-signal.SIGKILL) as server:
        sender = Sender("all", server.url, server.project())
        stop = threading.Event()
        thread = threading.Thread(target=sender.run, args=(stop,))
        thread.start()
        wait_until(lambda: len(sender.acknowledged) > 500)
        victims = [server.process.pid, *children(server, "worker"), *children(server, "loader")]
        for pid in [*victims, *children(server, "console")]:
            os.kill(pid, signal.SIGKILL)
        stop.set()
        thread.join()
    load_all(tmp_path, [sender])
    reconcile(tmp_path, [sender])


def acknowledged_by(senders: list[Sender]) -> int:
    return sum(len(sender.acknowledged) for sender in senders)


def load_all(folder: Path, senders: list[Sender]) -> None:
    """A next start, which loads what the killed one left in the log."""
    with running(folder, {}, loader=True):
        wait_until(lambda: query(folder, "SELECT count(*) AS n FROM events")[0]["n"] >= acknowledged_by(senders))  # type: ignore[operator]


def kill_one(server: Server, dice: random.Random) -> None:
    role = dice.choice(["worker", "worker", "loader"])
    alive = children(server, role)
    if alive:
        os.kill(dice.choice(alive), signal.SIGKILL)


def reconcile(folder: Path, senders: list[Sender]) -> None:
    rows = query(folder, "SELECT event_id, project_id FROM events")
    stored = Counter(row["event_id"] for row in rows)
    acknowledged = set[str]().union(*[sender.acknowledged for sender in senders])
    sent = set[str]().union(*[sender.sent for sender in senders])
    assert len(acknowledged) > 100, "the server has to have worked for this to prove anything"
    assert acknowledged - set(stored) == set(), "lost"
    assert [name for name, copies in stored.items() if copies > 1] == [], "doubled"
    assert set(stored) <= sent, "made up"
    audit = kixo("audit", "--data-dir", folder, "--json")
    assert audit.returncode == 0, audit.stdout + audit.stderr
    assert json.loads(audit.stdout.splitlines()[0])
