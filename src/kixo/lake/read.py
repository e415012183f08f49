"""The reading side of the lake: which files a table consists of, and how much of the log it holds.

A view is one snapshot: files and positions belong to the same commit. A file that a later merge replaces stays in its
place for `settings.file_grace_s`, so a query that takes no longer than that can read the files of its view in peace.
"""

from collections.abc import Iterable
from pathlib import Path

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from kixo.errors import DataFolderError
from kixo.lake.format import check_format
from kixo.lake.local import lake_at
from kixo.lake.store import LakeStore

# A log entry that was listed can be cleaned away before it is read; the next listing starts later.
ATTEMPTS = 5


def application(log_id: str, partition: int) -> str:
    """The Delta application id under which the position of a log partition is committed."""
    return f"kixo/{log_id}/{partition}"


class TableView:
    """One snapshot of a table: its `name`, its Delta `version`, and the `paths` of its Parquet files.

    A path is absolute, or an `s3://` URL.
    """

    def __init__(self, store: LakeStore, name: str, table: DeltaTable) -> None:
        self._store = store
        self._table = table
        self.name = name
        self.version: int = table.version()
        self.paths: tuple[str, ...] = tuple(map(store.address, table.file_uris()))

    def position(self, log_id: str, partition: int) -> int:
        """The log position up to which the table holds a partition: the first offset it does not; 0 for none."""
        return self._table.transaction_version(application(log_id, partition)) or 0

    def renewed(self) -> "TableView":
        """The snapshot now; on object storage with fewer requests than opening the table takes. Raises `DeltaError`."""
        self._table.update_incremental()
        return TableView(self._store, self.name, self._table)

    def positions(self, log_id: str, partitions: Iterable[int]) -> dict[int, int]:
        """The position of each partition, by its number."""
        return {partition: self.position(log_id, partition) for partition in partitions}


def require_lake(lake: LakeStore | Path) -> None:
    """Raises `DataFolderError` where there is no lake: to show empty tables then would be a lie."""
    store = lake_at(lake)
    if not store.exists():
        above, _, name = store.url.rpartition("/")
        raise DataFolderError(
            f"There are no tables in {above or '.'}: it has no folder {name!r}.",
            "Correct --data-dir, start `kixo serve` once, or put the folder back if it was moved away.",
        )


def open_table(lake: LakeStore | Path, name: str) -> TableView:
    """The present snapshot of table `name` (`events`, `rejected` or `loads`) of a lake.

    Raises `DataFolderError` where there is no such table, or none that can be read.
    """
    store = lake_at(lake).inside(name)
    check_format(lake_at(lake))
    if not store.is_table():
        raise DataFolderError(
            f"There is no table {name!r} in {lake_at(lake).url}.", "Start `kixo serve` once, or name its folder."
        )
    for attempt in range(ATTEMPTS):
        try:
            return TableView(store, name, store.open_delta())
        except (DeltaError, OSError) as error:
            if attempt == ATTEMPTS - 1:
                raise DataFolderError(
                    f"The table {store.url} cannot be read: {error}.",
                    "If the server is down, start it: it mends a commit that was cut off by a power loss.",
                ) from error
    raise AssertionError("unreachable")
