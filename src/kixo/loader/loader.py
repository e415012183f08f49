"""The life of the loader: opens the lake and the index, loads as long as it runs, and keeps both in shape.

Whatever goes wrong in a load (disk full, lake read-only or gone, another writer), nothing is lost: the log keeps what
no table has. The load is repeated after a wait, from what the tables then say.
"""

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pyarrow as pa
from deltalake.exceptions import DeltaError

from kixo import metrics as catalogue
from kixo.errors import KixoError, OperatorError
from kixo.lake.local import lake_at
from kixo.lake.report import Report
from kixo.lake.store import LakeStore
from kixo.lake.sweep import drop_uncommitted
from kixo.lake.table import LakeTable, open_tables
from kixo.loader.identity_index import IdentityIndex
from kixo.loader.load import Load, LoadTools, commit, prepare, write_files
from kixo.loader.recording import LoadRecorder
from kixo.loader.rows import Rules
from kixo.loader.spans import Intake, LoadBounds, Span
from kixo.loader.upkeep import IndexUpkeep, Now, TableUpkeep
from kixo.log import REPLAYS, LogReader
from kixo.metric_file import MetricFile
from kixo.settings import Settings
from kixo.timestamp import DAY_US

BACKOFF_S_MIN, BACKOFF_S_MAX = 0.1, 5.0
UPKEEP_NICE = 15
# What a load can fail with and be repeated; anything else is a defect and ends the process, which is started again.
FAILURES = (OSError, KixoError, DeltaError, pa.ArrowException)


@dataclass(frozen=True)
class Surroundings:
    """What a loader is given. `clock_us`: microseconds since 1970; `new_id`: unique names for files.

    `timer_s`: seconds that only ever rise, from anywhere. All waits are by it, since the clock may be set back.

    `step` is called at the end of each step of a load, with its name (`load.STEPS`). Loads are written down in the file
    `record` (`kixo.load_record`), if one is given.
    """

    lake: LakeStore | Path
    index: Path
    log: LogReader
    settings: Settings
    clock_us: Callable[[], int]
    metrics: MetricFile
    report: Report
    new_id: Callable[[], str] = lambda: uuid4().hex
    step: Callable[[str], None] = lambda _: None
    timer_s: Callable[[], float] = time.monotonic
    record: Path | None = None


class LoadResult(NamedTuple):
    """What one load did: events by outcome, bytes of log, seconds; and whether more waits already."""

    stored: int
    duplicate: int
    rejected: int
    bytes: int
    seconds: float
    more: bool


class Loader:
    """The one writer of a lake. Open it, run it (or one load at a time), close it."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._around = surroundings
        settings = surroundings.settings
        self._bounds = LoadBounds(settings.load_bytes_max, settings.load_events_max)
        # Two, so that a long merge of the index does not hold up those of the tables.
        self._thread = ThreadPoolExecutor(2, "kixo-upkeep", initializer=_step_back)
        self._opened = False
        self._recorder = LoadRecorder(surroundings.record, surroundings.report)
        # When the tables last held all that was known of: while loads fail, the lag is the time since then.
        self._loaded_s = surroundings.timer_s()
        self._busy = False

    def open(self) -> None:
        """Opens or makes the tables, and brings the index up to them. Raises `DataFolderError` or `OSError`."""
        self._open(create=True)

    def run(self, stop: threading.Event) -> None:
        """Loads until `stop` is set: back to back while there is a backlog, else at the set interval."""
        backoff_s = BACKOFF_S_MIN
        with _without_collections():
            while not stop.is_set():
                try:
                    result = self.run_once()
                except FAILURES as error:
                    self._failed(error, backoff_s)
                    stop.wait(backoff_s)
                    backoff_s = min(2 * backoff_s, BACKOFF_S_MAX)
                else:
                    backoff_s = BACKOFF_S_MIN
                    self._rest(result, stop)

    def _rest(self, result: LoadResult, stop: threading.Event) -> None:
        if not result.more:
            gc.collect(0)
            stop.wait(max(0.0, self._around.settings.load_interval_s - result.seconds))

    def run_once(self) -> LoadResult:
        """The upkeep that is due, and one load. Raises one of `FAILURES`; the next call starts from the tables."""
        if not self._opened:
            self._open(create=False)
        try:
            # Before the load, so that a load that fails for want of space cannot keep old files from going.
            self._upkeep(busy=self._busy)
            result = self._load()
        except BaseException:
            self._opened = False
            raise
        self._busy = result.more
        # Last, because upkeep and load both change them.
        self._around.metrics.set(catalogue.TABLE_FILES, self.table_files)
        self._around.metrics.set(catalogue.IDENTITIES, self._tools.index.count)
        self._around.metrics.set(catalogue.IDENTITY_FILTER_BYTES, self._tools.index.filter_bytes)
        return result

    @property
    def table_files(self) -> int:
        """Files of the events table."""
        return len(self._tools.tables["events"].files)

    def close(self) -> None:
        """Waits for merges under way and writes the index's memory to disk, so that the next start is quick."""
        self._thread.shutdown(cancel_futures=True)
        self._recorder.close()
        if self._opened:
            self._opened = False
            self._flush_index()

    def _flush_index(self) -> None:
        try:
            self._tools.index.flush()
        except OSError as error:
            self._around.report.warning(
                "The index of identities could not be written. The next start makes it anew, which takes time.",
                folder=str(self._around.index),
                error=str(error),
            )

    def _open(self, *, create: bool) -> None:
        around, settings = self._around, self._around.settings
        log_id = around.log.log_id
        tables = open_tables(around.lake, log_id, settings.checkpoint_commits, around.report, create=create)
        for table in tables.values():
            drop_uncommitted(table)
        index = IdentityIndex(around.index, log_id, settings.identity_filter_bytes_max, around.report, around.new_id)
        index.open(tables["events"], around.log.partitions())
        self._tools = self._tools_for(tables, index)
        self._intake = Intake(around.log, self._bounds)
        self._tables_upkeep = [
            TableUpkeep(each, settings, self._thread, around.metrics, around.report) for each in tables.values()
        ]
        self._index_upkeep = IndexUpkeep(index, self._thread)
        self._opened = True
        positions = {number: tables["events"].position(number) for number in around.log.partitions()}
        self._recorder.open(log_id, positions, around.clock_us())
        # A crash between the last commit and its release is made good here.
        self._release(positions)

    def _release(self, positions: dict[int, int]) -> None:
        for partition, position in positions.items():
            self._around.log.release(partition, position)

    def _tools_for(self, tables: dict[str, LakeTable], index: IdentityIndex) -> LoadTools:
        around, settings = self._around, self._around.settings
        tolerance_us = round(settings.clock_tolerance_s * 1e6)
        rules = Rules(tolerance_us, settings.date_horizon_days * DAY_US, self._tell_unreadable)
        return LoadTools(
            tables,
            index,
            around.log.log_id,
            lake_at(around.lake).inside("quarantine"),
            rules,
            around.report,
            around.clock_us,
            around.new_id,
            around.step,
        )

    def _load(self) -> LoadResult:
        started_s = self._around.timer_s()
        events = self._tools.tables["events"]
        spans, again = self._intake.next_spans(events, self._tools.tables["loads"])
        if not spans:
            self._loaded_s = started_s
            self._show_backlog(0.0)
            return LoadResult(0, 0, 0, 0, 0.0, False)
        load = prepare(spans, again, self._tools)
        commit(load, write_files(load, self._tools), self._tools)
        self._recorder.note(load)
        self._release(load.positions)
        self._loaded_s = self._around.timer_s()
        self._show_backlog(_lag_us(spans, self._around.clock_us()) / 1e6)
        return self._counted(load, self._loaded_s - started_s)

    def _upkeep(self, *, busy: bool) -> None:
        now = Now(self._around.clock_us(), self._around.timer_s())
        for upkeep in self._tables_upkeep:
            upkeep.step(now, self._around.new_id, busy=busy)
        self._index_upkeep.step()

    def _counted(self, load: Load, seconds: float) -> LoadResult:
        counts, metrics = load.counts, self._around.metrics
        stored, duplicate, rejected = (int(each.sum()) for each in (counts.stored, counts.duplicate, counts.rejected))
        metrics.add(catalogue.EVENTS, stored, ("stored",))
        metrics.add(catalogue.EVENTS, duplicate, ("duplicate",))
        metrics.add(catalogue.EVENTS, rejected, ("rejected_stored",))
        metrics.add(catalogue.LOAD_COMMITS)
        metrics.observe(catalogue.LOAD_SECONDS, seconds)
        size = sum(len(frame.payload) for span in load.spans for frame in span.frames)
        return LoadResult(stored, duplicate, rejected, size, seconds, any(span.more for span in load.spans))

    def _show_backlog(self, lag_s: float) -> None:
        log, events, metrics = self._around.log, self._tools.tables["events"], self._around.metrics
        backlog = sum(log.backlog_bytes(number, events.position(number)) for number in log.partitions())
        metrics.set(catalogue.LOG_BACKLOG_BYTES, backlog)
        metrics.set(catalogue.LOAD_LAG_SECONDS, max(0.0, lag_s))

    def _failed(self, error: BaseException, backoff_s: float) -> None:
        self._around.metrics.add(catalogue.LOAD_FAILURES)
        self._show_backlog(self._around.timer_s() - self._loaded_s)
        self._around.report.error(
            "A load failed and is repeated; its events wait in the log.",
            error=error.message if isinstance(error, OperatorError) else str(error),
            kind=type(error).__name__,
            next_step=error.next_step if isinstance(error, OperatorError) else "Look at the lake's folder and disk.",
            repeated_in_s=backoff_s,
        )

    def _tell_unreadable(self, text: str) -> None:
        self._around.report.error(
            "A time in the log is not ISO 8601; the time of receipt stands in for it. This is a defect of Kixo.",
            text=text,
        )


@contextmanager
def _without_collections() -> Iterator[None]:
    # Loading leaves next to no cycles behind; to look for them among its objects takes a third of its time.
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def _step_back() -> None:
    """Merges can wait for loads, and loads for answers: on Linux each thread has a priority of its own."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), UPKEEP_NICE)


def _lag_us(spans: list[Span], now_us: int) -> int:
    """How long the oldest event has waited. Replayed ones are as old as their requests, which says nothing."""
    waited = (span for span in spans if span.partition != REPLAYS)
    return now_us - min((frame.received_at_us for span in waited for frame in span.frames), default=now_us)
