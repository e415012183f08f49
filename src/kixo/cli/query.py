"""`kixo query`: SQL over the views `events`, `rejected`, `loads`, `apps` and `sessions`, read-only."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from kixo.cli.asking import asking, query_caps, read_sql, run
from kixo.cli.options import takes_settings
from kixo.cli.result import print_result
from kixo.cli.writing import format_of, write_result
from kixo.lake.opening import open_lake
from kixo.lake.read import require_lake
from kixo.query import Result
from kixo.settings import Settings

Format = Literal["table", "json", "csv", "parquet"]


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
    chosen = format_of(format, output, "table")
    caps = query_caps(settings, memory, seconds)
    lake = open_lake(settings)
    require_lake(lake)
    text = read_sql(sql)
    with asking(lake, caps, output) as engine:
        run(engine, caps, lambda: _show(engine.run(text), chosen, output))


def _show(result: Result, format: str, output: Path | None) -> None:
    if format == "table":
        print_result(result)
    else:
        write_result(result, format, output)
