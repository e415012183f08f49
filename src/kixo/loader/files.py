"""A load's rows to files: one for each table and day, durable with their names before the commit that adds them."""

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kixo.lake.commit import TableFile
from kixo.lake.parquet import FRESH, write_file
from kixo.lake.table import LakeTable


def write_days(table: LakeTable, days: Mapping[int, pa.Table], new_id: Callable[[], str]) -> list[TableFile]:
    """Writes a file for each day (days since 1970) that has rows; durable when it returns. Raises `OSError`."""
    return [_write_day(table, day, rows, new_id()) for day, rows in days.items() if rows.num_rows]


def _write_day(table: LakeTable, day: int, rows: pa.Table, new_id: str) -> TableFile:
    date = str(np.datetime64(day, "D"))
    # The version that will add the file, so that whoever knows an earlier state of the table can tell it is new.
    path = f"date={date}/{table.version + 1:012d}-{new_id}.parquet"
    return write_file(table.store, path, date, rows, FRESH)


def by_day(rows: pa.Table, day: NDArray[np.int64], new: NDArray[np.bool_]) -> dict[int, pa.Table]:
    """The rows that are `new`, by their `day`, in the order they have."""
    if not new.any():
        return {}
    if new.all() and day.min() == day.max():
        return {int(day[0]): rows}
    places = np.flatnonzero(new)
    places = places[np.argsort(day[places], kind="stable")]
    days, starts = np.unique(day[places], return_index=True)
    parts = zip(days.tolist(), np.split(places, starts[1:]), strict=True)
    return {number: rows.take(pa.array(part)) for number, part in parts}
