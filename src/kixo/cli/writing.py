"""Where the rows of a query go: a file, whole or not at all, or stdout."""

import sys
from contextlib import suppress
from pathlib import Path

from kixo.errors import BadArgument
from kixo.query import Result
from kixo.query.write import WRITERS

SUFFIXES = {".json": "json", ".jsonl": "json", ".ndjson": "json", ".csv": "csv", ".parquet": "parquet"}


def format_of(given: str | None, output: Path | None, default: str) -> str:
    """The format that was asked for, or that the file's name says; `default` for stdout. Raises `BadArgument`."""
    chosen = given or (SUFFIXES.get(output.suffix.lower()) if output else default)
    if chosen is None or (output is not None and chosen not in WRITERS):
        raise BadArgument(f"What format {output} is to have is not clear.", "Add --format json, csv or parquet.")
    if chosen == "parquet" and output is None and sys.stdout.isatty():
        raise BadArgument("Parquet is nothing for a terminal.", "Add --output FILE, or redirect stdout.")
    return chosen


def write_result(result: Result, format: str, output: Path | None) -> None:
    """Writes all rows in one of the formats of `WRITERS`; raises `BadArgument` where the file cannot be written."""
    if output is not None:
        _write_file(result, format, output)
        return
    sys.stdout.flush()
    WRITERS[format](result, sys.stdout.buffer)
    sys.stdout.buffer.flush()


def part_of(output: Path) -> Path:
    """Where the rows of a file stand until it is whole."""
    return output.with_name(output.name + ".part")


def _write_file(result: Result, format: str, output: Path) -> None:
    """The file gets its name when its last row is in it."""
    part = part_of(output)
    try:
        with part.open("wb") as sink:
            WRITERS[format](result, sink)
        part.replace(output)
    except OSError as error:
        raise BadArgument(f"{output} cannot be written: {error.strerror}.", "Choose another --output.") from error
    finally:
        with suppress(OSError):
            part.unlink()
