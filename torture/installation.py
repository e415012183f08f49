"""A server in a folder of its own, whose processes can be hurt one by one, and which is started again like a service.

Processes are found by the data folder in their command lines, so that those are found too whose supervisor is gone.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

import msgspec

from kixo.audit import AuditReport
from kixo.bench.subject import Subject, prepare
from kixo.bench.traffic import Credential
from kixo.errors import StartFailed
from kixo.layout import Layout

START_S_MAX = 120.0
STOP_S_MAX = 120.0
POLL_S = 0.02
SUPERVISOR = "supervisor"
ROLES = ("worker", "loader", "console", SUPERVISOR)
# Below the range from which systems give out free ports, so that nobody gets ours while the server is down.
PORTS = range(15_000, 30_000)

# So that segments, tables and checkpoints turn over all the time.
BUSY = {
    "KIXO_LOG_SEGMENT_BYTES": "100000",
    "KIXO_LOG_FREE_BYTES_MIN": "0",
    "KIXO_LOAD_INTERVAL_S": "0.05",
    "KIXO_LOAD_EVENTS_MAX": "3000",
    "KIXO_COMPACTION_FILES_MIN": "4",
    "KIXO_CHECKPOINT_COMMITS": "10",
    "KIXO_FILE_GRACE_S": "5",
    "KIXO_REGISTRY_POLL_S": "0.1",
    "KIXO_STOP_S_MAX": "60",
}


class Installation:
    """`kixo serve` on a data folder. Closed at the end of a `with`, when none of its processes is left.

    `environment` is added to that of every process: settings as `KIXO_…`, or what a shim wants. The folder is made,
    with `projects` in its registry, unless that is None.
    """

    def __init__(
        self, folder: Path, environment: Mapping[str, str] | None = None, *, workers: int = 2, projects: int | None = 6
    ) -> None:
        self.folder = folder.resolve()
        self.layout = Layout(self.folder)
        self.environment = dict(BUSY if environment is None else environment)
        self.workers = workers
        self.credentials: list[Credential] = [] if projects is None else prepare(self.folder, projects)
        self.port = free_port()
        self.starts = 0
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_all()

    @property
    def url(self) -> str:
        """Where events go; the same after every start."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of `url`."""
        return "127.0.0.1", self.port

    @property
    def log(self) -> Path:
        """What the server wrote on stdout and stderr, over all starts."""
        return self.folder / "server.log"

    @property
    def subject(self) -> Subject:
        """The running server as `kixo bench` sees it: metrics and progress."""
        assert self.process is not None
        return Subject(self.folder, self.process.pid, self.url, self.workers)

    def metric(self, series: str) -> float:
        """The value of a series of `/metrics`, written as there."""
        card = json.loads(self.layout.server_card.read_bytes())
        with urllib.request.urlopen(f"{card['console_url']}/metrics", timeout=30) as page:
            lines = page.read().decode().splitlines()
        return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(series + " "))

    def start(self) -> None:
        """Starts the server and waits until it says that it runs; tries again as a service manager would."""
        ends = time.monotonic() + START_S_MAX
        while True:
            self.launch()
            if self._wait_announced(ends):
                return
            if time.monotonic() > ends:
                raise StartFailed("`kixo serve` did not start.", f"It said: {self.last_lines()}")
            # An orphan of the last server may still hold the port.
            time.sleep(5 * POLL_S)

    def launch(self) -> subprocess.Popen[bytes]:
        """Starts the server without waiting."""
        command = [sys.executable, "-m", "kixo", "serve", "--data-dir", str(self.folder), "--console-port", "0"]
        command += ["--port", str(self.port), "--workers", str(self.workers)]
        self.starts += 1
        self.layout.server_card.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            # In its own folder, where no kixo.toml changes anything.
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, **self.environment},
                process_group=0,
            )
        return self.process

    def stop(self) -> int | None:
        """Ends the server in order; its exit status, or None where it had to be killed."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self.kill_all()
            return None

    def restart(self) -> None:
        """Ends the server in order and starts it again."""
        self.stop()
        self.start()

    def processes(self) -> dict[int, str]:
        """All processes that work on the folder, orphans too, with their roles."""
        found = {}
        for path in Path("/proc").iterdir():
            if path.name.isdigit() and (role := self._role(path)):
                found[int(path.name)] = role
        return found

    def pids(self, role: str) -> list[int]:
        """The processes of a role, lowest id first."""
        return sorted(pid for pid, found in self.processes().items() if found == role)

    def signal(self, pid: int, number: int) -> None:
        """Sends a signal to one of the processes, which may just have ended."""
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    def kill_all(self) -> None:
        """Kills every process of the folder, those that are stopped too, and waits until they are gone."""
        if self.process is not None:
            self.signal(self.process.pid, signal.SIGKILL)
        for pid in self.processes():
            self.signal(pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait()
        self.wait_until(lambda: not self.processes(), START_S_MAX)

    def wait_until(self, true: Callable[[], bool], seconds_max: float) -> bool:
        """Looks again and again until it is true, at most so long; whether it became true."""
        ends = time.monotonic() + seconds_max
        while not true():
            if time.monotonic() > ends:
                return False
            time.sleep(POLL_S)
        return True

    def kixo(
        self, *arguments: str, environment: Mapping[str, str] | None = None, seconds_max: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Runs a `kixo` command on the folder, with `environment`, and not with that of the server."""
        command = [sys.executable, "-m", "kixo", *arguments, "--data-dir", str(self.folder)]
        surroundings = {**os.environ, **(environment or {})}
        return subprocess.run(
            command, capture_output=True, text=True, timeout=seconds_max, check=False, env=surroundings
        )

    def audit(self) -> AuditReport:
        """What `kixo audit` says; raises `StartFailed` where it cannot say anything."""
        done = self.kixo("audit", "--json")
        if not done.stdout:
            raise StartFailed("`kixo audit` failed.", f"It said: {done.stderr}")
        return msgspec.json.decode(done.stdout.splitlines()[0], type=AuditReport)

    def last_lines(self, count: int = 5) -> str:
        """The newest lines of the server's log."""
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-count:])

    def _wait_announced(self, ends: float) -> bool:
        assert self.process is not None
        card, process = self.layout.server_card, self.process
        self.wait_until(lambda: process.poll() is not None or _announces(card, process.pid), ends - time.monotonic())
        return process.poll() is None and _announces(card, process.pid)

    def _role(self, path: Path) -> str | None:
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
        except OSError:
            return None
        if b"serve" in words and str(self.folder).encode() in words:
            return SUPERVISOR
        for role in ROLES:
            if f"kixo.server.{role}".encode() in words and any(_names(word, self.folder) for word in words):
                return role
        return None


def _names(word: bytes, folder: Path) -> bool:
    return f'"data_dir":"{folder}"'.encode() in word


def _announces(card: Path, pid: int) -> bool:
    try:
        return bool(json.loads(card.read_bytes())["pid"] == pid)
    except (OSError, ValueError, KeyError):
        return False


def free_port() -> int:
    """A port of loopback that nobody holds."""
    dice = random.SystemRandom()
    while True:
        port = dice.choice(PORTS)
        with socket.socket() as trial, suppress(OSError):
            trial.bind(("127.0.0.1", port))
            return port
