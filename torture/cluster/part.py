"""A part of a cluster: a service or a node of Kixo, with all its processes, hurt and started again as a machine is."""

import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from services.program import Program, answers, launch, runs, send

POLL_S = 0.05
START_S_MAX = 120.0
STOP_S_MAX = 60.0


class Part:
    """A program and its children. `asks` is the URL that answers 200 when it works; empty: an open port is enough."""

    def __init__(self, program: Program, prefix: tuple[str, ...] = (), asks: str = "") -> None:
        self.program = program
        self.prefix = prefix
        self.asks = asks

    @property
    def name(self) -> str:
        """Such as `kafka-1` or `load-2`."""
        return self.program.name

    @property
    def kind(self) -> str:
        """Such as `kafka` or `load`."""
        return self.name.partition("-")[0]

    def launch(self) -> None:
        """Starts it without waiting."""
        self.program = launch(self.program, self.prefix)

    def wait_ready(self) -> bool:
        """Waits until it works, and starts it again where it gave up, as a service manager does; whether it works."""
        ends = time.monotonic() + START_S_MAX
        while not self.is_ready():
            if time.monotonic() > ends:
                return False
            if not runs(self.program):
                # What it needs may not be there yet, or what the last one held not be free.
                time.sleep(10 * POLL_S)
                self.launch()
            time.sleep(POLL_S)
        return True

    def is_ready(self) -> bool:
        """Whether it works now."""
        if not runs(self.program):
            return False
        if not self.asks:
            return answers(self.program)
        try:
            with urllib.request.urlopen(self.asks, timeout=2) as page:
                return bool(page.status == 200)
        except (OSError, ValueError):
            return False

    def pids(self, word: str = "") -> list[int]:
        """Its processes, orphans too; with `word`, those that have it in their command line."""
        found = {pid for pid, line in _commands() if _is_of(line, self.program.folder)}
        if runs(self.program):
            found |= {self.program.pid, *_descendants(self.program.pid)}
        lines = dict(_commands())
        return sorted(pid for pid in found if word.encode() in lines.get(pid, b"") or not word)

    def signal(self, number: int, word: str = "") -> None:
        """Sends a signal to its processes."""
        for pid in self.pids(word):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """`kill -9` of all its processes; gone when this returns."""
        ends = time.monotonic() + STOP_S_MAX
        while (self.pids() or runs(self.program)) and time.monotonic() < ends:
            self.signal(signal.SIGKILL)
            time.sleep(POLL_S)

    def stop(self) -> bool:
        """Asks it to end; whether it did, rather than having to be killed."""
        send(self.program, signal.SIGTERM)
        ended = wait_until(lambda: not runs(self.program), STOP_S_MAX)
        self.kill()
        return ended


def wait_until(true: Callable[[], bool], seconds_max: float) -> bool:
    """Looks again and again until it is true, at most so long; whether it became true."""
    ends = time.monotonic() + seconds_max
    while not true():
        if time.monotonic() > ends:
            return False
        time.sleep(POLL_S)
    return True


def _is_of(line: bytes, folder: Path) -> bool:
    own = str(folder).encode()
    return any(
        word == own or word.startswith(own + b"/") or b'"data_dir":"%b"' % own in word for word in line.split(b"\0")
    )


def _commands() -> Iterator[tuple[int, bytes]]:
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and int(path.name) != os.getpid():
            with suppress(OSError):
                line = (path / "cmdline").read_bytes()
                # What is left of a process has none.
                if line:
                    yield int(path.name), line


def _descendants(pid: int) -> set[int]:
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with suppress(OSError):
                words = (path / "stat").read_text().rpartition(")")[2].split()
                if words[0] not in {"Z", "X"}:
                    parents.setdefault(int(words[1]), []).append(int(path.name))
    found, new = set[int](), [pid]
    while new:
        children = [child for parent in new for child in parents.get(parent, [])]
        new = [child for child in children if child not in found]
        found |= set(new)
    return found
