"""How a query's DuckDB opens the files of a snapshot: by itself on a file system, through us on object storage.

DuckDB's own way to S3 is an extension that it would have to download, and would hold the credentials where SQL runs.
So it gets a file system of ours that knows the files of the one snapshot, can only read, and asks for the ranges that
DuckDB wants: footers, and the columns of the row groups that a query cannot do without.
"""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

from deltalake.exceptions import DeltaError

from kixo.lake.local import lake_at
from kixo.lake.objects import ObjectLake
from kixo.lake.ranges import TAIL_BYTES
from kixo.lake.read import TableView, open_table
from kixo.lake.store import LakeStore

if TYPE_CHECKING:
    import duckdb

# What is kept of the ends of files, which never change; a process that answers again need not ask again.
KEPT_BYTES_MAX = 32 * 1024 * 1024


class TableFiles(Protocol):
    """The way to the files of a lake."""

    def admit(self, connection: "duckdb.DuckDBPyConnection", paths: Sequence[str]) -> None:
        """Lets a connection open these files, and no others, beyond what it can open by itself."""
        ...

    def all_there(self, paths: Sequence[str]) -> bool:
        """Whether all of the files are still there. Raises `OSError`."""
        ...


class LocalFiles:
    """Files that DuckDB opens by itself."""

    def admit(self, connection: "duckdb.DuckDBPyConnection", paths: Sequence[str]) -> None:
        """Nothing."""

    def all_there(self, paths: Sequence[str]) -> bool:
        """Whether all of the files are still there."""
        return all(Path(path).exists() for path in paths)


class ObjectFiles:
    """Files of a lake on object storage."""

    def __init__(self, lake: ObjectLake) -> None:
        self._lake = lake
        self._ends = Ends(lake)

    def admit(self, connection: "duckdb.DuckDBPyConnection", paths: Sequence[str]) -> None:
        """Registers a file system that has these files."""
        from kixo.query.file_system import SnapshotFiles

        connection.register_filesystem(SnapshotFiles(self._lake, self._ends, frozenset(paths)))

    def all_there(self, paths: Sequence[str]) -> bool:
        """Whether all of the files are still there; a request for each."""
        try:
            for path in paths:
                self._lake.end(self._lake.inner(path), 1)
        except FileNotFoundError:
            return False
        return True


class KeptViews:
    """The views of a lake's tables, kept: to bring one up to date takes fewer requests than to open a table."""

    def __init__(self, lake: ObjectLake) -> None:
        self._lake = lake
        self._views: dict[str, TableView] = {}

    def paths(self, table: str) -> Sequence[str]:
        """The files of a table now. Raises `DataFolderError`."""
        view = self._renewed(table)
        if view is None:
            if not self._lake.inside(table).is_table():
                return ()
            view = open_table(self._lake, table)
        self._views[table] = view
        return view.paths

    def _renewed(self, table: str) -> TableView | None:
        view = self._views.pop(table, None)
        try:
            return view and view.renewed()
        except (DeltaError, OSError):
            # Entries may be gone that it had not read yet.
            return None


class Ends:
    """The sizes and last bytes of files, fetched once and kept while there is room. Used by several threads."""

    def __init__(self, lake: ObjectLake) -> None:
        self._lake = lake
        self._lock = Lock()
        self._kept: OrderedDict[str, tuple[int, bytes]] = OrderedDict()
        self._bytes = 0

    def of(self, path: str) -> tuple[int, bytes]:
        """The size of a file and its last bytes. Raises `FileNotFoundError` or `OSError`."""
        with self._lock:
            if path in self._kept:
                self._kept.move_to_end(path)
                return self._kept[path]
        end = self._lake.end(path, TAIL_BYTES)
        self._keep(path, end)
        return end

    def _keep(self, path: str, end: tuple[int, bytes]) -> None:
        with self._lock:
            if path not in self._kept:
                self._kept[path] = end
                self._bytes += len(end[1])
            while self._bytes > KEPT_BYTES_MAX:
                _, (_, tail) = self._kept.popitem(last=False)
                self._bytes -= len(tail)


def table_files(lake: LakeStore | Path) -> TableFiles:
    """The way to the files of a lake."""
    store: Any = lake_at(lake)
    return ObjectFiles(store) if isinstance(store, ObjectLake) else LocalFiles()
