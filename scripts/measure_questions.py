"""Measures what the console asks: each query of the Overview page and each ready-made question, over each span.

    .venv/bin/python -m scripts.measure_questions [--events 10000000] [--days 90] [--lake FOLDER] [--rounds 3]

A lake of made-up events (`scripts/question_traffic.py`) is written first, unless the folder holds one already; without
--lake it is a temporary one. Of each query the median round is shown: wall and CPU seconds of the process that runs it,
opening the tables included, with the caps that the settings give; then what DuckDB's profile of one more run says: rows
and MiB read from files, and the most memory.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb

from kixo.lake.schema import TABLES
from kixo.query import QueryCaps, QueryEngine, lake_snapshot, open_query
from kixo.query.questions import (
    QUESTIONS,
    SPANS,
    Scope,
    find_question,
    named_span,
    read_values,
    rejections,
    traffic,
    visits,
)
from kixo.query.views import create_table_view, create_views
from kixo.settings import Settings
from kixo.timestamp import now_us
from scripts.question_traffic import fill, streams

HOUR_US = 3_600_000_000


@dataclass(frozen=True)
class Measured:
    """What a query took: seconds of wall time and of the processor, and what it read and answered."""

    wall_s: float
    cpu_s: float
    rows_read: int
    mib_read: float
    memory_mib: float
    rows: int


def overview(scope: Scope) -> dict[str, str]:
    """The queries of the Overview page, which run side by side."""
    versions = find_question("app_versions")
    return {
        "traffic": traffic(scope),
        "visits": visits(scope),
        "rejections": rejections(scope),
        "versions": versions.sql(scope, read_values(versions.parameters, {})),
    }


def ready_made(scope: Scope) -> dict[str, str]:
    return {question.name: question.sql(scope, read_values(question.parameters, {})) for question in QUESTIONS}


def measure(engine: QueryEngine, lake: Path, sql: str, rounds: int) -> Measured:
    taken = sorted(_timed(engine, sql) for _ in range(rounds))
    wall_s, cpu_s, rows = taken[len(taken) // 2]
    profile = _profile(lake, sql)
    system = profile["system"]
    read = sum(_rows_scanned(operator) for operator in profile["operator"])
    return Measured(
        wall_s,
        statistics.median(cpu for _, cpu, _ in taken) if rounds > 2 else cpu_s,
        read,
        profile["io"]["total_bytes_read"] / 2**20,
        system["peak_buffer_memory"] / 2**20,
        rows,
    )


def _timed(engine: QueryEngine, sql: str) -> tuple[float, float, int]:
    wall, cpu = time.perf_counter(), time.process_time()
    rows = engine.run(sql).table().num_rows
    return time.perf_counter() - wall, time.process_time() - cpu, rows


def _profile(lake: Path, sql: str) -> dict[str, Any]:
    with TemporaryDirectory() as folder, duckdb.connect() as connection:
        path = Path(folder) / "profile.json"
        snapshot = lake_snapshot(lake)
        connection.execute("SET TimeZone = 'UTC'")
        for table in TABLES:
            connection.execute(create_table_view(table, list(snapshot(table.name))))
        for statement in create_views():
            connection.execute(statement)
        connection.execute("PRAGMA enable_profiling = 'json'")
        connection.execute(f"PRAGMA profiling_output = '{path}'")
        connection.sql(f"SELECT * FROM (\n{sql}\n)").to_arrow_table()
        connection.execute("PRAGMA disable_profiling")
        found: dict[str, Any] = json.loads(path.read_text())
        return found


def _rows_scanned(operator: dict[str, Any]) -> int:
    own = operator["intermediate_rows"] if operator["type"] == "TABLE_SCAN" else 0
    return int(own) + sum(_rows_scanned(child) for child in operator.get("children", []))


def show(name: str, figures: Measured) -> None:
    print(
        f"{name:32} {figures.wall_s:7.2f} {figures.cpu_s:7.2f} {figures.rows_read:12,} {figures.mib_read:8.1f} "
        f"{figures.memory_mib:8.0f} {figures.rows:6}",
        flush=True,
    )


def show_span(lake: Path, engine: QueryEngine, scope: Scope, title: str, rounds: int, *, only_pages: bool) -> None:
    print(f"\n{title:32} {'wall s':>7} {'CPU s':>7} {'rows read':>12} {'MiB read':>8} {'MiB mem':>8} {'rows':>6}")
    page = {name: measure(engine, lake, sql, rounds) for name, sql in overview(scope).items()}
    for name, figures in page.items():
        show(f"  {name}", figures)
    total = [sum(getattr(figures, member) for figures in page.values()) for member in ("wall_s", "cpu_s")]
    print(f"{'Overview, one after the other':32} {total[0]:7.2f} {total[1]:7.2f}")
    for name, sql in () if only_pages else ready_made(scope).items():
        show(name, measure(engine, lake, sql, rounds))


@contextmanager
def lake_of(chosen: Path | None, events: int, days: int) -> Iterator[tuple[Path, int]]:
    """A lake in a folder, filled unless it is there, and when its last day ends."""
    with TemporaryDirectory() as temporary:
        folder = chosen or Path(temporary)
        note = folder / "end_us"
        if not note.exists():
            end_us = now_us() // HOUR_US * HOUR_US
            started = time.perf_counter()
            written = fill(folder / "lake", events, days, end_us)
            print(f"{written:,} events written in {time.perf_counter() - started:.0f} s.")
            note.write_text(str(end_us))
        yield folder / "lake", int(note.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000_000, help="of the project that is asked about")
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--lake", type=Path, help="a folder that keeps the lake for the next time")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--span", action="append", choices=[span.name for span in SPANS])
    parser.add_argument("--pages", action="store_true", help="the Overview page alone")
    chosen = parser.parse_args()
    asked = streams(chosen.events)[0]
    settings = Settings()
    caps = QueryCaps(settings.query_memory_bytes_max, settings.query_s_max)
    with lake_of(chosen.lake, chosen.events, chosen.days) as (lake, end_us), open_query(lake, caps) as engine:
        for span in SPANS:
            if not chosen.span or span.name in chosen.span:
                scope = Scope(asked.project_id, asked.environment, named_span(span.name, end_us))
                show_span(lake, engine, scope, span.title, chosen.rounds, only_pages=chosen.pages)


if __name__ == "__main__":
    main()
