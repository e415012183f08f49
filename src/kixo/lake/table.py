"""A table opened for writing: its files, its positions, and its next version.

Where a lake has many writers, a commit names what it builds on: the positions that its partitions have to be at, and
the files that it takes away. A writer that finds its version taken reads what came, looks whether that still holds,
and tries the next version. So of two writers of one partition only one gets through; the other one is `Fenced`.

Entries of the log are kept for `LOG_KEPT_S` there. A writer that was stopped for longer could otherwise write a
version anew that was cleaned away, which nobody would ever read; so after `STALE_S` it looks at the table again first.
"""

import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from uuid import uuid4

from deltalake import DeltaTable

from kixo.errors import DataFolderError
from kixo.lake.commit import (
    LOG_FOLDER,
    Changes,
    Commit,
    CommitConflict,
    Fenced,
    TableFile,
    log_entry,
    unpack,
    write_commit,
)
from kixo.lake.create import READER_VERSION, WRITER_VERSION, create_tables
from kixo.lake.format import check_format
from kixo.lake.local import lake_at
from kixo.lake.read import application
from kixo.lake.repair import LAST_CHECKPOINT
from kixo.lake.report import Report
from kixo.lake.schema import TABLES, Table
from kixo.lake.store import LakeStore

# Versions that a commit may come later than the one its files are named after.
LAG_MAX = 100
TRIES_MAX = 30
# Seconds: each further try waits up to so much longer.
TRY_S, TRY_S_MAX = 0.02, 0.5
LOG_KEPT_S, STALE_S = 3600.0, 1200.0


def elapsed_s() -> float:
    """Seconds from anywhere, which go on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class LakeTable:
    """The writing end of one table. Only one may be open at a time, but where the store has many writers."""

    def __init__(
        self,
        lake: LakeStore,
        table: Table,
        log_id: str,
        checkpoint_commits: int,
        report: Report,
        timer_s: Callable[[], float] = elapsed_s,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.table = table
        self.store = lake.inside(table.name)
        self._log_id = log_id
        self._checkpoint_commits = checkpoint_commits
        self._report = report
        self._timer_s = timer_s
        self._wait = wait
        self._open()
        self.id = str(self._opened.metadata().id)
        self._checkpoints = _checkpoint_versions(self.store)

    def _open(self) -> None:
        self._current_s = self._timer_s()
        self._opened = self.store.open_delta()
        _check_protocol(self._opened)
        self.version: int = self._opened.version()
        self.files: dict[str, TableFile] = _files(self._opened)
        self._positions: dict[int, int] = {}

    def position(self, partition: int) -> int:
        """The log position up to which the table holds a partition."""
        if partition not in self._positions:
            name = application(self._log_id, partition)
            self._positions[partition] = self._opened.transaction_version(name) or 0
        return self._positions[partition]

    def commit(
        self,
        operation: str,
        time_us: int,
        added: list[TableFile],
        *,
        removed: list[TableFile] | None = None,
        positions: dict[int, int] | None = None,
        changes_data: bool = True,
        expected: Mapping[int, int] | None = None,
    ) -> None:
        """Makes the next version, durably; `positions` by log partition.

        `expected` gives the positions that the table has to be at, so that others may commit meanwhile: empty for a
        commit that is about none, None where nobody else writes. Raises `OSError`; `Fenced` where a position is not
        as expected; `CommitConflict` where a removed file is gone, or others were faster too often: then what was
        to be committed has to be made anew.
        """
        named = tuple((application(self._log_id, partition), end) for partition, end in (positions or {}).items())
        commit_id = "" if expected is None else uuid4().hex
        commit = Commit(operation, time_us // 1000, tuple(added), tuple(removed or ()), named, changes_data, commit_id)
        if expected is None:
            write_commit(self.store, self.version + 1, commit)
        else:
            self._commit_among_others(commit, expected)
        self.version += 1
        for file in commit.removed:
            del self.files[file.path]
        # The statistics are in the log now; here they would only take memory.
        self.files.update((f.path, TableFile(f.path, f.date, f.size_bytes, f.rows)) for f in added)
        self._positions.update(positions or {})

    def refresh(self) -> None:
        """Takes in what others have committed. Raises `OSError` or `DataFolderError`."""
        if self._timer_s() - self._current_s > STALE_S:
            # Entries that were not read may have been cleaned away.
            self._open()
            return
        asked_s = self._timer_s()
        while self._take_in_next():
            asked_s = self._timer_s()
        self._current_s = asked_s

    def may_be_newer(self, file: TableFile, version: int) -> bool:
        """Whether a file of the table may hold rows that came after a version of it."""
        lag = LAG_MAX if self.store.has_many_writers else 0
        return file.data_version is None or file.data_version + lag > version

    def checkpoint_if_due(self) -> bool:
        """Writes a checkpoint where enough commits came since the last; tells whether it did."""
        if self.version - self._checkpoints[-1] < self._checkpoint_commits:
            return False
        self.checkpoint()
        return True

    def checkpoint(self) -> None:
        """Writes a checkpoint of the present version, durably, then cleans the log behind the one before it."""
        self.store.open_delta(self.version).create_checkpoint()
        written = [file.path for file in self.store.list(LOG_FOLDER) if _is_checkpoint(file.path, self.version)]
        self.store.settle([*written, f"{LOG_FOLDER}/{LAST_CHECKPOINT}"])
        # A reader that found the checkpoint before may still be reading the entries after it.
        keep = self._checkpoints[-1]
        self._checkpoints = [keep, self.version]
        _drop_before(self.store, keep)

    def retire(self, files: list[TableFile], now_s: float) -> None:
        """Marks files as needed until now, in seconds since 1970."""
        self.store.retire([file.path for file in files], now_s)

    def _commit_among_others(self, commit: Commit, expected: Mapping[int, int]) -> None:
        for number in range(TRIES_MAX):
            self._check(commit, expected)
            if self._write(commit):
                return
            self.refresh()
            self._wait(random.uniform(0.0, min(TRY_S * number, TRY_S_MAX)))
        raise CommitConflict(f"Others committed to {self.store.url} faster, {TRIES_MAX} times in a row.")

    def _check(self, commit: Commit, expected: Mapping[int, int]) -> None:
        if self._timer_s() - self._current_s > STALE_S:
            self.refresh()
        moved = sorted(number for number, start in expected.items() if self.position(number) != start)
        if moved:
            raise Fenced(f"Another loader has committed to {self.store.url} for partitions {moved} of the log.")
        if any(file.path not in self.files for file in commit.removed):
            raise CommitConflict(f"Files of {self.store.url} that were to be merged are gone.")
        if commit.changes_data and any(self.version >= (file.data_version or 0) + LAG_MAX for file in commit.added):
            raise CommitConflict(f"The table {self.store.url} went on by {LAG_MAX} versions during one load.")

    def _write(self, commit: Commit) -> bool:
        """Tries the next version; False where another has it."""
        began_s = self._timer_s()
        try:
            write_commit(self.store, self.version + 1, commit)
        except CommitConflict:
            # An answer that was lost on its way lets a repeated request meet its own first attempt.
            if not self._is_ours(commit):
                return False
        if self._timer_s() - self._current_s > LOG_KEPT_S / 2:
            raise CommitConflict(f"A commit to {self.store.url} took too long: what it was based on may be gone.")
        self._current_s = began_s
        return True

    def _is_ours(self, commit: Commit) -> bool:
        changes = self._next_changes()
        return changes is not None and changes.id == commit.id

    def _next_changes(self) -> Changes | None:
        try:
            return unpack(self.store.read(log_entry(self.version + 1)))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise CommitConflict(f"Version {self.version + 1} of {self.store.url} cannot be read: {error}.") from error

    def _take_in_next(self) -> bool:
        """Takes in the version after ours, if there is one."""
        changes = self._next_changes()
        if changes is None:
            return False
        if changes.reshaped:
            self._open()
            return True
        for path in changes.removed:
            self.files.pop(path, None)
        self.files.update((file.path, file) for file in changes.added)
        self._positions.update(self._by_partition(changes.positions))
        self.version += 1
        return True

    def _by_partition(self, positions: Mapping[str, int]) -> dict[int, int]:
        front = application(self._log_id, 0)[:-1]
        return {int(name.removeprefix(front)): end for name, end in positions.items() if name.startswith(front)}


def open_tables(
    lake: LakeStore | Path, log_id: str, checkpoint_commits: int, report: Report, *, create: bool
) -> dict[str, LakeTable]:
    """Opens all tables of a lake for writing, by name, mended where that is needed.

    Makes those that are missing if `create`. Raises `DataFolderError` or `OSError`.
    """
    store = lake_at(lake)
    for table in TABLES:
        store.inside(table.name).mend(report)
    if create:
        create_tables(store)
    check_format(store)
    for table in TABLES:
        if not store.inside(table.name).is_table():
            raise DataFolderError(
                f"The table {store.inside(table.name).url} is gone.",
                "Put the folder back: new events wait in the log. A restart of the server makes new, empty tables.",
            )
    return {table.name: LakeTable(store, table, log_id, checkpoint_commits, report) for table in TABLES}


def _check_protocol(table: DeltaTable) -> None:
    protocol = table.protocol()
    if (protocol.min_reader_version, protocol.min_writer_version) != (READER_VERSION, WRITER_VERSION):
        raise DataFolderError(
            f"The table {table.table_uri} has Delta protocol {protocol.min_reader_version}/"
            f"{protocol.min_writer_version}; this version of Kixo writes {READER_VERSION}/{WRITER_VERSION}.",
            "Some other program changed the table. Restore it from a backup, or copy its rows into a new lake.",
        )


def _files(table: DeltaTable) -> dict[str, TableFile]:
    actions = table.get_add_actions(flatten=True)
    columns = ("path", "partition.date", "size_bytes", "num_records")
    if not actions.num_rows:
        return {}
    values = zip(*(actions.column(name).to_pylist() for name in columns), strict=True)
    return {path: TableFile(path, str(date), size, rows or 0) for path, date, size, rows in values}


def _number(path: str) -> int | None:
    """The version that a file of the log is of."""
    digits = path.rpartition("/")[2][:20]
    return int(digits) if digits.isdigit() else None


def _is_checkpoint(path: str, version: int | None = None) -> bool:
    number = _number(path)
    return ".checkpoint" in path and number is not None and version in {None, number}


def _checkpoint_versions(store: LakeStore) -> list[int]:
    paths = [file.path for file in store.list(LOG_FOLDER)]
    found = {_number(path) or 0 for path in paths if _is_checkpoint(path) and path.endswith(".parquet")}
    return sorted(found)[-2:] or [0]


def _drop_before(store: LakeStore, version: int) -> None:
    """Deletes the entries and checkpoints before a version, oldest first; with many writers, only old ones."""
    entries = sorted(store.list(LOG_FOLDER), key=lambda file: file.path)
    kept_s = LOG_KEPT_S if store.has_many_writers else 0.0
    # By the clock of the place itself: the checkpoint was written just now.
    before_s = max(file.modified_s for file in entries) - kept_s
    numbered = [(number, file) for file in entries if (number := _number(file.path)) is not None]
    store.delete(
        file.path
        for number, file in numbered
        if number < version and file.path.endswith((".json", ".parquet")) and (not kept_s or file.modified_s < before_s)
    )
