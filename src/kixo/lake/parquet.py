"""The Parquet files of the tables: how they are encoded, and the statistics that let queries skip them.

Rows come sorted by project, and a row group has few enough of them that a project's day is a few row groups: their
statistics on `project_id` let a query skip the rest. Columns whose values repeat are written with a dictionary; for
those that do not (identities, properties) building one would cost time and save nothing.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kixo.lake.commit import TableFile
from kixo.lake.store import LakeStore
from kixo.timestamp import format_us

STATISTICS = ("project_id", "timestamp", "received_at", "log_partition", "log_offset")
UNIQUE = frozenset({"identity", "event_id", "properties", "timestamp", "client_timestamp", "event", "message"})
TEXT_STATISTIC_MAX = 32


@dataclass(frozen=True)
class FileStyle:
    """How a file is written: its compression, and the rows of a row group."""

    compression: str
    level: int | None
    row_group_rows: int
    uncompressed: frozenset[str] = frozenset()

    def column_compression(self, name: str) -> str:
        """The compression of a column."""
        return "none" if name in self.uncompressed else self.compression


# Fresh files are written once and merged soon, so they cost little time; merged ones stay, so they cost little space.
# What is random hardly gets smaller: compressing it would be a fifth of the time of writing a fresh file.
FRESH = FileStyle("lz4", None, 32_768, frozenset({"identity", "event_id"}))
MERGED = FileStyle("zstd", 1, 65_536, frozenset({"identity"}))


def writer(target: Any, schema: pa.Schema, style: FileStyle) -> pq.ParquetWriter:
    """Opens a Parquet file, a path or a binary file, for writing tables of `schema`.

    Dictionary arrays are written as their values.
    """
    return pq.ParquetWriter(
        target,
        schema,
        compression={name: style.column_compression(name) for name in schema.names},
        compression_level=_levels(schema, style),
        use_dictionary=[name for name in schema.names if name not in UNIQUE],
        write_statistics=[name for name in schema.names if name in STATISTICS],
        store_schema=False,
    )


def _levels(schema: pa.Schema, style: FileStyle) -> dict[str, int] | None:
    compressed = [name for name in schema.names if name not in style.uncompressed]
    return None if style.level is None else dict.fromkeys(compressed, style.level)


def write_file(store: LakeStore, path: str, date: str, rows: pa.Table, style: FileStyle) -> TableFile:
    """Writes `rows`, without their partition column, to a new file of a table's `store`, durably."""
    with store.write(path) as sink, writer(sink.target, rows.schema, style) as file:
        file.write_table(rows, row_group_size=style.row_group_rows)
    return TableFile(path, date, sink.size_bytes, rows.num_rows, statistics(rows))


def statistics(rows: pa.Table) -> str:
    """Delta's statistics of `rows`, as JSON text: their number, and the least and greatest of some columns."""
    low: dict[str, Any] = {}
    high: dict[str, Any] = {}
    for name in STATISTICS:
        if name in rows.column_names and rows.num_rows:
            low[name], high[name] = _range(rows.column(name))
    low = {name: value for name, value in low.items() if value is not None}
    high = {name: high[name] for name in low}
    return msgspec.json.encode({"numRecords": rows.num_rows, "minValues": low, "maxValues": high}).decode()


def _range(column: pa.ChunkedArray) -> tuple[Any, Any]:
    if pa.types.is_timestamp(column.type):
        both = pc.min_max(column.cast(pa.int64())).as_py()
        return format_us(both["min"]), format_us(both["max"])
    if pa.types.is_dictionary(column.type):
        # A chunk's dictionary may hold values that none of its rows has: the range is then wider, never wrong.
        column = pa.chunked_array([chunk.dictionary for chunk in column.chunks])
    both = pc.min_max(column).as_py()
    return (None, None) if _too_long(both["min"], both["max"]) else (both["min"], both["max"])


def _too_long(*values: Any) -> bool:
    return any(isinstance(value, str) and len(value) > TEXT_STATISTIC_MAX for value in values)
