"""Queries over tables on S3: the same answers as over a folder, and nothing else to be reached."""

from collections.abc import Iterator

import pytest

from kixo.errors import QueryFailed
from kixo.lake.opening import open_lake
from kixo.lake.store import LakeStore
from kixo.query import QueryCaps, QueryEngine, lake_snapshot, open_query
from kixo.settings import Settings
from tests.contract.lake_contract import load, opened
from tests.services import S3

CAPS = QueryCaps(256 * 1024 * 1024, 60.0)


@pytest.fixture
def lake(s3: S3, monkeypatch: pytest.MonkeyPatch) -> LakeStore:
    for name, value in s3.variables.items():
        monkeypatch.setenv(name, value)
    store = open_lake(Settings(lake=s3.url("a lake")))
    table = opened(store)
    for number in range(5):
        load(table, 0, number, number + 1)
    return store


@pytest.fixture
def query(lake: LakeStore) -> Iterator[QueryEngine]:
    with open_query(lake, CAPS) as engine:
        yield engine


def rows(query: QueryEngine, sql: str) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in query.run(sql).table().to_pylist()]


def test_tables_on_s3_are_queried(query: QueryEngine) -> None:
    assert rows(query, "SELECT count(*), sum(stored) FROM loads") == [(5, 15)]
    assert rows(query, "SELECT DISTINCT date::VARCHAR FROM loads") == [("2026-04-08",)]
    assert rows(query, "SELECT count(*) FROM events") == [(0,)]


def test_a_query_sees_what_was_committed_since_the_last(lake: LakeStore, query: QueryEngine) -> None:
    assert rows(query, "SELECT count(*) FROM loads") == [(5,)]
    load(opened(lake), 0, 5, 6)
    assert rows(query, "SELECT count(*) FROM loads") == [(6,)]


REACHES = [
    "SELECT * FROM read_parquet('{url}/events/none.parquet')",
    "SELECT * FROM read_text('{url}/kixo.json')",
    "SELECT * FROM read_text('{url}/loads/_delta_log/00000000000000000000.json')",
    "SELECT * FROM glob('{url}/**')",
    "SELECT * FROM glob('{url}/loads/*/*.parquet')",
    "SELECT * FROM read_parquet('{url}/loads/*/*.parquet')",
    "SELECT * FROM read_text('s3://other-bucket/x')",
    "SELECT * FROM read_text('/proc/self/environ')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_text('http://127.0.0.1:1/x')",
    "SELECT * FROM 's3://other-bucket/x.parquet'",
    "SELECT getenv('AWS_SECRET_ACCESS_KEY')",
    "SELECT * FROM (COPY (SELECT 1) TO '{path}')",
    "COPY (SELECT 1) TO '{path}'",
]


@pytest.mark.parametrize("sql", REACHES)
def test_a_query_reaches_nothing_but_the_files_of_the_snapshot(lake: LakeStore, query: QueryEngine, sql: str) -> None:
    path = lake_snapshot(lake)("loads")[0]
    with pytest.raises(QueryFailed):
        rows(query, sql.format(url=lake.url, path=path))


def test_no_credential_is_in_what_a_query_can_read(s3: S3, query: QueryEngine) -> None:
    for source in ("duckdb_settings()", "duckdb_secrets()", "duckdb_variables()", "duckdb_views()", "duckdb_logs"):
        try:
            shown = str(rows(query, f"SELECT * FROM {source}"))
        except QueryFailed as error:
            shown = str(error)
        assert s3.variables["AWS_SECRET_ACCESS_KEY"] not in shown


def test_a_file_that_has_gone_is_made_good_by_a_new_snapshot(lake: LakeStore) -> None:
    stale = list(lake_snapshot(lake)("loads"))
    table = opened(lake)
    gone = stale[0].removeprefix(f"{lake.url}/loads/")
    table.commit("DELETE", 0, [], removed=[table.files[gone]], expected={})
    table.store.delete([gone])
    from kixo.query.files import table_files

    taken = [stale]

    def snapshot(name: str) -> list[str]:
        return taken.pop() if taken and name == "loads" else list(lake_snapshot(lake)(name))

    with QueryEngine(snapshot, CAPS, way=table_files(lake)) as engine:
        assert rows(engine, "SELECT count(*) FROM loads") == [(4,)]
