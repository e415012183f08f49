"""The bulk of a soak's traffic: drivers that send batches of all sizes, each to projects of its own, by the clock."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from kixo.bench.driver import Plan, Report
from kixo.bench.driving import Drive
from kixo.bench.options import Identity
from kixo.bench.schedule import LIMIT_WINDOW_S
from kixo.bench.traffic import Credential, Shape
from kixo.errors import KixoError

LIMIT_PER_PROJECT = 100
# Of the limit, so that a moment's delay is not answered 429.
PROJECT_LOAD = 0.5


@dataclass(frozen=True)
class Part:
    """Batches of one size: their share of all events, over at least so many projects, on so many connections."""

    batch: int
    share: float
    projects: int
    connections: int
    identity: Identity = "event_id"

    def requests_per_s(self, events_per_s: float) -> float:
        """How many requests a second this part sends where all parts together send so many events."""
        return events_per_s * self.share / self.batch

    def projects_for(self, events_per_s: float) -> int:
        """Projects enough that none comes near its rate limit."""
        per_project = LIMIT_PER_PROJECT / LIMIT_WINDOW_S * PROJECT_LOAD
        return max(self.projects, round(self.requests_per_s(events_per_s) / per_project))


# Big batches make the events, small ones the requests, as apps that were offline and apps that are open do.
MIXTURE = (
    Part(1000, 0.60, 20, 4),
    Part(100, 0.35, 100, 8, "fingerprint"),
    Part(10, 0.045, 100, 8),
    Part(1, 0.005, 80, 8),
)


def projects_for(events_per_s: float) -> int:
    """Projects of all parts together."""
    return sum(part.projects_for(events_per_s) for part in MIXTURE)


def mean_batch() -> int:
    """Events in a request of the mixture, on average: what a request costs weighs the more, the fewer they are."""
    return round(1 / sum(part.share / part.batch for part in MIXTURE))


@dataclass
class Progress:
    """The latest report of each driver, and the drivers that gave up."""

    reports: dict[int, Report] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def accepted(self) -> int:
        """Events answered as accepted so far."""
        return sum(report.accepted for report in self.reports.values())

    @property
    def unknown(self) -> int:
        """Events that were sent and never answered."""
        return sum(report.unknown_events for report in self.reports.values())

    @property
    def refused(self) -> dict[int, int]:
        """Answers other than 200, by status."""
        statuses: dict[int, int] = {}
        for report in self.reports.values():
            for status, count in report.statuses.items():
                if status != 200:
                    statuses[status] = statuses.get(status, 0) + count
        return statuses


class Mixing:
    """The drivers at work. `wait` for their end."""

    def __init__(self, threads: Sequence[threading.Thread]) -> None:
        self.progress = Progress()
        self._threads = threads

    def is_running(self, wait_s: float) -> bool:
        """Waits so many seconds, or less where all end; whether one of them still sends."""
        ends = time.monotonic() + wait_s
        for thread in self._threads:
            thread.join(max(0.0, ends - time.monotonic()))
        return any(thread.is_alive() for thread in self._threads)

    def wait(self) -> Progress:
        """Waits until all have their last answers."""
        for thread in self._threads:
            thread.join()
        return self.progress


@contextmanager
def mixing(
    url: str, credentials: Sequence[Credential], events_per_s: float, seconds: float, seed: int
) -> Iterator[Mixing]:
    """Drives the server at `url` for so many seconds, or until the end of the block. Raises `OSError`."""
    plans = list(_plans(url, credentials, events_per_s, seconds, seed))
    with ExitStack() as stack:
        drives = [stack.enter_context(Drive(plan)) for plan in plans]
        threads: list[threading.Thread] = []
        work = Mixing(threads)
        for number, drive in enumerate(drives):
            threads.append(threading.Thread(target=_follow, args=(work.progress, number, drive), daemon=True))
            threads[-1].start()
        yield work


def _plans(
    url: str, credentials: Sequence[Credential], events_per_s: float, seconds: float, seed: int
) -> Iterator[Plan]:
    left = list(credentials)
    for number, part in enumerate(MIXTURE):
        count = part.projects_for(events_per_s)
        mine, left = left[:count], left[count:]
        yield Plan(
            url=url,
            credentials=mine,
            shape=Shape(part.batch, part.identity),
            connections=part.connections,
            seconds=seconds,
            rate=part.requests_per_s(events_per_s),
            seed=seed + number,
            limit_per_project=LIMIT_PER_PROJECT,
        )


def _follow(progress: Progress, number: int, drive: Drive) -> None:
    try:
        for report in drive.reports():
            progress.reports[number] = report
    except KixoError as error:
        progress.failures.append(str(error))
