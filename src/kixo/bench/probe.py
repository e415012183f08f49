"""How long after its answer an event is seen by a query.

A project of its own sends one marked event every 100 ms. A query sees what the newest version of the Delta table
lists, so a marker is visible when the commit that brings it appears in `_delta_log`. The probe looks for that file
every 20 ms, which makes its figures up to 20 ms too high, and then finds the markers in the dictionary of
`event_name` of the files that the commit adds: that reads no rows, so it hardly disturbs what it measures.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPConnection
from json import JSONDecodeError, dumps, loads
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow.parquet as pq

from kixo.bench.latency import Latencies, Latency
from kixo.bench.traffic import Credential
from kixo.lake.read import open_table

SEND_S = 0.1
LOOK_S = 0.02
LAST_S_MAX = 30.0
MARKER = "kixo-bench-probe-"


def marker_body(credential: Credential, number: int) -> bytes:
    """A batch of one marked event."""
    event = {
        "event_type": "custom",
        "event_name": f"{MARKER}{number}",
        "device_id": "d_probe",
        "session_id": "s_probe",
        "timestamp": datetime.now(UTC).isoformat(),
        "event_id": f"{MARKER}{credential.project_id}-{number}",
    }
    return dumps(
        {
            "project_id": credential.project_id,
            "api_key": credential.api_key,
            "bundle_id": "com.example.probe",
            "platform": "ios",
            "batch": [event],
        }
    ).encode()


def added_files(commit: Path) -> list[Path]:
    """The table files that bring new rows in a commit, a file of `_delta_log`."""
    actions = [loads(line) for line in commit.read_bytes().splitlines()]
    added = (action["add"] for action in actions if "add" in action)
    return [commit.parent.parent / unquote(file["path"]) for file in added if file["dataChange"]]


def markers(file: Path) -> set[int]:
    """The numbers of the markers in a table file."""
    column = pq.ParquetFile(file, read_dictionary=["event_name"]).read(["event_name"], use_threads=False)[0]
    names = {name for chunk in column.chunks for name in chunk.dictionary.to_pylist()}
    return {int(name.removeprefix(MARKER)) for name in names if name.startswith(MARKER)}


@dataclass
class Sightings:
    """What a probe has found. `answered_s` is when each marker not seen yet was answered."""

    accepted: int = 0
    refused: int = 0
    answered_s: dict[int, float] = field(default_factory=dict)
    early: set[int] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    delays: Latencies = field(default_factory=Latencies)

    @property
    def latency(self) -> Latency:
        """Time from answer to sight."""
        return self.delays.summary()

    def answered(self, number: int, at_s: float) -> None:
        """A marker was accepted."""
        self.accepted += 1
        with self.lock:
            if number in self.early:
                self.delays.append(0.0)
            else:
                self.answered_s[number] = at_s

    def seen(self, number: int, at_s: float) -> None:
        """A marker was found in the table; before its answer counts as no delay."""
        with self.lock:
            answered_s = self.answered_s.pop(number, None)
            if answered_s is None:
                self.early.add(number)
            else:
                self.delays.append(max(0.0, at_s - answered_s))


class Probe:
    """Sends markers and looks for them, each in a thread, until it is over."""

    def __init__(self, url: str, lake: Path, credential: Credential) -> None:
        self._address = urlsplit(url).netloc
        self._log = (lake / "events" / "_delta_log").resolve()
        self._version = open_table(lake, "events").version
        self._credential = credential
        self.sightings = Sightings()
        self.over = threading.Event()

    def send(self) -> None:
        """Sends a marker every `SEND_S`."""
        connection = HTTPConnection(self._address, timeout=30)
        due_s, number = time.monotonic(), 0
        while not self.over.wait(max(0.0, due_s - time.monotonic())):
            body = marker_body(self._credential, number)
            connection.request("POST", "/v1/batch", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                self.sightings.answered(number, time.monotonic())
            else:
                self.sightings.refused += 1
            due_s, number = due_s + SEND_S, number + 1
        connection.close()

    def look(self) -> None:
        """Looks for markers every `LOOK_S`, after the end until all are found or `LAST_S_MAX` has passed."""
        end_s = 0.0
        while not self.over.is_set() or (self.sightings.answered_s and time.monotonic() < end_s):
            if not self.over.is_set():
                end_s = time.monotonic() + LAST_S_MAX
            if not self._look_at_next():
                time.sleep(LOOK_S)

    def _look_at_next(self) -> bool:
        commit = self._log / f"{self._version + 1:020}.json"
        if not commit.exists():
            return False
        seen_s = time.monotonic()
        try:
            found = set().union(*(markers(file) for file in added_files(commit)))
        except JSONDecodeError:
            return False
        self._version += 1
        for number in found:
            self.sightings.seen(number, seen_s)
        return True


@contextmanager
def probing(url: str, lake: Path, credential: Credential) -> Iterator[Sightings]:
    """Probes while the block runs; the sightings are complete after it."""
    probe = Probe(url, lake, credential)
    threads = [threading.Thread(target=work, daemon=True) for work in (probe.send, probe.look)]
    for thread in threads:
        thread.start()
    try:
        yield probe.sightings
    finally:
        probe.over.set()
        for thread in threads:
            thread.join()
