"""`kixo query`: SQL over the views `events`, `rejected`, `loads`, `apps` and `sessions`, read-only."""

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from kixo.cli.options import takes_settings
from kixo.cli.result import print_result
from kixo.errors import BadArgument, BadSetting
from kixo.lake.read import require_lake
from kixo.layout import Layout
from kixo.output import print_error
from kixo.query import QueryCaps, Result, open_query, out_of_memory, overrun
from kixo.query.confinement import confined
from kixo.query.write import WRITERS
from kixo.settings import Settings, resolve

FROM_STDIN = "-"
SQL_LENGTH_MAX = 1024 * 1024

Format = Literal["table", "json", "csv", "parquet"]
SUFFIXES: dict[str, Format] = {
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".csv": "csv",
    ".parquet": "parquet",
}


@takes_settings()
def query(
    settings: Settings,
    sql: Annotated[str, Parameter(help="One SELECT; - reads it from stdin.", allow_leading_hyphen=True)],
    /,
    *,
    format: Annotated[
        Format | None, Parameter(help="table, json (a line for each row), csv or parquet. [default: table]")
    ] = None,
    output: Annotated[Path | None, Parameter(help="The file to write; its suffix can name the format.")] = None,
    memory: Annotated[
        str | None, Parameter(help="Bytes of memory the query may use; default query_memory_bytes_max.")
    ] = None,
    seconds: Annotated[str | None, Parameter(help="Seconds the query may take; default query_s_max.")] = None,
) -> None:
    """Runs one query over what is stored now."""
    chosen = _format(format, output)
    caps = _caps(settings, memory, seconds)
    lake = Layout(settings.data_dir).lake
    require_lake(lake)
    text = _read_sql(sql)
    with (
        open_query(lake, caps, lambda: _give_up(engine.remove_spill, output, caps)) as engine,
        ThreadPoolExecutor(1) as thread,
        confined(caps),
    ):
        work = thread.submit(lambda: _show(engine.run(text), chosen, output))
        try:
            work.result()
        except MemoryError:
            raise out_of_memory(caps) from None
        except KeyboardInterrupt:
            # While DuckDB computes, the thread it was called from hears no signal. That is why this one waits.
            engine.cancel()
            raise


def _give_up(remove_spill: Callable[[], None], output: Path | None, caps: QueryCaps) -> None:
    """Ends the process, because the query does not end."""
    remove_spill()
    if output is not None:
        with suppress(OSError):
            _part(output).unlink()
    error = overrun(caps)
    print_error(str(error))
    sys.stderr.flush()
    os._exit(error.exit_code)


def _read_sql(argument: str) -> str:
    if argument != FROM_STDIN:
        return argument
    data = sys.stdin.buffer.read(SQL_LENGTH_MAX + 1)
    if len(data) > SQL_LENGTH_MAX:
        raise BadArgument(f"The query on stdin has more than {SQL_LENGTH_MAX} bytes.", "Send a shorter one.")
    return data.decode("utf-8", "surrogateescape")


def _format(format: Format | None, output: Path | None) -> Format:
    chosen = format or (SUFFIXES.get(output.suffix.lower(), "table") if output else "table")
    if chosen == "table" and output is not None:
        raise BadArgument(f"What format {output} is to have is not clear.", "Add --format json, csv or parquet.")
    if chosen == "parquet" and output is None and sys.stdout.isatty():
        raise BadArgument("Parquet is nothing for a terminal.", "Add --output FILE, or redirect stdout.")
    return chosen


def _caps(settings: Settings, memory: str | None, seconds: str | None) -> QueryCaps:
    """The caps of this query, each flag in place of its setting and within the same bounds."""
    flags = {
        "query_memory_bytes_max": memory or settings.query_memory_bytes_max,
        "query_s_max": seconds or settings.query_s_max,
    }
    try:
        resolved = resolve(flags, {}, {})
    except BadSetting as error:
        message = error.message.replace("--query-memory-bytes-max", "--memory").replace("--query-s-max", "--seconds")
        raise BadArgument(message, error.next_step) from None
    return QueryCaps(resolved.query_memory_bytes_max, resolved.query_s_max)


def _show(result: Result, format: Format, output: Path | None) -> None:
    if format == "table":
        print_result(result)
    elif output is None:
        sys.stdout.flush()
        WRITERS[format](result, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    else:
        _write_file(result, format, output)


def _write_file(result: Result, format: Format, output: Path) -> None:
    """Writes a file whole or not at all: it gets its name when its last row is in it."""
    part = _part(output)
    try:
        with part.open("wb") as sink:
            WRITERS[format](result, sink)
        part.replace(output)
    except OSError as error:
        raise BadArgument(f"{output} cannot be written: {error.strerror}.", "Choose another --output.") from error
    finally:
        with suppress(OSError):
            part.unlink()


def _part(output: Path) -> Path:
    return output.with_name(output.name + ".part")
