"""Measures whether commits stay quick and files few: many small loads, and a line for every 250 of them.

    .venv/bin/python scripts/measure_commits.py [loads] [events per load]

The log is in memory; the lake is a temporary folder beside this repository's, or in $TMPDIR.
"""

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from msgspec import json

from kixo.lake.schema import TABLES
from kixo.loader.loader import Loader, Surroundings
from kixo.log import Frame
from kixo.metric_file import MetricFile
from kixo.settings import Settings
from kixo.stored import AS_SENT
from kixo.timestamp import now_us

EVERY = 250


class OneFrame:
    """A log that always has exactly the frame it was given last."""

    log_id = "0" * 32

    def __init__(self) -> None:
        self.frame = Frame(0, 0, AS_SENT, 0, 0, b"")

    def partitions(self) -> list[int]:
        return [0]

    def read(self, partition: int, position: int, bytes_max: int) -> list[Frame]:
        return [self.frame] if self.frame.payload and self.frame.offset >= position else []

    def end_position(self, partition: int) -> int:
        return self.frame.offset + 1

    def close(self) -> None:
        pass

    def backlog_bytes(self, partition: int, position: int) -> int:
        return 0

    def release(self, partition: int, position: int) -> int:
        return 0


class Sentences:
    """A report on the terminal."""

    def info(self, event: str, **members: Any) -> None:
        print(event, members, file=sys.stderr)

    warning = error = info


def frame(number: int, events: int) -> Frame:
    received_at_us = now_us()
    batch = [
        {
            "event_type": "tap",
            "event_name": f"Button {place % 50}",
            "device_id": f"device {number % 1000}",
            "session_id": f"session {number}",
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "event_id": f"{number}-{place}",
        }
        for place in range(events)
    ]
    envelope = {"project_id": f"kx_proj_{number % 7}", "bundle_id": "com.example.app", "platform": "ios"}
    return Frame(number, received_at_us, AS_SENT, events, 0, json.encode({**envelope, "batch": batch}))


def count_files(lake: Path) -> list[int]:
    """Of all tables together: Parquet files on disk, and entries in the logs."""
    folders = [lake / table.name for table in TABLES]
    parquet = sum(1 for folder in folders for _ in folder.glob("date=*/*"))
    return [parquet, sum(1 for folder in folders for _ in (folder / "_delta_log").iterdir())]


def measure(folder: Path, loads: int, events: int) -> None:
    log = OneFrame()
    # A grace of 20 seconds, so that a short run shows what hours at the default of 600 do.
    settings = Settings(file_grace_s=20.0)
    metrics = MetricFile(folder / "metrics")
    loader = Loader(Surroundings(folder / "lake", folder / "index", log, settings, now_us, metrics, Sentences()))
    loader.open()
    print("loads  load ms p50   p99   max  CPU ms  files in table  files on disk  log entries")
    walls: list[float] = []
    cpu = time.process_time()
    for number in range(loads):
        log.frame = frame(number, events)
        started = time.perf_counter()
        loader.run_once()
        walls.append(1000 * (time.perf_counter() - started))
        if (number + 1) % EVERY == 0:
            show(loader, folder / "lake", number + 1, sorted(walls), 1000 * (time.process_time() - cpu) / EVERY)
            walls, cpu = [], time.process_time()
    loader.close()


def show(loader: Loader, lake: Path, loads: int, walls: list[float], cpu_ms: float) -> None:
    on_disk, entries = count_files(lake)
    middle, late = walls[len(walls) // 2], walls[len(walls) * 99 // 100]
    print(
        f"{loads:5} {middle:12.1f} {late:5.1f} {walls[-1]:5.0f} {cpu_ms:7.1f} {loader.table_files:15} "
        f"{on_disk:14} {entries:12}",
        flush=True,
    )


def main() -> None:
    loads = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    events = int(sys.argv[2]) if len(sys.argv) > 2 else 500
    with TemporaryDirectory() as folder:
        measure(Path(folder), loads, events)


if __name__ == "__main__":
    main()
