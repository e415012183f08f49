"""The server under test: started on a folder of its own, with enough projects that none exceeds its rate limit."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kixo.bench.processes import family
from kixo.bench.traffic import Credential
from kixo.errors import StartFailed
from kixo.layout import Layout
from kixo.log.reader import LocalLogReader
from kixo.metric_file import read, slots
from kixo.metrics import EVENTS, LOAD_LAG_SECONDS, RESTARTS, Metric
from kixo.query import QueryCaps, open_query
from kixo.registry import open_registry
from kixo.server.child import metric_folder
from kixo.settings import Settings

START_S_MAX = 60.0
STOP_S_MAX = 30.0
DRAIN_S_MAX = 120.0
POLL_S = 0.02
READ_BYTES = 64 * 1024 * 1024
QUERY = QueryCaps(memory_bytes_max=2 * 1024**3, seconds_max=300)


@dataclass(frozen=True)
class Subject:
    """A running server: its data folder, process id, URL and number of workers."""

    folder: Path
    pid: int
    url: str
    workers: int

    def processes(self) -> dict[int, str]:
        """Its processes with their roles."""
        return family(self.pid)

    def metric(self, metric: Metric, *labels: str) -> float:
        """The value of a counter or gauge now, over all processes; read from its file, which costs it nothing."""
        slot = slots()[metric.name, labels]
        return sum(read(path)[slot] for path in metric_folder(Settings(data_dir=self.folder)).iterdir())

    def settled(self) -> int:
        """Accepted events that the loader is done with."""
        return int(self.metric(EVENTS, "stored") + self.metric(EVENTS, "duplicate"))

    def lag_s(self) -> float:
        """The age of the oldest event that is not in the table, as the server itself says."""
        return self.metric(LOAD_LAG_SECONDS)

    def restarts(self) -> int:
        """How often a process had to be started again: each makes the CPU figures too small."""
        return int(sum(self.metric(RESTARTS, role) for role in ("worker", "loader", "console")))

    def drain(self, accepted: int, seconds_max: float = DRAIN_S_MAX) -> float | None:
        """Waits until the loader is done with `accepted` events; the seconds that took, None if it did not."""
        began_s = time.monotonic()
        while time.monotonic() - began_s < seconds_max:
            if self.settled() >= accepted:
                return time.monotonic() - began_s
            time.sleep(POLL_S)
        return None

    def rows(self) -> int:
        """The rows of the events table, as a query counts them."""
        with open_query(Layout(self.folder).lake, QUERY) as query:
            return int(query.run("SELECT count(*) FROM events").table().column(0)[0].as_py())

    def logged(self) -> int:
        """The accepted events that are in the log, as its frames count them."""
        reader = LocalLogReader(Layout(self.folder).log, lambda _what, _bytes: None)
        total = 0
        for partition in reader.partitions():
            position = 0
            while frames := reader.read(partition, position, READ_BYTES):
                total += sum(frame.accepted for frame in frames)
                position = frames[-1].offset + 1
        reader.close()
        return total

    def audit(self) -> bool:
        """Whether `kixo audit` finds every event accounted for."""
        command = [sys.executable, "-m", "kixo", "audit", "--data-dir", str(self.folder)]
        return subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0


def prepare(folder: Path, projects: int) -> list[Credential]:
    """Makes that many projects in the registry of a new data folder, and a key of each."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = Settings(data_dir=folder)
    credentials = []
    with open_registry(settings, make=True) as registry:
        for number in range(projects):
            project = registry.create_project(f"bench {number}")
            credentials.append(Credential(project.id, registry.create_key(project.id)[1]))
    return credentials


@contextmanager
def running(folder: Path, workers: int, *, loader: bool) -> Iterator[Subject]:
    """Runs `kixo serve` on a data folder and stops it again; raises `StartFailed`. `workers` 0 is its own choice."""
    command = [sys.executable, "-m", "kixo", "serve", "--data-dir", str(folder)]
    command += ["--port", "0", "--console-port", "0", "--workers", str(workers)]
    command += [] if loader else ["--no-loader"]
    with (folder / "server.log").open("wb") as output:
        # In its own folder, where no kixo.toml changes what is measured.
        server = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder, process_group=0)
        try:
            yield _wait_until_ready(folder, server)
        finally:
            _stop(server)


def _wait_until_ready(folder: Path, server: subprocess.Popen[bytes]) -> Subject:
    card = Layout(folder).server_card
    end_s = time.monotonic() + START_S_MAX
    while server.poll() is None and time.monotonic() < end_s:
        if card.exists():
            facts = json.loads(card.read_bytes())
            return Subject(folder, facts["pid"], facts["url"], facts["workers"])
        time.sleep(POLL_S)
    lines = (folder / "server.log").read_text("utf-8", "replace").splitlines()
    raise StartFailed("`kixo serve` did not start.", "It said: " + " ".join(lines[-3:]))


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.send_signal(signal.SIGTERM)
    try:
        server.wait(STOP_S_MAX)
    except subprocess.TimeoutExpired:
        for pid in family(server.pid):
            os.kill(pid, signal.SIGKILL)
        server.wait()
