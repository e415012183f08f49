"""The life of a loader: opens the lake and the index, loads as long as it runs, and keeps both in shape.

Whatever goes wrong in a load (disk full, lake read-only or gone, another writer), nothing is lost: the log keeps what
no table has. The load is repeated after a wait, from what the tables then say.

Where loaders share a log, each turn begins with a look at which partitions are this loader's now (`LoaderGroup`). It
brings the shards of new ones up to the tables, and lets go of those that went. One of the loaders keeps the tables in
shape for all.
"""

import gc
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
from deltalake.exceptions import DeltaError

from kixo.errors import KixoError, OperatorError
from kixo.lake.commit import Fenced
from kixo.lake.local import lake_at
from kixo.lake.report import Report
from kixo.lake.store import LakeStore
from kixo.lake.sweep import drop_uncommitted
from kixo.lake.table import LakeTable, open_tables
from kixo.loader.figures import LoadFigures, LoadResult, lag_us
from kixo.loader.group import Alone, LoaderGroup
from kixo.loader.identity_shards import IdentityShards, IndexPlace
from kixo.loader.load import LoadTools, commit, prepare, write_files
from kixo.loader.pace import Pace
from kixo.loader.recording import LoadRecorder
from kixo.loader.rows import Rules
from kixo.loader.spans import Intake, LoadBounds
from kixo.loader.upkeep import LakeUpkeep, Now
from kixo.log import LogReader, LogReplaced
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
    `record` (`kixo.load_record`), if one is given. `group` says which partitions are this loader's; `log` has those.
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
    group: LoaderGroup = field(default_factory=Alone)


class Loader:
    """A writer of a lake: the only one, or one of a group. Open it, run it (or one load at a time), close it."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._around = surroundings
        settings = surroundings.settings
        self._bounds = LoadBounds(settings.load_bytes_max, settings.load_events_max)
        # Two, so that a long merge of the index does not hold up those of the tables.
        self._thread = ThreadPoolExecutor(2, "kixo-upkeep", initializer=_step_back)
        self._opened = False
        self._recorder = LoadRecorder(surroundings.record, surroundings.report)
        self._shards = IdentityShards(self._index_place())
        self._pace = Pace(settings.load_interval_s)
        self._figures = LoadFigures(surroundings.metrics, surroundings.timer_s)
        self._busy = False

    def open(self) -> None:
        """Opens or makes the tables, and brings the index up to them. Raises `DataFolderError` or `OSError`."""
        self._open(create=True)
        self._follow()

    def run(self, stop: threading.Event) -> None:
        """Loads until `stop` is set: back to back while there is a backlog, else at the set interval.

        Raises `LogReplaced`.
        """
        backoff_s = BACKOFF_S_MIN
        with _without_collections():
            while not stop.is_set():
                try:
                    result = self.run_once()
                except LogReplaced:
                    # The tables' positions are of another log: the process begins anew.
                    raise
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
            stop.wait(max(0.0, self._pace.interval_s - result.seconds))

    def run_once(self) -> LoadResult:
        """The upkeep that is due, and one load. Raises one of `FAILURES`; the next call starts from the tables."""
        if not self._opened:
            self._open(create=False)
        try:
            self._follow()
            # Before the load, so that a load that fails for want of space cannot keep old files from going.
            self._upkeep(busy=self._busy)
            result = self._load()
        except BaseException:
            self._opened = False
            raise
        self._busy = result.more
        # Last, because upkeep and load both change them.
        leads = self._around.group.leads
        self._figures.show_size(self._shards, len(self._following), self.table_files if leads else 0)
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
            self._shards.close()

    def _index_place(self) -> IndexPlace:
        around, bytes_max = self._around, self._around.settings.identity_filter_bytes_max
        division = around.group.division
        return IndexPlace(
            around.index, around.log.log_id, division, bytes_max, around.report, around.new_id, self._thread
        )

    def _open(self, *, create: bool) -> None:
        around, settings = self._around, self._around.settings
        tables = open_tables(around.lake, around.log.log_id, settings.checkpoint_commits, around.report, create=create)
        for table in tables.values():
            drop_uncommitted(table)
        self._shards.drop_outdated(tables["events"], around.log.partitions())
        self._tools = self._tools_for(tables)
        self._intake = Intake(around.log, self._bounds, around.group.awaits)
        self._lake_upkeep: LakeUpkeep | None = None
        self._following: dict[int, int] = {}
        self._opened = True

    def _follow(self) -> None:
        """Looks which shards are this loader's now, and takes up what is new."""
        around, events = self._around, self._tools.tables["events"]
        wanted = dict(around.group.shards(self._let_go))
        if wanted == self._following:
            return
        if around.group.division is not None:
            self._intake.forget([n for n, assignment in self._following.items() if wanted.get(n) != assignment])
            for table in self._tools.tables.values():
                table.refresh()
        self._shards.hold(wanted, events, around.log.partitions(), around.group.keep_place)
        self._following = wanted
        self._begin()

    def _begin(self) -> None:
        around, events = self._around, self._tools.tables["events"]
        positions = {number: events.position(number) for number in around.log.partitions()}
        self._recorder.open(around.log.log_id, positions, around.clock_us())
        # A crash between the last commit and its release is made good here.
        self._release(positions)

    def _let_go(self, shards: Collection[int]) -> None:
        self._shards.let_go(shards, self._tools.tables["events"])

    def _release(self, positions: dict[int, int]) -> None:
        for partition, position in positions.items():
            self._around.log.release(partition, position)

    def _tools_for(self, tables: dict[str, LakeTable]) -> LoadTools:
        around, settings = self._around, self._around.settings
        tolerance_us = round(settings.clock_tolerance_s * 1e6)
        rules = Rules(tolerance_us, settings.date_horizon_days * DAY_US, self._tell_unreadable)
        return LoadTools(
            tables,
            self._shards,
            around.log.log_id,
            lake_at(around.lake).inside("quarantine"),
            rules,
            around.report,
            around.clock_us,
            around.new_id,
            around.step,
        )

    def _load(self) -> LoadResult:
        around, events = self._around, self._tools.tables["events"]
        started_s = around.timer_s()
        spans, again = self._intake.next_spans(events, self._tools.tables["loads"])
        if not spans:
            self._figures.idle(self._intake, events)
            return LoadResult(0, 0, 0, 0, 0.0, False)
        load = prepare(spans, again, self._tools)
        files = write_files(load, self._tools)
        written_s = around.timer_s()
        commit(load, files, self._tools)
        if around.group.division is not None:
            self._pace.note(around.timer_s() - written_s)
        self._recorder.note(load)
        self._release(load.positions)
        self._figures.show_backlog(self._intake, events, lag_us(spans, around.clock_us()) / 1e6)
        return self._figures.count(load, started_s)

    def _upkeep(self, *, busy: bool) -> None:
        around = self._around
        self._shards.upkeep()
        if not around.group.leads:
            # What it has merged and not yet committed is left to be swept.
            self._lake_upkeep = None
            return
        if self._lake_upkeep is None:
            tables = self._tools.tables.values()
            self._lake_upkeep = LakeUpkeep(tables, around.settings, self._thread, around.metrics, around.report)
        self._lake_upkeep.step(Now(around.clock_us(), around.timer_s()), around.new_id, busy=busy)

    def _failed(self, error: BaseException, backoff_s: float) -> None:
        self._figures.failed(self._intake, self._tools.tables["events"], fenced=isinstance(error, Fenced))
        if isinstance(error, Fenced):
            self._around.report.warning(
                "Another loader has taken partitions over; this one goes on from the tables.", error=str(error)
            )
            return
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
