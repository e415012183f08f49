"""Reading the tables without the server's own code: the Delta library names the files, pyarrow reads them."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from deltalake import DeltaTable
from pyarrow import dataset
from pyarrow.fs import S3FileSystem


@dataclass(frozen=True)
class S3Folder:
    """A folder of a bucket, `s3://bucket/prefix`, and the variables of the environment by which S3 is reached."""

    url: str
    variables: Mapping[str, str]

    def __truediv__(self, name: str) -> "S3Folder":
        return S3Folder(f"{self.url}/{name}", self.variables)

    def file_system(self) -> S3FileSystem:
        """What reads files there."""
        return S3FileSystem(
            access_key=self.variables["AWS_ACCESS_KEY_ID"],
            secret_key=self.variables["AWS_SECRET_ACCESS_KEY"],
            region=self.variables["AWS_REGION"],
            endpoint_override=self.variables["AWS_ENDPOINT_URL"],
        )


Folder = Path | S3Folder


def rows(table: Folder, columns: tuple[str, ...], projects: Collection[str] | None = None) -> Iterator[dict[str, Any]]:
    """Every row of a table of the lake, or those of some projects; instants as microseconds since 1970."""
    wanted = None if projects is None else dataset.field("project_id").isin(list(projects))
    for file in _files(table):
        for batch in file.to_batches(columns=list(columns), filter=wanted):
            yield from _plain(batch)


def _files(table: Folder) -> Iterator[Any]:
    if isinstance(table, Path):
        for uri in DeltaTable(table).file_uris():
            yield dataset.dataset(unquote(uri.removeprefix("file://")), format="parquet")
        return
    system = table.file_system()
    for uri in DeltaTable(table.url, storage_options=dict(table.variables)).file_uris():
        yield dataset.dataset(unquote(uri.removeprefix("s3://")), format="parquet", filesystem=system)


def _plain(batch: Any) -> Iterator[dict[str, Any]]:
    names = batch.schema.names
    columns = []
    for column in batch.columns:
        instant = str(column.type).startswith("timestamp")
        columns.append((column.cast("int64") if instant else column).to_pylist())
    for values in zip(*columns, strict=True):
        yield dict(zip(names, values, strict=True))
