"""The identities of the rows of the events table, read back from its files: all of them, or those of some projects.

Where several loaders share a lake, each knows the identities of the projects that come to its partitions of the log: a
*shard*. Which rows those are is told by their project alone, so it does not matter by which log they came.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kixo.identity import IDENTITY_BYTES
from kixo.lake.commit import TableFile
from kixo.lake.table import LakeTable
from kixo.loader.identities import Identities, split
from kixo.log import partition_of

COLUMNS = ("identity", "log_partition", "log_offset")
PROJECT = "project_id"
BATCH_ROWS = 262_144


class Shard(NamedTuple):
    """The identities of the projects whose `partition_of` is `number`, where there are `of` partitions."""

    number: int
    of: int


class Beyond(NamedTuple):
    """The rows that came to a table after `version`, when it was at `positions`: of a `shard`, or of all projects."""

    version: int
    positions: Mapping[int, int]
    shard: Shard | None = None


def identities_beyond(
    table: LakeTable, wanted: Sequence[Beyond], go_on: Callable[[], None] = lambda: None
) -> Iterator[tuple[int, Identities]]:
    """The identities of all rows that are wanted, in parts, each with its place in `wanted`; the table is read once.

    A file whose name says that its rows came no later is not read; one whose name does not say is. Of the others
    come the rows at or beyond the position of their log partition; all of them, for a partition not named. Shards are
    all of the same division. `go_on` is called every now and then.
    """
    for file in table.files.values():
        takers = {place: each for place, each in enumerate(wanted) if table.may_be_newer(file, each.version)}
        if takers:
            yield from _of_file(table, file, takers, go_on)


def _of_file(
    table: LakeTable, file: TableFile, takers: Mapping[int, Beyond], go_on: Callable[[], None]
) -> Iterator[tuple[int, Identities]]:
    shards = {each.shard for each in takers.values() if each.shard is not None}
    columns = [*COLUMNS, PROJECT] if shards else list(COLUMNS)
    with pq.ParquetFile(table.store.source(file.path), read_dictionary=[PROJECT] if shards else None) as parquet:
        groups = [group for group in range(parquet.num_row_groups) if _may_have(parquet.metadata, group, shards)]
        for batch in parquet.iter_batches(BATCH_ROWS, row_groups=groups, columns=columns) if groups else ():
            go_on()
            identities = split(_raw(batch.column("identity")))
            partitions = _partitions(batch, next(iter(shards)).of) if shards else None
            for place, beyond in takers.items():
                rows = _beyond(batch, beyond.positions)
                if beyond.shard is not None:
                    rows &= partitions == beyond.shard.number
                yield place, identities.at(rows)


def _may_have(metadata: pq.FileMetaData, group: int, shards: set[Shard]) -> bool:
    """Whether a row group may have rows of the shards: most are of one project, and their statistics say so."""
    if not shards:
        return True
    columns = {
        metadata.row_group(group).column(number).path_in_schema: number for number in range(len(metadata.schema))
    }
    statistics = metadata.row_group(group).column(columns[PROJECT]).statistics
    if statistics is None or not statistics.has_min_max or statistics.min != statistics.max:
        return True
    return any(partition_of(statistics.min, shard.of) == shard.number for shard in shards)


def _partitions(rows: pa.RecordBatch, of: int) -> NDArray[np.int64]:
    projects = rows.column(PROJECT)
    partitions = np.array([partition_of(project, of) for project in projects.dictionary.to_pylist()], np.int64)
    return partitions[projects.indices.to_numpy()] if len(partitions) else np.empty(0, np.int64)


def _raw(identities: pa.BinaryArray) -> NDArray[np.uint8]:
    _, _, data = identities.buffers()
    start = identities.offset * IDENTITY_BYTES
    numbers = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    return numbers[start : start + len(identities) * IDENTITY_BYTES].reshape(-1, IDENTITY_BYTES)


def _beyond(rows: pa.RecordBatch, positions: Mapping[int, int]) -> NDArray[np.bool_]:
    partitions = rows.column("log_partition").to_numpy()
    offsets = rows.column("log_offset").to_numpy()
    beyond = np.ones(rows.num_rows, np.bool_)
    for partition, position in positions.items():
        beyond &= (partitions != partition) | (offsets >= position)
    return beyond
