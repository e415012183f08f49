"""`kixo export`: events as JSON lines, CSV or Parquet, with all that `kixo send` needs to take them in again."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import pyarrow as pa
from cyclopts import Parameter

from kixo.cli.asking import asking, query_caps, read_instant, read_sql, run
from kixo.cli.options import takes_settings
from kixo.cli.writing import format_of, write_result
from kixo.errors import BadArgument
from kixo.lake.opening import open_lake
from kixo.lake.read import require_lake
from kixo.layout import Layout
from kixo.output import progress_bar
from kixo.query import QueryEngine, Result, lake_snapshot
from kixo.query.pinned import pinned
from kixo.query.selection import Selection, select
from kixo.settings import Settings

Format = Literal["json", "csv", "parquet"]
Several = tuple[str, ...]
SECONDS = "86400"
NO_SELECTION = Selection()


@takes_settings()
def export(
    settings: Settings,
    sql: Annotated[
        str | None,
        Parameter(
            help="One SELECT, instead of the flags that choose events; - reads it from stdin.",
            allow_leading_hyphen=True,
        ),
    ] = None,
    /,
    *,
    from_: Annotated[
        str | None, Parameter(name="--from", help="Only events from this time on (ISO 8601), by `timestamp`.")
    ] = None,
    to: Annotated[str | None, Parameter(help="Only events before this time (ISO 8601), by `timestamp`.")] = None,
    project: Annotated[Several, Parameter(help="Only events of this project; can be given several times.")] = (),
    environment: Annotated[Several, Parameter(help="Only this environment; likewise.")] = (),
    bundle: Annotated[Several, Parameter(help="Only this bundle; likewise.")] = (),
    platform: Annotated[Several, Parameter(help="Only this platform; likewise.")] = (),
    type: Annotated[Several, Parameter(help="Only this event type; likewise.")] = (),
    name: Annotated[Several, Parameter(help="Only this event name; likewise.")] = (),
    output: Annotated[Path | None, Parameter(help="The file to write; its suffix can name the format.")] = None,
    format: Annotated[
        Format | None, Parameter(help="json (a line for each event), csv or parquet. [default: json]")
    ] = None,
    memory: Annotated[
        str | None, Parameter(help="Bytes of memory the query may use; default query_memory_bytes_max.")
    ] = None,
    seconds: Annotated[str, Parameter(help="Seconds it may take.")] = SECONDS,
) -> None:
    """Writes events as they are stored now, in no order, row by row: memory is bounded, whatever their number."""
    chosen = format_of(format, output, "json")
    selection = Selection(
        read_instant("--from", from_), read_instant("--to", to), project, environment, bundle, platform, type, name
    )
    if sql is not None and selection != NO_SELECTION:
        raise BadArgument("A query and flags that choose events do not go together.", "Write the conditions into SQL.")
    caps = query_caps(settings, memory, seconds)
    layout = Layout(settings.data_dir)
    lake = open_lake(settings)
    require_lake(lake)
    text = None if sql is None else read_sql(sql)
    with (
        pinned(lake_snapshot(lake), layout.run) as snapshot,
        asking(lake, caps, output, snapshot) as engine,
    ):
        run(engine, caps, lambda: _write(engine, text, selection, chosen, output))


def _write(engine: QueryEngine, sql: str | None, selection: Selection, format: str, output: Path | None) -> None:
    # What a query of somebody's own yields is not counted first: that could take as long as the export.
    total = None if sql is not None else engine.run(select(selection, "count(*)")).table()[0][0].as_py()
    with progress_bar("events", total) as advance:
        result = engine.run(sql or select(selection))
        write_result(Result(result.schema, _told(result, advance)), format, output)


def _told(result: Result, advance: Callable[[float], None]) -> Iterator[pa.RecordBatch]:
    for batch in result:
        yield batch
        advance(batch.num_rows)
