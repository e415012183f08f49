"""Rows of a file: JSON lines, CSV or Parquet, each from any place on where an earlier run has left off.

A row is its columns as JSON text, whatever the file's format, so that everything after works on one form and what was
JSON stays letter by letter as it was. A line that is no row becomes a `BadRow`, and the lines after it are read.
"""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Raw, json

from kixo.decode import mend_surrogates
from kixo.errors import BadArgument

Format = Literal["json", "csv", "parquet"]
Text = bytes | Raw

# A line that is longer is no event: what the server takes at most is 10 MiB.
LINE_BYTES_MAX = 10 * 1024 * 1024
# What is shown of a line that is too long.
SHOWN_BYTES = 1000
PARQUET_ROWS = 1000
BOM = b"\xef\xbb\xbf"
NULL = b"null"

_columns = json.Decoder(dict[str, Raw]).decode
_encode = json.Encoder(decimal_format="number", enc_hook=str).encode


class Place(NamedTuple):
    """A place between two rows: bytes before it (in Parquet rows), and lines (in Parquet rows) before it."""

    offset: int = 0
    number: int = 0


class Row(NamedTuple):
    """A row: the number of its first line, from 1, its columns as JSON text, the text it was read from, its end."""

    number: int
    columns: Mapping[str, Text]
    text: bytes
    end: Place


class BadRow(NamedTuple):
    """Lines that are no row, and why."""

    number: int
    code: str
    message: str
    text: bytes
    end: Place


Rows = Iterator[Row | BadRow]


def read_rows(file: BinaryIO, format: Format, start: Place, typed: bool) -> Rows:
    """The rows from `start` on. `typed`: cells of CSV that are JSON numbers, true, false or null are those.

    Raises `BadArgument` where the file is not of that format at all.
    """
    if format == "csv":
        return _read_csv(file, start, typed)
    return _read_json(file, start) if format == "json" else _read_parquet(file, start)


def _read_json(file: BinaryIO, start: Place) -> Rows:
    if start.offset:
        file.seek(start.offset)
    end = start
    while line := file.readline(LINE_BYTES_MAX + 1):
        number, size = end.number + 1, len(line)
        if size > LINE_BYTES_MAX:
            size += _skip_line(file, line)
        end = Place(end.offset + size, number)
        if number == 1:
            line = line.removeprefix(BOM)
        if line.isspace():
            continue
        yield _json_row(number, line.rstrip(b"\r\n"), end, size)


def _skip_line(file: BinaryIO, line: bytes) -> int:
    """Reads on to the end of a line that is too long; returns how many bytes that were."""
    size = 0
    while not line.endswith(b"\n") and (line := file.readline(LINE_BYTES_MAX)):
        size += len(line)
    return size


def _json_row(number: int, line: bytes, end: Place, size: int) -> Row | BadRow:
    if size > LINE_BYTES_MAX:
        message = f"The line has {size} bytes, {LINE_BYTES_MAX} are allowed. Send less in one event."
        return BadRow(number, "too_long", message, line[:SHOWN_BYTES], end)
    if not line.isascii() and not _is_utf8(line):
        return BadRow(number, "not_utf8", "The line is not UTF-8. Save the file as UTF-8.", line, end)
    text = mend_surrogates(line) if b"\\u" in line else line
    try:
        return Row(number, _columns(text), line, end)
    except msgspec.ValidationError:
        return BadRow(
            number, "not_an_object", "The line is JSON, but not an object. Send one object a line.", line, end
        )
    except msgspec.DecodeError as error:
        return BadRow(number, "not_json", f"The line is not JSON: {error}. Mend it.", line, end)
    except RecursionError:
        return BadRow(number, "too_deep", "The line is nested too deep. Flatten it.", line, end)


def _is_utf8(text: bytes) -> bool:
    try:
        str(text, "utf-8")
    except UnicodeDecodeError:
        return False
    return True


class _TooLong(Exception):
    """A row of CSV has more bytes than any event."""


class _Lines:
    """Lines of a CSV file as its reader wants them, which remembers what was read since it was last asked.

    Iterating raises `_TooLong`; the row is read to its end with `skip` then.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._taken: list[bytes] = []
        self._size = 0

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(LINE_BYTES_MAX):
            self._taken.append(line)
            self._size += len(line)
            if self._size > LINE_BYTES_MAX:
                raise _TooLong
            yield line.decode("utf-8", "surrogateescape")

    def take(self) -> list[bytes]:
        """The lines of the row that was just read."""
        taken, self._taken, self._size = self._taken, [], 0
        return taken

    def skip(self, taken: list[bytes]) -> Place:
        """Reads on to where the quotes of the row are closed; returns how many bytes and lines it has in all.

        What stands within quotes is no row, whatever it looks like.
        """
        quotes = sum(line.count(b'"') for line in taken)
        size, lines, last = sum(map(len, taken)), sum(line.endswith(b"\n") for line in taken), taken[-1]
        while (quotes % 2 or not last.endswith(b"\n")) and (line := self._file.readline(LINE_BYTES_MAX)):
            quotes, size, lines, last = quotes + line.count(b'"'), size + len(line), lines + line.endswith(b"\n"), line
        return Place(size, lines + (not last.endswith(b"\n")))


def _read_csv(file: BinaryIO, start: Place, typed: bool) -> Rows:
    # The module's own bound on a cell is below what `properties` may have once quotes are doubled.
    csv.field_size_limit(LINE_BYTES_MAX)
    header_text = file.readline(LINE_BYTES_MAX)
    header = _header(header_text)
    end = Place(len(header_text), 1)
    if start.offset > end.offset:
        file.seek(start.offset)
        end = start
    lines = _Lines(file)
    cells = csv.reader(iter(lines), strict=True)
    while True:
        problem = None
        try:
            row = next(cells, None)
        except _TooLong:
            number, taken = end.number + 1, lines.take()
            whole = lines.skip(taken)
            end = Place(end.offset + whole.offset, end.number + whole.number)
            yield BadRow(number, "too_long", _too_long(whole), b"".join(taken)[:SHOWN_BYTES], end)
            cells = csv.reader(iter(lines), strict=True)
            continue
        except csv.Error as error:
            row, problem = [], f"The row is not CSV: {error}. Mend its quotes."
        taken = lines.take()
        if row is None and not taken:
            return
        number, end = end.number + 1, Place(end.offset + sum(map(len, taken)), end.number + len(taken))
        if problem is None and not row:
            continue
        yield _csv_row(number, header, row or [], b"".join(taken), end, typed, problem)


def _too_long(whole: Place) -> str:
    return (
        f"The row has {whole.offset} bytes in {whole.number} lines, {LINE_BYTES_MAX} bytes are allowed. "
        "Send less in one event, or close its quotes."
    )


def _header(line: bytes) -> list[str]:
    try:
        names = next(csv.reader([line.removeprefix(BOM).decode("utf-8")], strict=True), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadArgument(
            f"The first line is not the header of a CSV file: {error}.", "Save it as UTF-8 CSV."
        ) from error
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BadArgument(f"The CSV file has the column {twice[0]!r} more than once.", "Rename one of them.")
    return names


def _csv_row(
    number: int, header: list[str], cells: list[str], text: bytes, end: Place, typed: bool, problem: str | None
) -> Row | BadRow:
    if problem is not None:
        return BadRow(number, "not_csv", problem, text, end)
    if not text.isascii() and not _is_utf8(text):
        return BadRow(number, "not_utf8", "The row is not UTF-8. Save the file as UTF-8.", text, end)
    if len(cells) != len(header):
        message = f"The row has {len(cells)} cells, the header {len(header)}. Check its commas and quotes."
        return BadRow(number, "not_csv", message, text, end)
    write = _typed_cell if typed else _encode
    columns = {
        name: write(cell) for name, cell in zip(header, cells, strict=True) if cell and not (typed and cell == "null")
    }
    return Row(number, columns, text.rstrip(b"\r\n"), end)


def _typed_cell(cell: str) -> bytes:
    try:
        value = json.decode(cell)
    except ValueError:
        return _encode(cell)
    return cell.encode() if value is None or isinstance(value, bool | int | float) else _encode(cell)


def _read_parquet(file: BinaryIO, start: Place) -> Rows:
    try:
        source = pq.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise BadArgument(f"The file is not Parquet: {error}.", "Give --format json or csv.") from error
    number = 0
    for group in range(source.num_row_groups):
        rows = source.metadata.row_group(group).num_rows
        if number + rows <= start.number:
            number += rows
            continue
        for batch in source.iter_batches(PARQUET_ROWS, row_groups=[group]):
            for columns in _batch_columns(batch):
                number += 1
                if number > start.number:
                    text = _encode({name: Raw(value) for name, value in columns.items()})
                    yield Row(number, columns, text, Place(number, number))


def _batch_columns(batch: pa.RecordBatch) -> Iterator[dict[str, bytes]]:
    # Imported here: the module of queries takes time to load, and no other format needs it.
    from kixo.query.write import values_of

    names = batch.schema.names
    for row in zip(*map(values_of, batch.columns), strict=True):
        yield {name: _encode(value) for name, value in zip(names, row, strict=True) if value is not None}


def format_of(path: Path | None, given: Format | None) -> Format:
    """The format that was asked for, or that the file's name says; JSON lines for stdin. Raises `BadArgument`."""
    if given is not None or path is None:
        return given or "json"
    suffix = path.suffix.lower()
    if suffix in {".json", ".jsonl", ".ndjson"}:
        return "json"
    if suffix in {".csv", ".parquet"}:
        return "csv" if suffix == ".csv" else "parquet"
    raise BadArgument(f"What format {path} has is not clear.", "Add --format json, csv or parquet.")
