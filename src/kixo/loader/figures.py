"""What a loader shows of its work, as metrics: what became of events, how far behind it is, and how large all is."""

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from kixo import metrics as catalogue
from kixo.errors import KixoError
from kixo.lake.table import LakeTable
from kixo.loader.identity_shards import IdentityShards
from kixo.loader.load import Load
from kixo.loader.spans import Intake, Span
from kixo.log import REPLAYS
from kixo.metric_file import MetricFile


class LoadResult(NamedTuple):
    """What one load did: events by outcome, bytes of log, seconds; and whether more waits already."""

    stored: int
    duplicate: int
    rejected: int
    bytes: int
    seconds: float
    more: bool


class LoadFigures:
    """The metrics of one loader; `timer_s` gives seconds that only rise."""

    def __init__(self, metrics: MetricFile, timer_s: Callable[[], float]) -> None:
        self._metrics = metrics
        self._timer_s = timer_s
        # When the tables last held all that was known of: while loads fail, the lag is the time since then.
        self._loaded_s = timer_s()

    def count(self, load: Load, started_s: float) -> LoadResult:
        """Counts a load that has just been committed."""
        self._loaded_s = self._timer_s()
        counts, metrics = load.counts, self._metrics
        stored, duplicate, rejected = (int(each.sum()) for each in (counts.stored, counts.duplicate, counts.rejected))
        metrics.add(catalogue.EVENTS, stored, ("stored",))
        metrics.add(catalogue.EVENTS, duplicate, ("duplicate",))
        metrics.add(catalogue.EVENTS, rejected, ("rejected_stored",))
        metrics.add(catalogue.LOAD_COMMITS)
        metrics.observe(catalogue.LOAD_SECONDS, self._loaded_s - started_s)
        size = sum(len(frame.payload) for span in load.spans for frame in span.frames)
        more = any(span.more for span in load.spans)
        return LoadResult(stored, duplicate, rejected, size, self._loaded_s - started_s, more)

    def idle(self, intake: Intake, events: LakeTable) -> None:
        """Nothing was there to load."""
        self._loaded_s = self._timer_s()
        self.show_backlog(intake, events, 0.0)

    def failed(self, intake: Intake, events: LakeTable, *, fenced: bool) -> None:
        """A load failed, or was `fenced` off."""
        self._metrics.add(catalogue.LOADS_FENCED if fenced else catalogue.LOAD_FAILURES)
        # What failed may be what would say how much waits.
        with suppress(OSError, KixoError):
            self.show_backlog(intake, events, self._timer_s() - self._loaded_s)

    def show_backlog(self, intake: Intake, events: LakeTable, lag_s: float) -> None:
        """Shows how much waits, and how long the oldest of it has."""
        self._metrics.set(catalogue.LOAD_LAG_SECONDS, max(0.0, lag_s))
        self._metrics.set(catalogue.LOG_BACKLOG_BYTES, intake.backlog_bytes(events))

    def show_size(self, shards: IdentityShards, shares: int, table_files: int) -> None:
        """Shows what has grown."""
        self._metrics.set(catalogue.TABLE_FILES, table_files)
        self._metrics.set(catalogue.LOAD_SHARES, shares)
        self._metrics.set(catalogue.IDENTITIES, shards.count)
        self._metrics.set(catalogue.IDENTITY_FILTER_BYTES, shards.filter_bytes)


def lag_us(spans: list[Span], now_us: int) -> int:
    """How long the oldest event has waited. Replayed ones are as old as their requests, which says nothing."""
    waited = (span for span in spans if span.partition != REPLAYS)
    return now_us - min((frame.received_at_us for span in waited for frame in span.frames), default=now_us)
