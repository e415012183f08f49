"""A table opened for writing, by its one writer: its files, its positions, and its next version."""

from pathlib import Path

from deltalake import DeltaTable

from kixo.errors import DataFolderError
from kixo.files import sync_file, sync_folder
from kixo.lake.commit import LOG_FOLDER, Commit, TableFile, write_commit
from kixo.lake.create import create_tables
from kixo.lake.format import check_format
from kixo.lake.read import application
from kixo.lake.repair import LAST_CHECKPOINT, repair
from kixo.lake.report import Report
from kixo.lake.schema import TABLES, Table

# The Delta protocol that we write. A table that asks for more (deletion vectors, column mapping) would be spoiled.
READER_VERSION, WRITER_VERSION = 1, 2


class LakeTable:
    """The writing end of one table. Only one may be open at a time."""

    def __init__(self, lake: Path, table: Table, log_id: str, checkpoint_commits: int, report: Report) -> None:
        self.table = table
        self.folder = lake / table.name
        self._log_id = log_id
        self._checkpoint_commits = checkpoint_commits
        self._report = report
        self._opened = DeltaTable(self.folder)
        _check_protocol(self._opened)
        self.id = str(self._opened.metadata().id)
        self.version: int = self._opened.version()
        self.files: dict[str, TableFile] = _files(self._opened)
        self._positions: dict[int, int] = {}
        self._checkpoints = _checkpoint_versions(self.folder)

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
    ) -> None:
        """Makes the next version, durably; `positions` by log partition. Raises `CommitConflict` or `OSError`."""
        named = tuple((application(self._log_id, partition), end) for partition, end in (positions or {}).items())
        commit = Commit(operation, time_us // 1000, tuple(added), tuple(removed or ()), named, changes_data)
        write_commit(self.folder, self.version + 1, commit)
        self.version += 1
        for file in commit.removed:
            del self.files[file.path]
        # The statistics are in the log now; here they would only take memory.
        self.files.update((f.path, TableFile(f.path, f.date, f.size_bytes, f.rows)) for f in added)
        self._positions.update(positions or {})

    def checkpoint_if_due(self) -> bool:
        """Writes a checkpoint where enough commits came since the last; tells whether it did."""
        if self.version - self._checkpoints[-1] < self._checkpoint_commits:
            return False
        self.checkpoint()
        return True

    def checkpoint(self) -> None:
        """Writes a checkpoint of the present version, durably, then cleans the log behind the one before it."""
        DeltaTable(self.folder, version=self.version).create_checkpoint()
        log = self.folder / LOG_FOLDER
        for path in (*log.glob(f"{self.version:020d}.checkpoint*"), log / LAST_CHECKPOINT):
            sync_file(path)
        sync_folder(log)
        # A reader that found the checkpoint before may still be reading the entries after it.
        keep = self._checkpoints[-1]
        self._checkpoints = [keep, self.version]
        _drop_before(log, keep)


def open_tables(
    lake: Path, log_id: str, checkpoint_commits: int, report: Report, *, create: bool
) -> dict[str, LakeTable]:
    """Opens all tables of a lake for writing, by name, mended where that is needed.

    Makes those that are missing if `create`. Raises `DataFolderError` or `OSError`.
    """
    for table in TABLES:
        repair(lake / table.name, report)
    if create:
        create_tables(lake)
    check_format(lake)
    for table in TABLES:
        if not DeltaTable.is_deltatable(str(lake / table.name)):
            raise DataFolderError(
                f"The table {lake / table.name} is gone.",
                "Put the folder back: new events wait in the log. A restart of the server makes new, empty tables.",
            )
    return {table.name: LakeTable(lake, table, log_id, checkpoint_commits, report) for table in TABLES}


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


def _checkpoint_versions(folder: Path) -> list[int]:
    found = {int(path.name[:20]) for path in (folder / LOG_FOLDER).glob("*.checkpoint*.parquet")}
    return sorted(found)[-2:] or [0]


def _drop_before(log: Path, version: int) -> None:
    entries = [path for path in log.iterdir() if path.name[:20].isdigit() and path.suffix in {".json", ".parquet"}]
    for path in sorted(entries):
        if int(path.name[:20]) < version:
            path.unlink(missing_ok=True)
