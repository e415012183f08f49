"""What keeps a table cheap to commit to and to read, between loads: checkpoints, merges, sweeps, and the index's files.

Merges run in a thread of their own, in which pyarrow and NumPy leave the interpreter to the loads. Everything that
changes a table or the index happens in the loader's thread, here, one after the other.
"""

import math
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import pyarrow as pa

from kixo.lake.commit import CommitConflict, TableFile
from kixo.lake.compaction import Bounds, choose, merge
from kixo.lake.report import Report
from kixo.lake.sweep import sweep, sweep_among_others
from kixo.lake.table import LakeTable
from kixo.loader.identity_index import IdentityIndex
from kixo.metric_file import MetricFile
from kixo.metrics import COMPACTION_FAILURES, COMPACTIONS
from kixo.settings import Settings

# Sweeps per time that a file stays: files stay up to a quarter longer than they have to.
SWEEPS_PER_GRACE = 4
# To look through all files after every commit would cost more the more there are.
COMMITS_PER_CHOICE = 4
# A merge that failed would most likely fail again at once, and loads must not wait for it.
MERGE_RETRY_S = 60.0
REFRESH_S = 2.0


class Now(NamedTuple):
    """The time by the wall clock, in microseconds since 1970, which may be set back, and by a timer that only rises."""

    clock_us: int
    timer_s: float


class TableUpkeep:
    """The upkeep of one table."""

    def __init__(
        self, table: LakeTable, settings: Settings, thread: ThreadPoolExecutor, metrics: MetricFile, report: Report
    ) -> None:
        self._table = table
        self._metrics = metrics
        self._report = report
        self._bounds = Bounds(settings.compaction_files_min, settings.compaction_bytes)
        self._grace_s = settings.file_grace_s
        self._thread = thread
        self._merging: tuple[list[TableFile], Future[TableFile]] | None = None
        self._looked_at = -COMMITS_PER_CHOICE
        self._retry_s = -math.inf
        self._swept_s = -math.inf
        self._unused_since_s: dict[str, float] = {}

    def step(self, now: Now, new_id: Callable[[], str], *, busy: bool) -> None:
        """Does what is due at once, or starts it where it takes long.

        While the loader is `busy` with a backlog, merges that can wait do. Raises `OSError` or `CommitConflict`.
        """
        if self._merging is None:
            # First, because on a full disk it may be what makes room for all else.
            self._sweep(now)
        self._table.checkpoint_if_due()
        if self._merging is not None:
            self._finish(*self._merging, now)
        elif now.timer_s >= self._retry_s:
            self._start(new_id, busy)

    def _start(self, new_id: Callable[[], str], busy: bool) -> None:
        if self._table.version - self._looked_at < COMMITS_PER_CHOICE:
            return
        files = choose(self._table.files.values(), self._bounds, busy=busy)
        if files:
            task = self._thread.submit(merge, self._table.store, self._table.table, files, new_id())
            self._merging = (files, task)
        else:
            self._looked_at = self._table.version

    def _finish(self, files: list[TableFile], task: Future[TableFile], now: Now) -> None:
        if not task.done():
            return
        self._merging = None
        try:
            merged = task.result()
        except (OSError, pa.ArrowException) as error:
            self._put_off(error, now)
        else:
            self._exchange(files, merged, now.clock_us)

    def _put_off(self, error: Exception, now: Now) -> None:
        """The small files are still good: only their number is not what it should be."""
        self._retry_s = now.timer_s + MERGE_RETRY_S
        self._metrics.add(COMPACTION_FAILURES)
        self._report.error(
            "Merging small table files failed and is tried again later; nothing is lost.",
            table=self._table.table.name,
            error=str(error),
            repeated_in_s=MERGE_RETRY_S,
        )

    def _exchange(self, files: list[TableFile], merged: TableFile, now_us: int) -> None:
        # Before the commit: a sweep must never see a merged file that seems to have been unused for long.
        self._table.retire(files, now_us / 1e6)
        shared = self._table.store.has_many_writers
        expected: dict[int, int] | None = {} if shared else None
        try:
            self._table.commit("OPTIMIZE", now_us, [merged], removed=files, changes_data=False, expected=expected)
        except CommitConflict:
            if not shared:
                raise
            # Whoever led before merged them too, or others were faster too often: there is a next time.
            return
        self._metrics.add(COMPACTIONS)

    def _sweep(self, now: Now) -> None:
        if now.timer_s - self._swept_s >= self._grace_s / SWEEPS_PER_GRACE:
            if self._table.store.has_many_writers:
                self._unused_since_s = sweep_among_others(self._table, self._unused_since_s, now.timer_s, self._grace_s)
            else:
                sweep(self._table, now.clock_us / 1e6 - self._grace_s)
            self._swept_s = now.timer_s


class LakeUpkeep:
    """The upkeep of all tables of a lake, by the one loader that leads."""

    def __init__(
        self,
        tables: Iterable[LakeTable],
        settings: Settings,
        thread: ThreadPoolExecutor,
        metrics: MetricFile,
        report: Report,
    ) -> None:
        self._tables = list(tables)
        self._steps = [TableUpkeep(table, settings, thread, metrics, report) for table in self._tables]
        self._refreshed_s = -math.inf

    def step(self, now: Now, new_id: Callable[[], str], *, busy: bool) -> None:
        """See `TableUpkeep.step`."""
        if now.timer_s - self._refreshed_s >= REFRESH_S:
            # A leader that has nothing to commit would not see what the others do.
            for table in self._tables:
                if table.store.has_many_writers:
                    table.refresh()
            self._refreshed_s = now.timer_s
        for upkeep in self._steps:
            upkeep.step(now, new_id, busy=busy)


class IndexUpkeep:
    """The upkeep of the index of identities: what is in memory goes to files, and files are merged."""

    def __init__(self, index: IdentityIndex, thread: ThreadPoolExecutor) -> None:
        self._index = index
        self._thread = thread
        self._flushing: Future[str] | None = None
        self._merging: tuple[list[str], Future[str]] | None = None

    def step(self) -> None:
        """Does what is due at once, or starts it where it takes long. Raises `OSError`."""
        self._flush()
        self._merge()

    def _flush(self) -> None:
        if self._flushing is None:
            if self._index.flush_due:
                self._flushing = self._thread.submit(self._index.store.write, self._index.begin_flush())
        elif self._flushing.done():
            task, self._flushing = self._flushing, None
            self._index.end_flush(task.result())

    def _merge(self) -> None:
        if self._merging is None:
            if names := self._index.store.merge_due():
                self._merging = (names, self._thread.submit(self._index.store.merge_files, names))
        elif self._merging[1].done():
            (names, task), self._merging = self._merging, None
            self._index.exchange(names, task.result())
