"""Finding the rate that accepting and loading can sustain together: as fast as may be while the lag stays put.

The driver is steered a few times a second towards the rate at which the loader has lately brought events into the
table, a little more while the lag is below `LAG_S`, a little less while it is above. Where ingest is the slower of
the two, the rate simply ends at what it takes.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from kixo.bench.driver import Report
from kixo.bench.driving import Drive

LAG_S = 1.2
WINDOW_S = 3.0
GAIN = 0.8
LEAST, MOST = 0.5, 1.5
EVENTS_PER_S_MIN = 20_000.0


@dataclass(frozen=True)
class Sample:
    """Where accepting and loading stood at a time of the drive: seconds and events since its start."""

    seconds: float
    accepted: int
    settled: int


@dataclass
class Steering:
    """Follows the reports of a drive and sets its rate. `settled` tells how many events the loader is done with.

    `before` is what it was done with before the drive. With a `fixed_rate`, in events per second, the lag is only
    watched.
    """

    batch: int
    settled: Callable[[], int]
    before: int = 0
    fixed_rate: float | None = None
    measuring: bool = False
    samples: list[Sample] = field(default_factory=list)
    lags_s: list[float] = field(default_factory=list)
    _recent: deque[Sample] = field(default_factory=deque)

    def __call__(self, report: Report, drive: Drive) -> None:
        """Takes a report into account."""
        sample = Sample(report.seconds, report.accepted, self.settled() - self.before)
        self._recent.append(sample)
        while sample.seconds - self._recent[0].seconds > WINDOW_S:
            self._recent.popleft()
        speed = self.speed()
        lag_s = (sample.accepted - sample.settled) / speed
        self.measuring = self.measuring or report.state == "measuring"
        if self.measuring and report.state != "done":
            self.samples.append(sample)
            self.lags_s.append(lag_s)
        # The first commits tell nothing about the loader's speed yet.
        begun = sample.seconds > WINDOW_S / 2
        if begun and self.fixed_rate is None and report.state in {"running", "measuring"}:
            drive.set_rate(speed * steer(lag_s) / self.batch)

    def speed(self) -> float:
        """Events per second that the loader has lately brought into the table."""
        first, last = self._recent[0], self._recent[-1]
        seconds = last.seconds - first.seconds
        return max(EVENTS_PER_S_MIN, (last.settled - first.settled) / seconds if seconds else 0.0)

    def sustained(self) -> float:
        """Events per second over the whole window, of accepting or of loading, whichever is less."""
        first, last = self.samples[0], self.samples[-1]
        return min(last.accepted - first.accepted, last.settled - first.settled) / (last.seconds - first.seconds)

    def lag_growth_s(self) -> float:
        """Seconds by which the mean lag of the last third exceeds that of the first."""
        third = max(1, len(self.lags_s) // 3)
        return (sum(self.lags_s[-third:]) - sum(self.lags_s[:third])) / third


def steer(lag_s: float) -> float:
    """The factor on the loader's speed at which to send, given the lag."""
    return min(MOST, max(LEAST, 1 + GAIN * (LAG_S - lag_s)))
