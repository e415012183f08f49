"""Runs a query in a DuckDB of its own: in memory, locked down, gone afterwards.

What keeps a query from doing harm, each enforced by DuckDB itself once the configuration is locked: no file can be
opened but those of the snapshot and the spill folder, nothing is loaded or installed, no setting can change, and
memory, spill and time have their caps. What is run is one SELECT as a subquery, which cannot write (`statement`).

DuckDB looks at its caps between steps, and not while one function works on one value: `repeat('x', 4000000000)` goes
past both. What bounds that is the process: see `confinement`.

A snapshot is a list of files. Compaction deletes files some minutes after it merged them, so a snapshot that is read
at once never misses one. Should one have gone all the same, a fresh snapshot is taken, once.
"""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import duckdb
import pyarrow as pa

from kixo.errors import QueryFailed
from kixo.lake.local import lake_at
from kixo.lake.objects import ObjectLake
from kixo.lake.read import open_table
from kixo.lake.schema import TABLES
from kixo.lake.store import LakeStore
from kixo.query.caps import QueryCaps, out_of_memory, overrun, stopped
from kixo.query.files import KeptViews, LocalFiles, TableFiles, table_files
from kixo.query.mistakes import mistake
from kixo.query.statement import READ_ONLY, Statement, read_only
from kixo.query.views import create_table_view, create_views, quote

Snapshot = Callable[[str], Sequence[str]]
"""The paths of the Parquet files that make up a table now, given its name; none where there is no such table yet."""

# Sorts and joins that do not fit in memory go to disk, up to this many times the memory cap.
SPILL_PER_MEMORY = 8
BATCH_ROWS = 16_384
# What reading rows can raise: through Arrow, DuckDB's errors come as OSError.
QUERY_ERRORS = (duckdb.Error, OSError)
LISTS = "SHOW TABLES lists the views, DESCRIBE events the columns of one."
# How much later than its cap a query may end before it counts as one that cannot be stopped.
OVERRUN_S = 1.0


class Result:
    """The rows of a query, as Arrow record batches. Reading them raises `QueryFailed` where a cap is reached."""

    def __init__(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
        self.schema = schema
        self._batches = batches

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self._batches

    def table(self) -> pa.Table:
        """All rows at once; for results that are known to be small."""
        return pa.Table.from_batches(list(self._batches), self.schema)


class QueryEngine:
    """Runs queries one after the other, each in its own DuckDB. `cancel` may come from another thread.

    `way` is how the files of the snapshot are opened; without one, they are files of this machine.
    `on_overrun` is called, from a thread of its own, when DuckDB is past the cap on time and still computes. Nothing
    ends it then but the end of the process.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        caps: QueryCaps,
        on_overrun: Callable[[], None] | None = None,
        batch_rows: int = BATCH_ROWS,
        *,
        way: TableFiles | None = None,
    ) -> None:
        self._snapshot = snapshot
        self._way = way or LocalFiles()
        self._caps = caps
        self._on_overrun = on_overrun
        self._batch_rows = batch_rows
        self._statement: Statement | None = None
        self._ends = 0.0
        self._spill = tempfile.TemporaryDirectory(prefix="kixo-query-")
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._files: dict[str, list[str]] = {}
        self._cancelled = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, sql: str) -> Result:
        """Starts the query; the result is valid until the next one. Raises `QueryFailed`."""
        self._cancelled = False
        self._ends = time.monotonic() + self._caps.seconds_max
        try:
            return self._start(sql)
        except QUERY_ERRORS as error:
            if self._all_there():
                raise self._failure(error) from error
        try:
            return self._start(sql)
        except QUERY_ERRORS as error:
            raise self._failure(error) from error

    def cancel(self) -> None:
        """Stops the query that runs; whoever reads its rows gets `QueryFailed`."""
        self._cancelled = True
        if self._connection is not None:
            self._connection.interrupt()

    def close(self) -> None:
        """Frees what the last query held, and its spill folder."""
        self._disconnect()
        self.remove_spill()

    def remove_spill(self) -> None:
        """Removes the files that the query has put aside; all that can be done for one that cannot be stopped."""
        self._spill.cleanup()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _start(self, sql: str) -> Result:
        self._disconnect()
        self._statement = None
        self._files = {table.name: list(self._snapshot(table.name)) for table in TABLES}
        connection = self._connection = _connect(self._caps, self._spill.name)
        self._way.admit(connection, [path for paths in self._files.values() for path in paths])
        _lock_down(connection, self._files)
        with self._watched(), _interrupt_passed_on():
            # Constants are computed as soon as the statement is bound.
            self._statement = read_only(connection, sql)
            relation = self._bind(connection, self._statement)
            if self._cancelled:
                raise stopped()
            reader = relation.to_arrow_reader(self._batch_rows)
            # The first batch is read here, where a file that has gone can still be made good.
            first = next(iter(reader), None)
        return Result(reader.schema, self._batches(first, reader))

    def _bind(self, connection: duckdb.DuckDBPyConnection, statement: Statement) -> duckdb.DuckDBPyRelation:
        try:
            return connection.sql(statement.text)
        except (duckdb.BinderException, duckdb.CatalogException):
            # A relation's error names no place. That of its plan does, and making the plan fails as this did.
            self._statement = statement.explained()
            connection.execute(self._statement.text)
            raise

    def _batches(self, first: pa.RecordBatch | None, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        batch = first
        while batch is not None:
            yield batch
            try:
                with self._watched():
                    batch = next(reader, None)
            except QUERY_ERRORS as error:
                raise self._failure(error) from error

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Calls `on_overrun` should DuckDB still be in the block when its time and a little more is over."""
        if self._on_overrun is None:
            yield
            return
        timer = threading.Timer(max(self._ends - time.monotonic(), 0) + OVERRUN_S, self._on_overrun)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _all_there(self) -> bool:
        return self._way.all_there([path for paths in self._files.values() for path in paths])

    def _failure(self, error: Exception) -> QueryFailed:
        """What went wrong, in one sentence; errors that come through Arrow are known by their text only."""
        text = str(error)
        if "exceeded maximum execution time" in text:
            return overrun(self._caps)
        if _interrupted(error):
            return stopped()
        if not self._all_there():
            return QueryFailed("Files of the tables were merged and deleted while the query ran.", "Run it again.")
        if isinstance(error, duckdb.OutOfMemoryException) or text.startswith("Out of Memory"):
            return out_of_memory(self._caps)
        if isinstance(error, duckdb.PermissionException):
            return QueryFailed("The query reaches for something outside the views.", READ_ONLY)
        sentence, place = mistake(error)
        position = None if place is None or self._statement is None else self._statement.position(place)
        return QueryFailed(f"The query failed: {sentence}.", LISTS, position)


@contextmanager
def _interrupt_passed_on() -> Iterator[None]:
    """Called from the main thread, DuckDB takes a Ctrl-C for itself and makes another error of it."""
    try:
        yield
    except RuntimeError as error:
        if "Query interrupted" in str(error):
            raise KeyboardInterrupt from error
        raise


def _interrupted(error: Exception) -> bool:
    return isinstance(error, duckdb.InterruptException) or str(error).startswith("INTERRUPT")


def _connect(caps: QueryCaps, spill: str) -> duckdb.DuckDBPyConnection:
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": f"{caps.memory_bytes_max}B",
        "max_temp_directory_size": f"{caps.memory_bytes_max * SPILL_PER_MEMORY}B",
        "temp_directory": spill,
        "max_execution_time": str(max(1, round(caps.seconds_max * 1000))),
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "allow_persistent_secrets": "false",
        "python_enable_replacements": "false",
    }
    if caps.threads:
        config["threads"] = str(caps.threads)
    return duckdb.connect(":memory:", config=config)


def _lock_down(connection: duckdb.DuckDBPyConnection, files: dict[str, list[str]]) -> None:
    """Makes the views, then takes everything else away. The time zone is set because results show it."""
    allowed = ", ".join(quote(path) for paths in files.values() for path in paths)
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET errors_as_json = true")
    connection.execute(f"SET allowed_paths = [{allowed}]")
    connection.execute("SET enable_external_access = false")
    for table in TABLES:
        connection.execute(create_table_view(table, files[table.name]))
    for statement in create_views():
        connection.execute(statement)
    connection.execute("SET lock_configuration = true")


def lake_snapshot(lake: LakeStore | Path) -> Snapshot:
    """Snapshots of the tables of a lake as they are at the call; a table that was not made yet has no files."""
    store = lake_at(lake)
    if isinstance(store, ObjectLake):
        return KeptViews(store).paths

    def paths(table: str) -> Sequence[str]:
        return open_table(store, table).paths if store.inside(table).is_table() else ()

    return paths


def open_query(lake: LakeStore | Path, caps: QueryCaps) -> QueryEngine:
    """An engine over the tables of a lake, which need not be there yet; close it after use."""
    return QueryEngine(lake_snapshot(lake), caps, way=table_files(lake))
