"""Results as files and streams: JSON lines, CSV, Parquet; never more than one batch of rows in memory.

json     one object a line. Instants are ISO 8601 in UTC with six fraction digits, binary is hexadecimal, text stays
         text (`properties` is a string that holds JSON), decimals and large integers are numbers, NaN is null.
csv      RFC 4180 with a header line. As json, but lists and structs are JSON text and null is an empty field.
parquet  the columns with their types, compressed with zstd.

`write_answer` writes the first rows only, as `kixo.query.answer` describes it.
"""

import csv
import io
from collections.abc import Callable, Iterator
from itertools import chain
from typing import BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kixo.errors import QueryFailed
from kixo.query.engine import Result

_encode = msgspec.json.Encoder(decimal_format="number", enc_hook=str).encode


def write_json(result: Result, sink: BinaryIO) -> None:
    """Writes each row as one line of JSON."""
    names = result.schema.names
    for rows in row_batches(result):
        sink.write(b"".join(_encode(dict(zip(names, row, strict=True))) + b"\n" for row in rows))


def write_csv(result: Result, sink: BinaryIO) -> None:
    """Writes a header and the rows as RFC 4180 says."""
    text = io.TextIOWrapper(sink, "utf-8", newline="")
    try:
        writer = csv.writer(text)
        writer.writerow(result.schema.names)
        for rows in row_batches(result):
            writer.writerows([cell_text(value) for value in row] for row in rows)
        text.flush()
    finally:
        text.detach()


def write_parquet(result: Result, sink: BinaryIO) -> None:
    """Writes a Parquet file; raises `QueryFailed` where it cannot hold a column's type."""
    try:
        with pq.ParquetWriter(sink, result.schema, compression="zstd") as writer:
            for batch in result:
                writer.write_batch(batch)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise QueryFailed(f"The result cannot be Parquet: {error}.", "Cast the column to VARCHAR.") from error


WRITERS: dict[str, Callable[[Result, BinaryIO], None]] = {
    "json": write_json,
    "csv": write_csv,
    "parquet": write_parquet,
}


def write_answer(result: Result, sink: BinaryIO, rows_max: int, bytes_max: int, elapsed_s: Callable[[], float]) -> None:
    """Writes an answer of at most so many rows, and so many bytes of rows."""
    columns = [{"name": field.name, "type": str(field.type)} for field in result.schema]
    sink.write(b'{"columns":' + _encode(columns) + b',"rows":[')
    truncated = _write_rows(result, sink, rows_max, bytes_max)
    sink.write(b'],"truncated":' + _encode(truncated) + b',"seconds":' + _encode(round(elapsed_s(), 6)) + b"}")


def _write_rows(result: Result, sink: BinaryIO, rows_max: int, bytes_max: int) -> bool:
    """Writes the rows within the bounds; returns whether there are more."""
    written = 0
    for number, row in enumerate(chain.from_iterable(row_batches(result))):
        encoded = _encode(row) if number == 0 else b"," + _encode(row)
        written += len(encoded)
        if number == rows_max or written > bytes_max:
            return True
        sink.write(encoded)
    return False


def row_batches(result: Result) -> Iterator[list[tuple[object, ...]]]:
    """The rows as tuples of Python values, batch by batch; instants and binary are text."""
    for batch in result:
        yield list(zip(*map(_values, result.schema.names, batch.columns), strict=True))


def _values(name: str, column: pa.Array) -> list[object]:
    try:
        return values_of(column)
    except (OverflowError, ValueError) as error:
        # Years beyond 9999, in what is no column of ours.
        raise QueryFailed(
            f"The column {name!r} has a value that cannot be written: {error}.", "Cast the column to VARCHAR."
        ) from error


def cell_text(value: object) -> str | None:
    """A value as it stands in a cell; None stays None."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | list | dict | tuple):
        return _encode(value).decode()
    return str(value)


def values_of(column: pa.Array) -> list[object]:
    """The values of a column; Arrow makes text of instants four times as fast as Python does."""
    if pa.types.is_timestamp(column.type):
        zone = "Z" if column.type.tz else ""
        column = pc.strftime(column, format=f"%Y-%m-%dT%H:%M:%S{zone}")
    values: list[object] = column.to_pylist()
    if pa.types.is_binary(column.type):
        return [value.hex() if isinstance(value, bytes) else None for value in values]
    return values
