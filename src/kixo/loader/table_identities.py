"""The identities of the rows of the events table, read back from its files."""

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kixo.identity import IDENTITY_BYTES
from kixo.lake.table import LakeTable
from kixo.loader.identities import Identities, split

COLUMNS = ("identity", "log_partition", "log_offset")
BATCH_ROWS = 262_144


def identities_beyond(table: LakeTable, version: int, positions: Mapping[int, int]) -> Iterator[Identities]:
    """The identities of all rows that came to the table after `version`, when it was at `positions`, in parts.

    A file whose name says that its rows came no later is not read; one whose name does not say is. Of the others
    come the rows at or beyond the position of their log partition; all of them, for a partition not named.
    """
    for file in table.files.values():
        if table.may_be_newer(file, version):
            with pq.ParquetFile(table.store.source(file.path)) as parquet:
                for batch in parquet.iter_batches(BATCH_ROWS, columns=list(COLUMNS)):
                    yield split(_raw(batch.column("identity"))[_beyond(batch, positions)])


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
