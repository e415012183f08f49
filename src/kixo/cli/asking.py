"""What the commands that run a query have in common: its text, its caps, and how it is interrupted."""

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from kixo.cli.writing import part_of
from kixo.errors import BadArgument, BadSetting
from kixo.lake.store import LakeStore
from kixo.output import print_error
from kixo.query import QueryCaps, QueryEngine, Snapshot, lake_snapshot, overrun
from kixo.query.confinement import memory_bounded
from kixo.query.files import table_files
from kixo.settings import Settings, resolve
from kixo.timestamp import parse_us

FROM_STDIN = "-"
SQL_LENGTH_MAX = 1024 * 1024


def read_sql(argument: str) -> str:
    """The query that an argument gives, or all of stdin for `-`; raises `BadArgument`."""
    if argument != FROM_STDIN:
        return argument
    data = sys.stdin.buffer.read(SQL_LENGTH_MAX + 1)
    if len(data) > SQL_LENGTH_MAX:
        raise BadArgument(f"The query on stdin has more than {SQL_LENGTH_MAX} bytes.", "Send a shorter one.")
    return data.decode("utf-8", "surrogateescape")


def read_instant(flag: str, text: str | None) -> int | None:
    """The time that a flag gives, in microseconds since 1970; raises `BadArgument`."""
    try:
        return None if text is None else parse_us(text)
    except ValueError:
        raise BadArgument(
            f"{flag} is {text!r}, not ISO 8601.", "Give a day such as 2026-04-08, or 2026-04-08T12:00:00Z."
        ) from None


def query_caps(settings: Settings, memory: str | None, seconds: str | None) -> QueryCaps:
    """The caps of a query, each flag in place of its setting and within the same bounds; raises `BadArgument`."""
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


@contextmanager
def asking(
    lake: LakeStore, caps: QueryCaps, output: Path | None, snapshot: Snapshot | None = None
) -> Iterator[QueryEngine]:
    """The engine of a process for one query, over the lake as it is or a snapshot of it.

    A query past its time that cannot be stopped ends the process.
    """
    with QueryEngine(
        snapshot or lake_snapshot(lake), caps, lambda: _give_up(engine, caps, output), way=table_files(lake)
    ) as engine:
        yield engine


def run(engine: QueryEngine, caps: QueryCaps, work: Callable[[], None]) -> None:
    """Does work with the engine within the bounds of the process; raises `QueryFailed` where they are met.

    The work is done in a thread, so that Ctrl-C is heard while DuckDB computes.
    """
    with ThreadPoolExecutor(1) as thread, memory_bounded(caps):
        running = thread.submit(work)
        try:
            running.result()
        except KeyboardInterrupt:
            # The thread that DuckDB was called from hears no signal. That is why this one waits.
            engine.cancel()
            raise


def _give_up(engine: QueryEngine, caps: QueryCaps, output: Path | None) -> None:
    """Ends the process, because the query does not end."""
    engine.remove_spill()
    if output is not None:
        with suppress(OSError):
            part_of(output).unlink()
    error = overrun(caps)
    print_error(str(error))
    sys.stderr.flush()
    os._exit(error.exit_code)
