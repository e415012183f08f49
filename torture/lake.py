"""Reading the tables without the server's own code: the Delta library names the files, pyarrow reads them."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from deltalake import DeltaTable
from pyarrow import dataset


def rows(table: Path, columns: tuple[str, ...], projects: Collection[str] | None = None) -> Iterator[dict[str, Any]]:
    """Every row of a table of the lake, or those of some projects; instants as microseconds since 1970."""
    wanted = None if projects is None else dataset.field("project_id").isin(list(projects))
    for uri in DeltaTable(table).file_uris():
        file = dataset.dataset(unquote(uri.removeprefix("file://")), format="parquet")
        for batch in file.to_batches(columns=list(columns), filter=wanted):
            yield from _plain(batch)


def _plain(batch: Any) -> Iterator[dict[str, Any]]:
    names = batch.schema.names
    columns = []
    for column in batch.columns:
        instant = str(column.type).startswith("timestamp")
        columns.append((column.cast("int64") if instant else column).to_pylist())
    for values in zip(*columns, strict=True):
        yield dict(zip(names, values, strict=True))
