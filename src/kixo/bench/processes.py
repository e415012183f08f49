"""CPU and memory of the processes of a server, from `/proc`.

CPU is user plus system time of all threads, in ticks of 10 ms, so it includes what the kernel does for a process's
sockets and files. Memory of one process is its largest resident set (VmHWM), which counts pages it shares with the
others. For the sum of all processes that would count them several times, so the sum is of proportional set sizes
(PSS, from `smaps_rollup`), in which a page that n processes share counts 1/n in each.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

SUPERVISOR = "supervisor"
ROLE_PREFIX = "kixo.server."
SAMPLE_S = 0.25
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")

# A process may end between being listed and being read.
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


def family(root: int) -> dict[int, str]:
    """The process and all below it, each with its role: `worker`, `loader`, …, `supervisor` for the process itself."""
    parents = {int(path.name): _parent(path) for path in _PROC.iterdir() if path.name.isdigit()}
    found = {root: SUPERVISOR}
    # Children have larger numbers than their parents only until the numbers wrap, so look until nothing is new.
    while new := [pid for pid, parent in parents.items() if parent in found and pid not in found]:
        found.update((pid, _role(pid) or found[parents[pid]]) for pid in new)
    return found


def cpu_s(pids: dict[int, str]) -> dict[str, float]:
    """CPU seconds so far by role. Processes that have ended are left out."""
    seconds = dict.fromkeys(pids.values(), 0.0)
    for pid, role in pids.items():
        with suppress(*_GONE):
            user, system = _stat(_PROC / str(pid))[11:13]
            seconds[role] += (int(user) + int(system)) / _TICKS_PER_S
    return seconds


def resident_peak_bytes(pids: dict[int, str]) -> dict[str, int]:
    """The largest resident set of each process, by role; the largest one where several have the same role."""
    peaks: dict[str, int] = {}
    for pid, role in pids.items():
        with suppress(*_GONE):
            peaks[role] = max(peaks.get(role, 0), _kilobytes(_PROC / str(pid) / "status", "VmHWM:"))
    return peaks


def proportional_bytes(pids: dict[int, str]) -> int:
    """The sum of the proportional set sizes."""
    total = 0
    for pid in pids:
        with suppress(*_GONE):
            total += _kilobytes(_PROC / str(pid) / "smaps_rollup", "Pss:")
    return total


def _stat(process: Path) -> list[str]:
    # The name, in brackets, may itself hold spaces and brackets.
    return (process / "stat").read_text().rpartition(")")[2].split()


def _parent(process: Path) -> int:
    with suppress(*_GONE):
        return int(_stat(process)[1])
    return -1


def _role(pid: int) -> str | None:
    with suppress(*_GONE):
        for argument in (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0"):
            if argument.startswith(ROLE_PREFIX.encode()):
                return argument.decode()[len(ROLE_PREFIX) :]
    return None


def _kilobytes(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return 0


@dataclass
class Memory:
    """The largest sum of all processes seen so far, in bytes; 0 before the first sample."""

    peak_bytes: int = 0
    samples: list[int] = field(default_factory=list)


@contextmanager
def watch_memory(root: int, sample: Callable[[dict[int, str]], int] = proportional_bytes) -> Iterator[Memory]:
    """Samples the memory of a family of processes while the block runs, every `SAMPLE_S` or less often.

    The kernel walks a process's pages for each sample and holds up its page faults meanwhile, so a sample that took
    long is followed by a pause fifty times as long: the measurement stays below 2 % of a core.
    """
    memory = Memory()
    over = threading.Event()

    def run() -> None:
        pause_s = 0.0
        while not over.wait(pause_s):
            began_s = time.thread_time()
            memory.samples.append(sample(family(root)))
            memory.peak_bytes = max(memory.peak_bytes, memory.samples[-1])
            pause_s = max(SAMPLE_S, 50 * (time.thread_time() - began_s))

    thread = threading.Thread(target=run, name="memory-watch", daemon=True)
    thread.start()
    try:
        yield memory
    finally:
        over.set()
        thread.join()
