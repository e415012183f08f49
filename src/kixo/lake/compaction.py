"""Merging the small files of a day into larger ones, so that a project's day stays few row groups.

Every load adds a file to each day it touches. Files are of a *tier* by size; when enough of one tier are there, or
enough for one full file, they become one file of the next. So a row is written again once per tier, three times at
most until its file is full and left alone, and a day never has more than `files_min` files of each tier.

Rows are ordered by project and environment, and keep their order of arrival within: that costs a tenth of sorting by
time, and arrival is nearly that. A merge holds its input in memory once, a column at a time being copied. It may run
in a thread of its own while loads go on: only merges take files away, so its input stays. Its commit says that it
changes no data. The merged files stay on disk for readers until `kixo.lake.sweep` finds them old enough; so their
time of modification is set to now, which is when they stopped being needed.
"""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kixo.lake.commit import TableFile
from kixo.lake.parquet import MERGED, statistics, writer
from kixo.lake.schema import Table
from kixo.lake.store import LakeStore

TIER_FACTOR = 32
SMALLEST_TIER_BYTES = 64 * 1024
SORT_COLUMNS = ("project_id", "environment")
# Few values: held as numbers while a merge is in memory.
FEW_VALUES = ("project_id", "environment", "bundle_id", "platform", "event_type", "clock_rule", "code", "field")
# Arrow takes 280 bytes for an event with 100 bytes of properties, so a merge takes about 250 MB.
ROWS_MAX = 600_000
BUSY_FACTOR = 4


@dataclass(frozen=True)
class Bounds:
    """When files are merged: `files_min` of one tier, or as many as make a file of `bytes_max` or `rows_max`."""

    files_min: int
    bytes_max: int
    rows_max: int = ROWS_MAX

    def is_full(self, size_bytes: int, rows: int) -> bool:
        """Whether a file of that size is left alone."""
        return size_bytes >= self.bytes_max or rows >= self.rows_max


def choose(files: Iterable[TableFile], bounds: Bounds, *, busy: bool = False) -> list[TableFile]:
    """The files of one day and tier that should become one now; empty where there are none such.

    While the loader is `busy` catching up, merges wait until there are `BUSY_FACTOR` times as many files.
    """
    files_min = bounds.files_min * (BUSY_FACTOR if busy else 1)
    groups: dict[tuple[str, int], list[TableFile]] = {}
    for file in files:
        if not bounds.is_full(file.size_bytes, file.rows):
            groups.setdefault((file.date, _tier(file.size_bytes)), []).append(file)
    for group in groups.values():
        chosen = _within(group, bounds)
        makes_full = bounds.is_full(sum(f.size_bytes for f in chosen), sum(f.rows for f in chosen))
        if len(chosen) > 1 and (len(group) >= files_min or (makes_full and not busy)):
            return chosen
    return []


def _tier(size_bytes: int) -> int:
    tier = 0
    while size_bytes >= SMALLEST_TIER_BYTES:
        size_bytes //= TIER_FACTOR
        tier += 1
    return tier


def _within(files: list[TableFile], bounds: Bounds) -> list[TableFile]:
    """The oldest files that together make a full one, at least two; all files where they do not."""
    files = sorted(files, key=_age)
    size_bytes = rows = 0
    for number, file in enumerate(files):
        size_bytes, rows = size_bytes + file.size_bytes, rows + file.rows
        if bounds.is_full(size_bytes, rows) and number:
            return files[: number + 1]
    return files


def _age(file: TableFile) -> str:
    # Names begin with the data version, in a fixed number of digits.
    return file.path


def merge(store: LakeStore, table: Table, files: list[TableFile], new_id: str) -> TableFile:
    """Writes one file with the rows of `files`, clustered, durably. Raises `OSError`."""
    with ExitStack() as stack:
        rows = _clustered(table, [stack.enter_context(_open(store.whole(file.path))) for file in files])
    path = f"date={files[0].date}/{merged_name(files, new_id)}"
    with store.write(path) as sink, writer(sink.target, table.file_schema, MERGED) as parquet:
        for start in range(0, rows.num_rows, MERGED.row_group_rows):
            part = rows.slice(start, MERGED.row_group_rows)
            parquet.write_table(part.cast(table.file_schema))
            # A little at a time: the log's own syncs would wait behind one large one.
            sink.sync()
    merged = TableFile(path, files[0].date, sink.size_bytes, rows.num_rows, statistics(rows))
    del rows, part
    # Merges are seldom: what they took would stand idle until the next.
    pa.default_memory_pool().release_unused()
    return merged


def merged_name(files: list[TableFile], new_id: str) -> str:
    """The name of a merged file: it says the latest data version of its rows, or none where one is not known."""
    versions = [file.data_version for file in files]
    known = [version for version in versions if version is not None]
    front = f"{max(known):012d}" if len(known) == len(versions) else "unknown"
    return f"{front}-{new_id}.parquet"


def _open(source: Any) -> pq.ParquetFile:
    few = [name for name in FEW_VALUES if name in pq.read_schema(source).names]
    # Buffering ahead would hold the compressed columns too.
    return pq.ParquetFile(source, read_dictionary=few, pre_buffer=False)


def _clustered(table: Table, inputs: list[pq.ParquetFile]) -> pa.Table:
    owners = [_column(inputs, name).combine_chunks() for name in SORT_COLUMNS if name in table.file_schema.names]
    order = pa.array(np.lexsort([_ranks(owner) for owner in reversed(owners)]))
    # One after the other: of all but one column, there is one copy in memory.
    columns = [_column(inputs, name).combine_chunks().take(order) for name in table.file_schema.names]
    return pa.Table.from_arrays(columns, names=table.file_schema.names)


def _column(inputs: list[pq.ParquetFile], name: str) -> pa.ChunkedArray:
    chunks = [chunk for file in inputs for chunk in file.read(columns=[name], use_threads=False).column(0).chunks]
    return pa.chunked_array(chunks).unify_dictionaries() if chunks else pa.chunked_array([], pa.string())


def _ranks(column: pa.Array) -> NDArray[np.int16 | np.int32]:
    """The places of a column's values in their order; small numbers, which NumPy sorts in linear time."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    ranks = np.argsort(np.argsort(np.array(column.dictionary.to_pylist(), object)))
    numbers = np.asarray(column.indices.to_numpy(zero_copy_only=False))
    small: NDArray[np.int16 | np.int32] = ranks.astype(np.int16 if len(ranks) < 2**15 else np.int32)
    ranked: NDArray[np.int16 | np.int32] = small[numbers]
    return ranked
