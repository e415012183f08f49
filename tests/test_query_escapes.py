"""Ways out of a query that people try: none may read, write, load, reach, change or outlast anything."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kixo.errors import QueryFailed
from kixo.lake.schema import EVENTS
from kixo.query import QueryCaps, QueryEngine, lake_snapshot, open_query
from tests.conftest import KIXO, MIB
from tests.test_query import append, event

CAPS = QueryCaps(memory_bytes_max=256 * MIB, seconds_max=30.0)
SECRET = "the secret of another file"

# Each names SECRET_FILE, ITS_FOLDER or a file to be made; by the way in that it tries.
READS = [
    "FROM read_text('SECRET_FILE')",
    "FROM read_blob('SECRET_FILE')",
    "FROM read_csv('SECRET_FILE')",
    "FROM read_csv_auto('SECRET_FILE')",
    "FROM read_single_csv_file('SECRET_FILE')",
    "FROM read_json('SECRET_FILE')",
    "FROM read_json_objects('SECRET_FILE')",
    "FROM read_ndjson('SECRET_FILE')",
    "FROM read_single_json_file('SECRET_FILE')",
    "FROM read_parquet('SECRET_FILE')",
    "FROM read_single_parquet_file('SECRET_FILE')",
    "FROM read_parquet(['SECRET_FILE'], filename = true)",
    "FROM parquet_scan('ITS_FOLDER/**')",
    "FROM parquet_metadata('SECRET_FILE')",
    "FROM parquet_file_metadata('SECRET_FILE')",
    "FROM parquet_full_metadata('SECRET_FILE')",
    "FROM parquet_kv_metadata('SECRET_FILE')",
    "FROM parquet_schema('SECRET_FILE')",
    "FROM parquet_bloom_probe('SECRET_FILE', 'a', 1)",
    "FROM read_duckdb('SECRET_FILE', table_name = 't')",
    "FROM sniff_csv('SECRET_FILE')",
    "FROM glob('ITS_FOLDER/*')",
    "FROM 'SECRET_FILE'",
    'FROM "SECRET_FILE"',
    "FROM query('FROM read_text(''SECRET_FILE'')')",
    "FROM query_table('SECRET_FILE')",
    "FROM json_execute_serialized_sql(json_serialize_sql('FROM read_text(''SECRET_FILE'')'))",
    "SELECT (SELECT content FROM read_text('SECRET_FILE'))",
    "FROM events WHERE event_name IN (SELECT content FROM read_text('SECRET_FILE'))",
    "WITH RECURSIVE t(a) AS (SELECT content FROM read_text('SECRET_FILE') UNION ALL FROM t LIMIT 1) FROM t",
    "SUMMARIZE 'SECRET_FILE'",
    "FROM (DESCRIBE 'SECRET_FILE')",
    "PIVOT 'SECRET_FILE' ON a IN (1) USING count(*)",
    "FROM read_text('file:SECRET_FILE')",
    "FROM read_text('file://SECRET_FILE')",
    "FROM read_csv('/proc/self/environ')",
    "FROM read_blob('/dev/stdin')",
    "FROM read_text('http://127.0.0.1:9/x')",
    "FROM 'https://127.0.0.1:9/x.parquet'",
    "FROM 's3://bucket/x.parquet'",
    "FROM read_parquet('hf://datasets/x/y.parquet')",
    "SELECT getenv('KIXO_PROBE')",
    "FROM pandas_scan(1)",
    "FROM arrow_scan(1, 1, 1)",
    "FROM python_arrow_scan(1, 1, 1)",
    "FROM python_map_function(FROM range(1))",
    "FROM sys",
    "FROM connection",
]
WRITES = [
    "COPY (SELECT 1) TO 'made.csv'",
    "WITH x AS (COPY (SELECT 1) TO 'made.csv') FROM x",
    "FROM (COPY (SELECT 1) TO 'made.csv')",
    "FROM query('COPY (SELECT 1) TO ''made.csv''')",
    "FROM query('SELECT 1; COPY (SELECT 1) TO ''made.csv''')",
    "SELECT 1; COPY (SELECT 1) TO 'made.csv'",
    "SELECT 1) TO 'made.csv' --",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO 'made.csv'",
    "explain/**/analyze/**/COPY (SELECT 1) TO 'made.csv'",
    "EXPLAIN EXPLAIN ANALYZE COPY (SELECT 1) TO 'made.csv'",
    "EXPORT DATABASE 'made'",
    "ATTACH 'made.db'",
    "ATTACH ':memory:' AS other",
    "WITH x AS (ATTACH 'made.db') FROM x",
    "FROM enable_logging('QueryLog', storage = 'file', storage_path = 'made')",
    "CALL enable_logging(storage = 'file', storage_config = {'path': 'made'})",
    "FROM enable_profiling(format = 'json', save_location = 'made.json')",
    "PRAGMA enable_profiling = 'json'",
    "PRAGMA profiling_output = 'made.json'",
    "FROM create_external_resource('file', 'made')",
    "FROM register_external_resource('file', 'made')",
    "WITH x AS (INSERT INTO events VALUES (1) RETURNING *) FROM x",
    "WITH x AS (DELETE FROM events RETURNING *) FROM x",
    "WITH x AS (UPDATE events SET project_id = 'x' RETURNING *) FROM x",
    "MERGE INTO events USING (SELECT 1) AS s ON true WHEN MATCHED THEN DELETE",
    "TRUNCATE events",
    "CREATE TEMP TABLE t AS SELECT 1",
    "CREATE TEMP MACRO m(x) AS x",
    "CREATE SEQUENCE s",
    "CREATE TYPE t AS ENUM ('a')",
    "CREATE SECRET (TYPE s3)",
    "CREATE PERSISTENT SECRET (TYPE s3)",
    "DROP SECRET s",
    "COMMENT ON VIEW events IS 'x'",
    "ALTER VIEW events RENAME TO e",
    "IMPORT DATABASE 'made'",
    "DETACH memory",
    "VACUUM",
    "ANALYZE",
]
SETTINGS = [
    "SET memory_limit = '100GB'",
    "SET GLOBAL enable_external_access = true",
    "SET SESSION max_execution_time = 0",
    "SET lock_configuration = false",
    "RESET enable_external_access",
    "SET VARIABLE a = 1",
    "SET allowed_paths = ['/']",
    "SET allow_unsigned_extensions = true",
    "WITH x AS (SET threads = 1) FROM x",
    "PRAGMA disable_optimizer",
    "PRAGMA temp_directory = '/tmp'",
    "INSTALL httpfs",
    "INSTALL httpfs FROM 'http://127.0.0.1:9'",
    "FORCE INSTALL httpfs",
    "LOAD httpfs",
    "LOAD './made.duckdb_extension'",
    "UPDATE EXTENSIONS",
    "FROM disable_logging()",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "DEALLOCATE p",
    "CALL pragma_version()",
    "BEGIN TRANSACTION",
    "USE memory",
]


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[QueryEngine]:
    """An engine over a lake of one event, in a folder with nothing else but a file that holds the secret."""
    append(tmp_path / "data" / "lake", EVENTS, [event()])
    (tmp_path / "secret.csv").write_text(SECRET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KIXO_PROBE", SECRET)
    with open_query(tmp_path / "data" / "lake", CAPS) as opened:
        yield opened


@pytest.mark.parametrize("sql", [*READS, *WRITES, *SETTINGS])
def test_an_escape_is_refused_in_one_sentence_and_leaves_no_trace(
    engine: QueryEngine, tmp_path: Path, sql: str
) -> None:
    with pytest.raises(QueryFailed) as refused:
        engine.run(sql.replace("SECRET_FILE", str(tmp_path / "secret.csv")).replace("ITS_FOLDER", str(tmp_path)))
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "secret.csv"]
    assert engine.run("FROM events").table().num_rows == 1


def test_a_file_of_the_lake_that_is_no_longer_in_the_snapshot_is_out_of_reach(
    engine: QueryEngine, tmp_path: Path
) -> None:
    (path,) = lake_snapshot(tmp_path / "data" / "lake")("events")
    assert engine.run(f"FROM read_parquet('{path}')").table().num_rows == 1
    copy = Path(path).with_name("copy.parquet")
    copy.write_bytes(Path(path).read_bytes())
    with pytest.raises(QueryFailed, match="outside the views"):
        engine.run(f"FROM read_parquet('{copy}')")


@pytest.mark.parametrize("view", ["duckdb_settings()", "duckdb_secrets()", "duckdb_variables()", "duckdb_logs()"])
def test_what_the_engine_tells_of_itself_holds_nothing_of_the_environment(engine: QueryEngine, view: str) -> None:
    assert SECRET not in str(engine.run(f"SELECT * FROM {view}").table().to_pylist())


# Each takes gigabytes in one value, where DuckDB does not count.
HUGE = [
    "SELECT repeat('x', 2000000000)",
    "SELECT length(repeat('x', 4000000000))",
    "SELECT range(1000000000)",
    "SELECT list_resize([1], 3000000000)",
    "SELECT printf('%2000000000d', 1)",
    "SELECT replace(repeat('x', 50000000), 'x', repeat('y', 100))",
    "SELECT repeat('x', 200000000) FROM range(100)",
    "SELECT string_agg(repeat('x', 100000), '') FROM range(1000000)",
    "WITH RECURSIVE t(n) AS (SELECT 'x' UNION ALL SELECT n || n FROM t) SELECT max(length(n)) FROM t",
    "SELECT list(range) FROM range(300000000)",
]
# Each works for minutes, most of them where DuckDB does not look at the clock.
ENDLESS = [
    "SELECT sleep_ms(600000)",
    "SELECT pg_sleep(600)",
    "SELECT levenshtein(repeat('x', 200000), repeat('y', 200000))",
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t",
    "SELECT count(*) FROM range(1000000000) a, range(1000) b WHERE a.range * b.range % 7 = 1",
]
# What the process has before the query, the cap of 64 MiB, and what may stand beside it.
PEAK_MIB_MAX = 700

MEASURE = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
print(done.stderr)
"""


def command(tmp_path: Path, sql: str, *, seconds: str) -> tuple[int, int, str]:
    """Runs `kixo query` with 64 MiB: its exit status, its peak in MiB, and its stderr."""
    append(tmp_path / "data" / "lake", EVENTS, [event()])
    arguments = ["--data-dir", str(tmp_path / "data"), "--memory", str(64 * MIB), "--seconds", seconds]
    output = ["--output", str(tmp_path / "out.csv")]
    run = [sys.executable, "-c", MEASURE, str(KIXO), "query", sql, *arguments, *output]
    first, _, stderr = subprocess.run(run, capture_output=True, text=True, check=True).stdout.partition("\n")
    status, peak = map(int, first.split())
    return status, peak, stderr.strip()


@pytest.mark.parametrize("sql", HUGE)
def test_a_value_of_gigabytes_stays_within_the_memory_of_the_command(tmp_path: Path, sql: str) -> None:
    status, peak, stderr = command(tmp_path, sql, seconds="60")
    assert (status, stderr.startswith("kixo: The query needs more than 64 MiB of memory.")) == (2, True), stderr
    assert peak < PEAK_MIB_MAX
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("sql", ENDLESS)
def test_a_query_that_cannot_be_stopped_ends_with_its_process(tmp_path: Path, sql: str) -> None:
    status, _, stderr = command(tmp_path, sql, seconds="0.5")
    assert (status, stderr.startswith("kixo: The query took more than 0.5 seconds.")) == (2, True), stderr
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
