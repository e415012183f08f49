"""The supervisor: starts the processes, starts them again when they die, and ends them in order.

Ending is in three steps, each within what is left of `stop_s_max`: workers stop taking requests and answer those
they have; the loader puts what is in the log into the tables as far as time allows (the rest is loaded at the next
start); the private port closes. A second signal ends everything at once, which loses nothing either: what was
acknowledged is in the log.
"""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any, NamedTuple

from kixo.errors import StartFailed
from kixo.metric_file import MetricFile
from kixo.metrics import RESTARTS
from kixo.server.child import Assignment
from kixo.settings import Settings

WATCH_S = 0.1
# Longer than making the index of identities anew takes for a thousand million events.
READY_S_MAX = 600.0
RESTART_DELAY_S_MAX = 5.0
# How the C library keeps memory, by role (bytes; glibc's own names). A worker takes and frees the memory of bodies all
# the time. To give it back to the system and fetch it again costs a page fault for each 4 KiB; so it keeps what
# `inflight_bytes_max` lets it need anyway, and not more. A loader takes much only for merges and large loads. Left to
# itself glibc takes that from the heap, where small things lie between: after some bursts it kept 250 MB, and so 135
# (`scripts/measure_loader_memory.py`).
KEPT_BYTES_MAX = 256 << 20


def malloc_environment(role: str, settings: Settings) -> dict[str, str]:
    """The variables by which a process of that role is told how to keep memory."""
    if role == "worker":
        kept = min(KEPT_BYTES_MAX, settings.inflight_bytes_max)
        return {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(kept)}
    return {"MALLOC_MMAP_THRESHOLD_": str(4 << 20)} if role == "loader" else {}


# In this order they end, so that each still has those that it hands its work to.
ROLES = ("worker", "loader", "console", "status")
# A process that lived this long has proved that it can: its next restart is immediate again.
STEADY_S = 10.0


class Post(NamedTuple):
    """A process that has to be there: its role, its number among those of that role, and the address it serves."""

    role: str
    number: int
    address: tuple[str, int]


class Child:
    """One process and how to start it again."""

    def __init__(self, post: Post, settings: Settings, alive_fd: int) -> None:
        self.role, self.number, self._address = post
        self._settings = settings
        self._alive_fd = alive_fd
        self._ready_fd = -1
        self._started = 0.0
        self._restarts = 0
        self.restart_at: float | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the process."""
        self._close_ready()
        self._ready_fd, theirs = os.pipe()
        assignment = Assignment(self.role, self.number, *self._address, theirs, self._alive_fd, self._settings)
        command = [sys.executable, "-m", f"kixo.server.{self.role}", assignment.encode()]
        # A stop that comes while the child still loads its modules waits until it can end in order.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs, self._alive_fd),
                process_group=0,
                env={**malloc_environment(self.role, self._settings), **os.environ},
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(theirs)
        self._started = time.monotonic()
        self.restart_at = None

    def wait_ready(self, ends: float) -> None:
        """Waits until the process does its work; raises `StartFailed`."""
        ready, _, _ = select.select([self._ready_fd], [], [], max(ends - time.monotonic(), 0))
        if not ready or not os.read(self._ready_fd, 64):
            raise StartFailed(f"The {self.role} process did not start.", "The lines above say why.")

    def died(self) -> bool:
        """Whether the process has ended and nothing has been done about it yet."""
        return self.process is not None and self.restart_at is None and self.process.poll() is not None

    def plan_restart(self) -> float:
        """Decides when to start the process again; returns the delay in seconds."""
        if time.monotonic() - self._started > STEADY_S:
            self._restarts = 0
        delay = min(0.05 * 2**self._restarts, RESTART_DELAY_S_MAX) if self._restarts else 0.0
        self._restarts += 1
        self.restart_at = time.monotonic() + delay
        return delay

    def send(self, number: int) -> None:
        """Sends a signal, unless the process has ended."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def wait(self, timeout_s: float) -> bool:
        """Waits for the end of the process; whether it came in time."""
        if self.process is None:
            return True
        try:
            self.process.wait(max(timeout_s, 0.01))
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> None:
        """Ends the process for good, whatever it is doing."""
        self.send(signal.SIGKILL)
        self.wait(5)
        self._close_ready()

    def _close_ready(self) -> None:
        if self._ready_fd >= 0:
            os.close(self._ready_fd)
            self._ready_fd = -1


class Supervisor:
    """The life of the processes: `start`, `run`, `stop`, and `close` whatever came before it."""

    def __init__(self, settings: Settings, posts: Sequence[Post], *, metrics: MetricFile, log: Any) -> None:
        self._settings = settings
        self._metrics = metrics
        self._log = log
        self._stopping = threading.Event()
        self._signals = 0
        self._alive_read, self._alive_write = os.pipe()
        self._children = [Child(post, settings, self._alive_read) for post in posts]

    def start(self) -> None:
        """Starts every process and waits until all do their work; raises `StartFailed`."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        ends = time.monotonic() + READY_S_MAX
        for child in self._children:
            child.start()
        for child in self._children:
            child.wait_ready(ends)

    def run(self) -> None:
        """Keeps the processes alive until a signal asks to stop."""
        while not self._stopping.wait(WATCH_S):
            for child in self._children:
                if child.died():
                    self._note_death(child)
                elif child.restart_at is not None and time.monotonic() >= child.restart_at:
                    child.start()

    def stop(self) -> None:
        """Ends the processes in order, gracefully as far as `stop_s_max` allows."""
        ends = time.monotonic() + self._settings.stop_s_max
        for role in ROLES:
            self._stop_role(role, ends)
        os.close(self._alive_write)

    def close(self) -> None:
        """Ends whatever still runs."""
        for child in self._children:
            child.close()

    def _stop_role(self, role: str, ends: float) -> None:
        children = [child for child in self._children if child.role == role]
        for child in children:
            child.send(signal.SIGTERM)
        for child in children:
            if not child.wait(ends - time.monotonic()):
                self._log.warning("stop_forced", child=role, number=child.number)
                child.close()

    def _note_death(self, child: Child) -> None:
        status = child.process.returncode if child.process is not None else None
        delay = child.plan_restart()
        self._metrics.add(RESTARTS, 1, (child.role,))
        self._log.error("process_died", child=child.role, number=child.number, status=status, restart_in_s=delay)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        self._stopping.set()
        if self._signals > 1:
            self._force()

    def _force(self) -> None:
        for child in self._children:
            child.send(signal.SIGKILL)
        os._exit(130)
