"""Reading the tables without the server's own code: the Delta library names the files, pyarrow reads them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow.parquet as pq
from deltalake import DeltaTable


def rows(table: Path, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Every row of a table of the lake, with some of its columns; instants as microseconds since 1970."""
    for uri in DeltaTable(table).file_uris():
        with pq.ParquetFile(unquote(uri.removeprefix("file://"))) as file:
            for batch in file.iter_batches(columns=list(columns)):
                yield from _plain(batch)


def _plain(batch: Any) -> Iterator[dict[str, Any]]:
    names = batch.schema.names
    columns = []
    for column in batch.columns:
        instant = str(column.type).startswith("timestamp")
        columns.append((column.cast("int64") if instant else column).to_pylist())
    for values in zip(*columns, strict=True):
        yield dict(zip(names, values, strict=True))
