"""Apache Spark reads the tables as they are, and finds in them what DuckDB finds."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kixo.lake.read import open_table
from kixo.lake.schema import TABLES, Table
from kixo.query import QueryCaps, open_query
from services.errors import Missing
from services.spark import DELTA_SETTINGS, DELTA_VERSION, SPARK_VERSION, Spark, environment, require_spark
from tests.loading import NOW_US, Setting, as_sent, event, judged, wait_for
from tests.services import missing

PROGRAM = Path(__file__).with_name("spark_answers.py")
PAGE = (Path(__file__).parent.parent / "docs" / "engines.md").read_text("utf-8")
CAPS = QueryCaps(memory_bytes_max=512 * 1024 * 1024, seconds_max=60.0)
SPARK_S_MAX = 300
PROJECTS, DAYS, LOADS_EACH_DAY = ("kx_proj_a", "kx_proj_b"), 3, 8
MINUTE_US, DAY_US = 60_000_000, 86_400_000_000
ODD: tuple[dict[str, Any], ...] = (
    {"price": 12.34, "text": 'ünï "quoted" \\ 🎈', "nested": {"a": [1, None, {"b": []}]}},
    {"price": -0.5, "nul": "a\x00b", "": "no name"},
    {"price": "7.25"},
    {"price": None, "big": 10**30},
    {},
)
# How each of them says the same of a column of some type, in values that JSON has; all others are alike in both.
SAID = {
    "duckdb": {"timestamp": "epoch_us({})", "binary": "hex({})", "date32": "CAST({} AS VARCHAR)"},
    "spark": {"timestamp": "unix_micros({})", "binary": "hex({})", "date32": "CAST({} AS STRING)"},
}
PRICE = {
    "duckdb": "TRY_CAST(json_extract_string(properties, '$.price') AS DOUBLE)",
    "spark": "TRY_CAST(get_json_object(properties, '$.price') AS DOUBLE)",
}

Rows = list[list[Any]]


def requests(day: int, number: int, project: str) -> Iterator[dict[str, Any]]:
    """The events of a request: some with ids of their own, at odd microseconds, of all types, with odd properties."""
    kinds = ("tap", "custom", "Ünknown type")
    for index, properties in enumerate((*ODD, {"price": 1.25, "day": day, "number": number})):
        microsecond = (number * 7919 + index * 101) % 1_000_000
        yield event(
            None if index == 4 else f"{day}-{number}-{index}",
            properties=properties,
            event_type=kinds[index % 3],
            device_id=f"device {project} {index % 4}",
            timestamp=f"2026-04-0{6 + day}T1{number}:59:59.{microsecond:06d}Z",
        )


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some days of two projects: copies, rejected events, files that were merged, and checkpoints."""
    setting = Setting(tmp_path_factory.mktemp("lake"), compaction_files_min=4, checkpoint_commits=5)
    loader = setting.loader()
    for day in range(DAYS):
        for number in range(LOADS_EACH_DAY):
            at_us = setting.clock.now_us = NOW_US + (day - 1) * DAY_US + number * MINUTE_US
            for project in PROJECTS:
                sent = as_sent(*requests(day, number, project), project=project, received_at_us=at_us)
                for frame in (sent, sent, judged({0: event(f"j{day}{number}")}, [1, 2], project, at_us)):
                    setting.log.append(frame)
            loader.run_once()
    wait_for(lambda: len(open_table(setting.lake, "events").paths) < DAYS * LOADS_EACH_DAY, loader)
    loader.close()
    return setting.lake


@pytest.fixture(scope="module")
def spark() -> Spark:
    try:
        return require_spark()
    except Missing as error:
        return missing(error)


def every_row(engine: str, table: Table) -> str:
    """The question for all rows of a table, in values that JSON has."""
    said = SAID[engine]
    columns = ", ".join(said.get(column.type.partition("[")[0], "{}").format(column.name) for column in table.columns)
    return f"SELECT {columns} FROM {table.name} ORDER BY log_partition, {_order(table)}"


def _order(table: Table) -> str:
    return "end_offset, project_id" if table.name == "loads" else "log_offset, log_index"


def totals(engine: str) -> str:
    """Counts, sums, extremes and distinct values of the events, by day and type."""
    instant = SAID[engine]["timestamp"]
    return f"""
        SELECT CAST(date AS VARCHAR(10)) AS day, event_type, count(*), sum({PRICE[engine]}), count(DISTINCT device_id),
            {instant.format("min(timestamp)")}, {instant.format("max(timestamp)")}, count(event_id)
        FROM events GROUP BY date, event_type ORDER BY day, event_type"""


def of_the_page(engine: str) -> str:
    """The question that the page shows, with instants as numbers."""
    (sql,) = re.findall(r"```sql\n(SELECT project_id.*?)```", PAGE, re.DOTALL)
    first, last = (SAID[engine]["timestamp"].format(name) for name in ("first_seen", "last_seen"))
    return f"SELECT project_id, platform, bundle_id, {first}, {last}, events, devices FROM ({sql}) ORDER BY project_id"


def questions(engine: str) -> dict[str, str]:
    rows = {table.name: every_row(engine, table) for table in TABLES}
    return {"totals": totals(engine), "page": of_the_page(engine), **rows}


@pytest.fixture(scope="module")
def answers(lake: Path, spark: Spark) -> dict[str, Any]:
    """What Spark answers; started once, as it takes its time."""
    settings = {"spark.jars": ",".join(map(str, spark.jars)), "spark.sql.session.timeZone": "UTC", **DELTA_SETTINGS}
    done = subprocess.run(
        [spark.python, PROGRAM, str(lake)],
        input=json.dumps({"settings": settings, "questions": questions("spark")}),
        capture_output=True,
        text=True,
        timeout=SPARK_S_MAX,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr[-4000:]
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def duckdb_rows(lake: Path, sql: str) -> Rows:
    with open_query(lake, CAPS) as query:
        return [list(row.values()) for row in query.run(sql).table().to_pylist()]


def test_spark_works_in_processes_of_its_own(answers: dict[str, Any]) -> None:
    assert answers["executors"] == 2


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_spark_finds_the_same_rows_in_every_column(lake: Path, answers: dict[str, Any], table: Table) -> None:
    expected = duckdb_rows(lake, every_row("duckdb", table))
    assert len(expected) >= DAYS * LOADS_EACH_DAY
    assert answers[table.name] == expected


def test_spark_counts_and_sums_the_same(lake: Path, answers: dict[str, Any]) -> None:
    expected = duckdb_rows(lake, totals("duckdb"))
    assert len(expected) >= 3 * DAYS
    # Sums of doubles depend on their order.
    assert [row[:3] + row[4:] for row in answers["totals"]] == [row[:3] + row[4:] for row in expected]
    assert [row[3] for row in answers["totals"]] == pytest.approx([row[3] for row in expected], rel=1e-12)


def test_the_question_of_the_page_has_the_same_answer(lake: Path, answers: dict[str, Any]) -> None:
    expected = duckdb_rows(lake, of_the_page("duckdb"))
    assert [row[0] for row in expected] == list(PROJECTS)
    assert answers["page"] == expected


def test_the_page_names_the_versions_and_settings_that_were_tried() -> None:
    assert f"pip install pyspark=={SPARK_VERSION}\n" in PAGE
    assert f'"io.delta:delta-spark_2.13:{DELTA_VERSION}"' in PAGE
    assert all(f'"{name}", "{value}"' in PAGE for name, value in DELTA_SETTINGS.items())


def test_what_spark_reads_was_merged_and_has_checkpoints(lake: Path) -> None:
    assert list((lake / "events" / "_delta_log").glob("*.checkpoint.parquet"))
    assert len(open_table(lake, "events").paths) < DAYS * LOADS_EACH_DAY
