"""Metric values in a memory-mapped file, one file per process place (`worker-0`, `loader`, …).

A file is an array of 64-bit floats; `slots` gives the place of every series of the catalogue in it. Adding to a
counter is one memory write, needs no lock because each file has one writer, and survives the death of its process:
the next process in the same place counts on. The private port reads all files and puts them together.
"""

import mmap
import os
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path
from struct import Struct
from zlib import crc32

from kixo.metrics import CATALOGUE, Metric

SLOT = Struct("<d")


def width(metric: Metric) -> int:
    """Floats per series: a histogram has its buckets, +Inf, and the sum."""
    return len(metric.buckets_s) + 2 if metric.kind == "histogram" else 1


def slots(catalogue: tuple[Metric, ...] = CATALOGUE) -> dict[tuple[str, tuple[str, ...]], int]:
    """The first slot of each series, by metric name and label values."""
    places: dict[tuple[str, tuple[str, ...]], int] = {}
    slot = 0
    for metric in catalogue:
        for values in metric.series():
            places[metric.name, values] = slot
            slot += width(metric)
    return places


def layout_name(catalogue: tuple[Metric, ...] = CATALOGUE) -> str:
    """A name for this layout of slots: files of another must not be read as if they had it."""
    return f"{crc32(repr(list(slots(catalogue))).encode()):08x}"


def size_bytes(catalogue: tuple[Metric, ...] = CATALOGUE) -> int:
    """The size of a metric file."""
    return SLOT.size * sum(width(metric) * len(metric.series()) for metric in catalogue)


class MetricFile:
    """The counters of one process. Open with a path; not safe for two writers."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # Blocks are claimed now: a full disk would answer a later write to mapped memory with SIGBUS.
            os.posix_fallocate(descriptor, 0, size_bytes())
            self._map = mmap.mmap(descriptor, size_bytes())
        finally:
            os.close(descriptor)
        self._values = memoryview(self._map).cast("d")
        self._slots = slots()

    def close(self) -> None:
        """Lets go of the memory; the file keeps the values."""
        self._values.release()
        self._map.close()

    def counter(self, metric: Metric, labels: tuple[str, ...] = ()) -> Callable[[float], None]:
        """`add` for one series, with its slot looked up once: for paths where a microsecond counts."""
        values, slot = self._values, self._slots[metric.name, labels]

        def add(amount: float) -> None:
            values[slot] += amount

        return add

    def add(self, metric: Metric, amount: float = 1, labels: tuple[str, ...] = ()) -> None:
        """Adds to a counter."""
        self._values[self._slots[metric.name, labels]] += amount

    def set(self, metric: Metric, value: float, labels: tuple[str, ...] = ()) -> None:
        """Sets a gauge."""
        self._values[self._slots[metric.name, labels]] = value

    def observe(self, metric: Metric, value: float, labels: tuple[str, ...] = ()) -> None:
        """Counts a value, in seconds, into its bucket of a histogram."""
        slot = self._slots[metric.name, labels]
        self._values[slot + bisect_left(metric.buckets_s, value)] += 1
        self._values[slot + len(metric.buckets_s) + 1] += value


def read(path: Path) -> tuple[float, ...]:
    """All values of a metric file, by slot; a file cut short by a crash counts as zeros."""
    data = path.read_bytes().ljust(size_bytes(), b"\0")[: size_bytes()]
    return tuple(value for (value,) in SLOT.iter_unpack(data))


def read_totals(folder: Path) -> list[float]:
    """All values by slot, over the files of every process: summed, or the greatest; zeros where there are none."""
    files = [read(path) for path in sorted(folder.iterdir()) if path.is_file()]
    values = [sum(values) for values in zip(*files, strict=True)] or [0.0] * (size_bytes() // SLOT.size)
    places = slots()
    for metric in CATALOGUE:
        if not metric.sums:
            for labels in metric.series():
                slot = places[metric.name, labels]
                values[slot] = max((file[slot] for file in files), default=0.0)
    return values
