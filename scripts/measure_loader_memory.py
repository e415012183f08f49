"""Measures what memory the loader keeps after bursts: small loads, then some of 150,000 events, again and again.

    .venv/bin/python scripts/measure_loader_memory.py [rounds]
    MALLOC_MMAP_THRESHOLD_=4194304 .venv/bin/python scripts/measure_loader_memory.py [rounds]

The first shows what the C library does by itself, the second what the server sets for it (`kixo.server.supervisor`).
Shown is the memory of its own without the filter of identities and the identities that are in no file yet: the least,
the median and the most over the last small loads of a round, in MB; and the CPU seconds so far.
"""

import gc
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog
from msgspec import json

from kixo.loader.loader import Loader, Surroundings
from kixo.log import Frame
from kixo.metric_file import MetricFile
from kixo.settings import Settings
from kixo.stored import AS_SENT
from kixo.timestamp import format_us, now_us

EVENTS = 1000
SMALL_LOADS, SMALL_FRAMES = 150, 5
LARGE_LOADS, LARGE_FRAMES = 8, 150
SHOWN_LOADS = 30
MIB = 2**20
IDENTITY_BYTES = 16


class Frames:
    """A log that always has exactly the frames it was given last."""

    log_id = "0" * 32

    def __init__(self) -> None:
        event = {"event_type": "tap", "event_name": "Button", "device_id": "d", "session_id": "s"}
        at = {"timestamp": format_us(now_us())}
        batch = [{**event, **at, "event_id": f"NUMBER-{place}"} for place in range(EVENTS)]
        members = {"project_id": "kx_proj_1", "bundle_id": "com.example.app", "platform": "ios", "batch": batch}
        self._pattern = json.encode(members)
        self._made = 0
        self._frames: list[Frame] = []

    def give(self, count: int) -> None:
        """New frames, no event of which was there before."""
        self._frames = [self._frame(self._made + number) for number in range(count)]
        self._made += count

    def partitions(self) -> list[int]:
        return [0]

    def end_position(self, partition: int) -> int:
        return self._made

    def read(self, partition: int, position: int, bytes_max: int) -> list[Frame]:
        return [each for each in self._frames if each.offset >= position]

    def backlog_bytes(self, partition: int, position: int) -> int:
        return 0

    def release(self, partition: int, position: int) -> int:
        return 0

    def close(self) -> None:
        self._frames = []

    def _frame(self, number: int) -> Frame:
        return Frame(number, now_us(), AS_SENT, EVENTS, 0, self._pattern.replace(b"NUMBER", b"%d" % number))


def kept_mb(loader: Loader) -> float:
    """Anonymous memory of this process, without what is known to grow with the identities."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    anonymous = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))
    index = loader._tools.index
    return (anonymous - index.filter_bytes - index.fresh * IDENTITY_BYTES) / MIB


def load(loader: Loader, log: Frames, loads: int, frames: int) -> list[float]:
    """Loads so many times so many frames; the memory after each."""
    kept = []
    for _ in range(loads):
        log.give(frames)
        loader.run_once()
        gc.collect(0)
        kept.append(kept_mb(loader))
    return kept


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    with TemporaryDirectory() as name:
        folder, log = Path(name), Frames()
        settings, metrics = Settings(file_grace_s=20.0), MetricFile(folder / "metrics")
        loader = Loader(
            Surroundings(folder / "lake", folder / "index", log, settings, now_us, metrics, structlog.get_logger())
        )
        loader.open()
        print("round  least  median  most  CPU s")
        for number in range(rounds):
            kept = sorted(load(loader, log, SMALL_LOADS, SMALL_FRAMES)[-SHOWN_LOADS:])
            cpu_s = time.process_time()
            print(f"{number:5} {kept[0]:6.0f} {kept[len(kept) // 2]:7.0f} {kept[-1]:5.0f} {cpu_s:6.1f}", flush=True)
            load(loader, log, LARGE_LOADS, LARGE_FRAMES)
        loader.close()


if __name__ == "__main__":
    main()
