"""The last hour of the server's figures: a sample of the metrics every few seconds, kept in memory.

A sample is what `/metrics` would have shown at that moment, with what only the machine knows: free disk, and which
processes run. What a counter did between two samples is their difference; where it went back, because its file was made
anew, it counts as nothing.
"""

import shutil
from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from kixo.console.processes import running_roles
from kixo.layout import Layout
from kixo.metric_file import read_totals, slots, width
from kixo.metrics import Metric

SAMPLE_S = 5.0
HISTORY_S = 3600.0
SAMPLES_MAX = int(HISTORY_S / SAMPLE_S) + 1
SLOTS: Mapping[tuple[str, tuple[str, ...]], int] = slots()


class Sample(NamedTuple):
    """The figures of one moment (µs since 1970). `totals` are by slot; `running` counts processes by role."""

    at_us: int
    totals: Sequence[float]
    disk_free_bytes: int
    disk_used_bytes: int
    running: Mapping[str, int]

    def value(self, metric: Metric, labels: tuple[str, ...] = ()) -> float:
        """A counter since its file was made, or a gauge."""
        return self.totals[SLOTS[metric.name, labels]]


class Span(NamedTuple):
    """What happened between two samples."""

    first: Sample
    last: Sample

    @property
    def seconds(self) -> float:
        """How long it was."""
        return max(self.last.at_us - self.first.at_us, 1) / 1e6

    def grown(self, metric: Metric, labels: tuple[str, ...] = ()) -> float:
        """What a counter has counted."""
        return max(self.last.value(metric, labels) - self.first.value(metric, labels), 0)

    def rate(self, metric: Metric, labels: tuple[str, ...] = ()) -> float:
        """The same, per second."""
        return self.grown(metric, labels) / self.seconds

    def total_rate(self, metric: Metric) -> float:
        """What a counter has counted in all of its series, per second."""
        return sum(self.rate(metric, labels) for labels in metric.series())

    def quantile(self, metric: Metric, share: float) -> float | None:
        """The value, in seconds, that this share of a histogram's observations stayed below; None without any.

        Estimated as Prometheus does it: evenly within a bucket, and the last bound for what lies beyond it.
        """
        slot = SLOTS[metric.name, ()]
        pairs = zip(self.first.totals[slot:], self.last.totals[slot : slot + width(metric) - 1], strict=False)
        counts = [max(later - earlier, 0) for earlier, later in pairs]
        return quantile(metric.buckets_s, counts, share)


def quantile(bounds: Sequence[float], counts: Sequence[float], share: float) -> float | None:
    """The quantile of a histogram with these upper bounds, and with so many in each bucket, the last one unbounded."""
    below: list[float] = []
    for count in counts:
        below.append((below[-1] if below else 0.0) + count)
    if not below or below[-1] == 0:
        return None
    wanted = share * below[-1]
    place = bisect_left(below, wanted)
    if place >= len(bounds):
        return bounds[-1]
    low, before = (bounds[place - 1], below[place - 1]) if place else (0.0, 0.0)
    return low + (bounds[place] - low) * (wanted - before) / counts[place]


class History:
    """The samples of the last hour, oldest first. One thread adds, any may read: it is replaced, never changed."""

    def __init__(self) -> None:
        self.samples: tuple[Sample, ...] = ()

    def add(self, sample: Sample) -> None:
        """Adds the newest sample, and lets go of the oldest where there are too many."""
        self.samples = (*self.samples[-SAMPLES_MAX + 1 :], sample)

    def last(self, seconds: float) -> tuple[Sample, ...]:
        """The samples of the last so many seconds, and the one before, from which they count."""
        if not self.samples:
            return ()
        begins_us = self.samples[-1].at_us - round(seconds * 1e6)
        place = bisect_left(self.samples, begins_us, key=lambda sample: sample.at_us)
        return self.samples[max(place - 1, 0) :]


def spans(samples: Sequence[Sample], count_max: int) -> list[Span]:
    """What happened from sample to sample, joined so that there are at most so many."""
    step = max(1, -(-(len(samples) - 1) // count_max))
    places = [*range(0, len(samples) - 1, step), len(samples) - 1] if len(samples) > 1 else []
    return [Span(samples[first], samples[last]) for first, last in pairwise(places)]


def take_sample(layout: Layout, metric_folder: Path, supervisor_pid: int, now_us: int) -> Sample:
    """The figures of now; raises `OSError`."""
    disk = shutil.disk_usage(layout.root)
    totals = array("d", read_totals(metric_folder))
    return Sample(now_us, totals, disk.free, disk.used, running_roles(supervisor_pid))
