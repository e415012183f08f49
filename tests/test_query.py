import csv
import io
import json
import sys
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from kixo.cli.query import query as query_command
from kixo.errors import BadArgument, DataFolderError, KixoError, QueryFailed
from kixo.lake.schema import EVENTS, LOADS, REJECTED, TABLES, Table
from kixo.query import QueryCaps, QueryEngine, lake_snapshot, open_query
from kixo.query.views import COMPUTED
from kixo.query.write import write_csv, write_json, write_parquet

CAPS = QueryCaps(memory_bytes_max=256 * 1024 * 1024, seconds_max=30.0)
NOON = datetime(2026, 4, 8, 12, tzinfo=UTC)
ENDLESS = "SELECT count(*) FROM range(1000000000) a, range(1000) b WHERE a.range * b.range % 7 = 1"


def event(number: int = 0, **members: Any) -> dict[str, Any]:
    """A row of `events`; `at` is its time."""
    at = members.pop("at", NOON)
    return {
        "date": at.date(),
        "project_id": "kx_proj_a",
        "environment": "production",
        "bundle_id": "com.example.app",
        "platform": "ios",
        "event_type": "custom",
        "event_name": "Something",
        "device_id": "d_1",
        "session_id": "s_1",
        "timestamp": at,
        "client_timestamp": at,
        "sent_at": None,
        "received_at": at,
        "clock_rule": "none",
        "event_id": None,
        "identity": number.to_bytes(16, "big"),
        "properties": "{}",
        "log_partition": 0,
        "log_offset": number,
        "log_index": 0,
        **members,
    }


def append(lake: Path, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Adds rows to a table of the lake, making it if need be."""
    write_deltalake(
        lake / table.name, pa.Table.from_pylist(list(rows), table.schema), mode="append", partition_by="date"
    )


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "data" / "lake"


@pytest.fixture
def engine(lake: Path) -> Iterator[QueryEngine]:
    with open_query(lake, CAPS) as opened:
        yield opened


def rows(engine: QueryEngine, sql: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = engine.run(sql).table().to_pylist()
    return found


def value(engine: QueryEngine, sql: str) -> Any:
    (row,) = rows(engine, sql)
    (found,) = row.values()
    return found


def refusal(engine: QueryEngine, sql: str) -> str:
    with pytest.raises(QueryFailed) as caught:
        engine.run(sql).table()
    return str(caught.value)


class TestViews:
    def test_a_lake_that_is_not_there_has_every_view_with_its_columns_and_no_rows(self, engine: QueryEngine) -> None:
        for table in TABLES:
            result = engine.run(f"SELECT * FROM {table.name}").table()
            assert result.num_rows == 0
            assert result.schema.names == table.schema.names
            assert result.schema.types == table.schema.types
        for view in COMPUTED:
            assert engine.run(f"SELECT * FROM {view.name}").schema.names == [name for name, _ in view.columns]

    def test_a_full_table_has_the_columns_of_an_empty_one(self, engine: QueryEngine, lake: Path) -> None:
        append(lake, EVENTS, [event()])
        result = engine.run("SELECT * FROM events").table()
        assert (result.schema.names, result.schema.types) == (EVENTS.schema.names, EVENTS.schema.types)
        assert result.to_pylist() == [event()]

    def test_a_table_of_the_lake_that_is_empty_is_an_empty_view(self, engine: QueryEngine, lake: Path) -> None:
        append(lake, REJECTED, [])
        assert value(engine, "SELECT count(*) FROM rejected") == 0

    def test_each_query_sees_what_was_committed_before_it(self, engine: QueryEngine, lake: Path) -> None:
        append(lake, EVENTS, [event(1)])
        assert value(engine, "SELECT count(*) FROM events") == 1
        append(lake, EVENTS, [event(2)])
        assert value(engine, "SELECT count(*) FROM events") == 2

    def test_date_leaves_files_of_other_days_unopened(self, engine: QueryEngine, lake: Path) -> None:
        append(lake, EVENTS, [event(day, at=NOON + timedelta(days=day)) for day in range(5)])
        plan = rows(engine, "EXPLAIN ANALYZE SELECT event_name FROM events WHERE date = '2026-04-10'")[0]
        assert "Scanning Files: 1/5" in plan["explain_value"]

    def test_instants_are_in_utc(self, engine: QueryEngine, lake: Path) -> None:
        append(lake, EVENTS, [event()])
        assert value(engine, "SELECT timestamp::VARCHAR FROM events") == "2026-04-08 12:00:00+00"
        assert value(engine, "SELECT date_trunc('day', timestamp) FROM events") == datetime(2026, 4, 8, tzinfo=UTC)

    def test_an_app_is_a_platform_and_bundle_of_a_project(self, engine: QueryEngine, lake: Path) -> None:
        hour = timedelta(hours=1)
        found = [
            event(1),
            event(2, at=NOON + hour, device_id="d_2", environment="staging"),
            event(3, platform="web"),
            event(4, project_id="kx_proj_b"),
        ]
        append(lake, EVENTS, found)
        apps = rows(engine, "SELECT * FROM apps ORDER BY project_id, platform")
        assert [(app["project_id"], app["platform"], app["events"]) for app in apps] == [
            ("kx_proj_a", "ios", 2),
            ("kx_proj_a", "web", 1),
            ("kx_proj_b", "ios", 1),
        ]
        assert (apps[0]["first_seen"], apps[0]["last_seen"], apps[0]["devices"]) == (NOON, NOON + hour, 2)


class TestSessions:
    def session(self, lake: Path, minutes: Sequence[float], **members: Any) -> None:
        append(lake, EVENTS, [event(n, at=NOON + timedelta(minutes=m), **members) for n, m in enumerate(minutes)])

    def test_thirty_idle_minutes_end_a_session_and_less_does_not(self, engine: QueryEngine, lake: Path) -> None:
        self.session(lake, [0, 29.999, 59.998, 89.998, 90])
        found = rows(engine, "SELECT session_number, events, seconds, started_at, ended_at FROM sessions ORDER BY 1")
        assert [(row["session_number"], row["events"]) for row in found] == [(1, 3), (2, 2)]
        assert found[0]["seconds"] == pytest.approx(59.998 * 60)
        assert found[0]["started_at"] == NOON
        assert found[1]["ended_at"] == NOON + timedelta(minutes=90)

    def test_events_at_one_instant_are_in_one_session(self, engine: QueryEngine, lake: Path) -> None:
        self.session(lake, [0] * 50 + [40] * 50)
        found = rows(engine, "SELECT session_number, events, seconds FROM sessions ORDER BY 1")
        assert [tuple(row.values()) for row in found] == [(1, 50, 0.0), (2, 50, 0.0)]

    @pytest.mark.parametrize("member", ["project_id", "environment", "bundle_id", "platform", "device_id"])
    def test_the_same_session_id_elsewhere_is_another_session(
        self, engine: QueryEngine, lake: Path, member: str
    ) -> None:
        append(lake, EVENTS, [event(1), event(2, **{member: "other"})])
        assert value(engine, "SELECT count(*) FROM sessions") == 2

    @pytest.mark.parametrize(
        ("types", "expected"),
        [
            (["tap"], (0, 0, True)),
            (["screen_view", "tap", "click"], (1, 0, True)),
            (["screen_view", "screen_view"], (2, 0, False)),
            (["screen_view", "page_view"], (1, 1, False)),
            (["page_view"], (0, 1, True)),
        ],
    )
    def test_a_bounce_saw_at_most_one_screen_or_page(
        self, engine: QueryEngine, lake: Path, types: list[str], expected: tuple[int, int, bool]
    ) -> None:
        append(lake, EVENTS, [event(n, event_type=kind) for n, kind in enumerate(types)])
        (row,) = rows(engine, "SELECT screens, pages, bounce FROM sessions")
        assert tuple(row.values()) == expected

    def test_a_session_goes_on_over_midnight(self, engine: QueryEngine, lake: Path) -> None:
        midnight = datetime(2026, 4, 9, tzinfo=UTC)
        append(lake, EVENTS, [event(n, at=midnight + timedelta(minutes=n - 2)) for n in range(5)])
        assert value(engine, "SELECT events FROM sessions") == 5
        assert value(engine, "SELECT events FROM sessions_between('2026-04-08', '2026-04-08')") == 5
        assert rows(engine, "FROM sessions_between('2026-04-09', '2026-04-09')") == []

    def test_sessions_between_days_reads_those_days_and_one_on_either_side(
        self, engine: QueryEngine, lake: Path
    ) -> None:
        append(lake, EVENTS, [event(day, at=NOON + timedelta(days=day)) for day in range(9)])
        plan = rows(engine, "EXPLAIN ANALYZE SELECT * FROM sessions_between('2026-04-12', '2026-04-12')")[0]
        assert "Scanning Files: 3/9" in plan["explain_value"]


HOSTILE = {
    "NUL": r'{"a":"\u0000","b":1}',
    "NUL in a name": r'{"\u0000":"x","b":1}',
    "beyond a double": '{"a":1e999,"b":1}',
    "below a double": '{"a":-1e999,"b":1}',
    "400 digits": '{"a":' + "9" * 400 + ',"b":1}',
    "400 fraction digits": '{"a":0.' + "1" * 400 + ',"b":1}',
    "a name twice": '{"a":1,"a":2,"b":1}',
    "nested 100 deep": '{"a":' + "[" * 99 + "]" * 99 + ',"b":1}',
    "over lines": '{\r\n\t"a" : 1 ,\n "b" : 1 }',
    "an emoji as escapes": r'{"a":"\ud83d\ude00","b":1}',
    "60,000 characters": '{"a":"' + "x" * 60_000 + '","b":1}',
}


class TestProperties:
    @pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
    @pytest.mark.parametrize(
        "expression",
        [
            "properties->>'$.a'",
            "properties->'$.a'",
            "properties->>'a'",
            "json_extract_string(properties, '$.a')",
            "try_cast(properties->>'$.a' AS DOUBLE)",
            "properties::JSON",
            "json_keys(properties)",
            "json_type(properties, '$.a')",
            "json_structure(properties)",
            'json_transform(properties, \'{"a": "DOUBLE"}\')',
            "properties LIKE '%x%'",
        ],
    )
    def test_no_stored_text_breaks_an_expression(
        self, engine: QueryEngine, lake: Path, text: str, expression: str
    ) -> None:
        append(lake, EVENTS, [event(1, properties=text), event(2)])
        found = rows(engine, f"SELECT properties->>'$.b' AS b, {expression} AS a FROM events ORDER BY log_offset")
        assert [row["b"] for row in found] == ["1", None]

    def test_numbers_keep_every_digit_as_text_and_are_infinite_as_doubles(
        self, engine: QueryEngine, lake: Path
    ) -> None:
        append(lake, EVENTS, [event(properties=HOSTILE["400 digits"])])
        (row,) = rows(engine, "SELECT properties->>'$.a' AS a, (properties->>'$.a')::DOUBLE AS d FROM events")
        assert row == {"a": "9" * 400, "d": float("inf")}

    def test_hostile_rows_can_be_written_in_every_format(self, engine: QueryEngine, lake: Path) -> None:
        append(lake, EVENTS, [event(n, properties=text) for n, text in enumerate(HOSTILE.values())])
        for write in (write_json, write_csv, write_parquet):
            sink = io.BytesIO()
            write(engine.run("SELECT properties, properties->>'$.a' AS a FROM events ORDER BY log_offset"), sink)
            assert sink.getvalue()


class TestLock:
    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT * FROM read_text('/etc/passwd')",
            "SELECT * FROM read_csv('/etc/passwd')",
            "SELECT * FROM read_blob('/etc/*')",
            "SELECT * FROM read_parquet('/**')",
            "SELECT * FROM glob('/*')",
            "SELECT * FROM '/etc/passwd'",
            "SELECT getenv('HOME')",
            "COPY (SELECT 1) TO 'out.csv'",
            "COPY events TO 'out.csv'",
            "EXPORT DATABASE 'out'",
            "ATTACH 'out.db'",
            "INSTALL httpfs",
            "LOAD httpfs",
            "SET threads = 1",
            "RESET memory_limit",
            "PRAGMA memory_limit = '1GB'",
            "CALL pragma_version()",
            "SELECT * FROM enable_logging()",
            "CREATE TABLE t AS SELECT 1",
            "CREATE OR REPLACE VIEW events AS SELECT 1",
            "DROP VIEW events",
            "INSERT INTO events VALUES (1)",
            "UPDATE events SET project_id = 'x'",
            "DELETE FROM events",
            "BEGIN",
            "USE memory",
            "CHECKPOINT",
            "PREPARE p AS SELECT 1",
            "EXPLAIN ANALYZE COPY (SELECT 1) TO 'out.csv'",
            "EXPLAIN (FORMAT json) SELECT 1",
            "SELECT 1; SELECT 2",
            "SELECT 1; DROP VIEW events",
            "SELECT 1) UNION ALL (SELECT 2",
            "SELECT ?",
            "",
            ";",
            "nonsense",
            "SELECT '\udcff'",
            "PIVOT events ON platform USING count(*)",
        ],
    )
    def test_what_is_more_than_reading_the_views_is_refused(
        self, engine: QueryEngine, lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: str
    ) -> None:
        append(lake, EVENTS, [event()])
        monkeypatch.chdir(tmp_path)
        message = refusal(engine, sql)
        assert "\n" not in message
        assert message.endswith(".")
        assert [path.name for path in tmp_path.iterdir()] == ["data"]
        assert value(engine, "SELECT count(*) FROM events") == 1

    @pytest.mark.parametrize("explain", ["", "EXPLAIN ANALYZE "])
    def test_a_file_of_the_lake_cannot_be_overwritten_from_inside_a_select(
        self, engine: QueryEngine, lake: Path, explain: str
    ) -> None:
        append(lake, EVENTS, [event()])
        (path,) = lake_snapshot(lake)("events")
        before = Path(path).read_bytes()
        sql = f"WITH x AS (COPY (SELECT 1) TO '{path}' (FORMAT csv, USE_TMP_FILE false)) FROM x"
        assert "COPY" in refusal(engine, explain + sql)
        assert Path(path).read_bytes() == before

    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT 1;",
            "SELECT ';' -- ;\n ; -- done",
            "/* why */ WITH x AS (SELECT 1) FROM x",
            "FROM events",
            "VALUES (1)",
            "DESCRIBE sessions",
            "SHOW TABLES",
            "SUMMARIZE events",
            "EXPLAIN SELECT 1",
            "PIVOT events ON platform IN ('ios') USING count(*)",
            "SELECT 'é;😀' AS \"ü;\" ;",
        ],
    )
    def test_what_only_reads_is_run(self, engine: QueryEngine, sql: str) -> None:
        engine.run(sql).table()

    def test_the_order_of_the_query_is_the_order_of_the_result(self, engine: QueryEngine) -> None:
        found = engine.run("SELECT range AS n FROM range(200000) ORDER BY hash(n)").table()
        assert found.equals(engine.run("SELECT n FROM (SELECT range AS n FROM range(200000)) ORDER BY hash(n)").table())
        assert found["n"].to_pylist() != sorted(found["n"].to_pylist())

    def test_a_missing_column_is_named_with_those_that_are_there(self, engine: QueryEngine) -> None:
        message = refusal(engine, "SELECT projekt_id FROM events")
        assert "projekt_id" in message
        assert "project_id" in message

    @pytest.mark.parametrize(
        ("sql", "at"),
        [
            ("  -- hé\n SELECT projekt_id, '😀' FROM events;", "projekt_id"),
            ("SELECT 1,\n '😀é', FROM\n events WHERE ((", "("),
            ("SELECT '😀é' || nofunc(project_id) FROM events", "nofunc"),
            ("FROM nothere", "nothere"),
            ("EXPLAIN SELECT  nocol FROM events", "nocol"),
            ("explain analyze SELECT event_name, count(*) FROM events", "event_name"),
            ("SELECT 1, 'abc'::INT", "::INT"),
        ],
    )
    def test_an_error_has_its_place_in_the_text(self, engine: QueryEngine, sql: str, at: str) -> None:
        with pytest.raises(QueryFailed) as caught:
            engine.run(sql).table()
        assert caught.value.position is not None
        assert sql[caught.value.position :].startswith(at)

    @pytest.mark.parametrize(
        "sql", ['SELECT error(\'{"position": "1"}\')', "COPY events TO 'x'", "", "SELECT '\udcff'"]
    )
    def test_an_error_may_have_no_place(self, engine: QueryEngine, sql: str) -> None:
        with pytest.raises(QueryFailed) as caught:
            engine.run(sql).table()
        assert caught.value.position is None


class TestCaps:
    def test_memory(self, lake: Path) -> None:
        with open_query(lake, QueryCaps(64 * 1024 * 1024, 30)) as engine:
            message = refusal(engine, "SELECT list(md5(range::VARCHAR)) FROM range(5000000)")
        assert message.startswith("The query needs more than 64 MiB of memory.")

    def test_a_sort_that_does_not_fit_in_memory_goes_to_disk(self, lake: Path) -> None:
        with open_query(lake, QueryCaps(64 * 1024 * 1024, 60)) as engine:
            sql = "SELECT md5(range::VARCHAR) AS m FROM range(2000000) ORDER BY m LIMIT 1 OFFSET 1999999"
            assert value(engine, sql).startswith("ffff")

    def test_time(self, lake: Path) -> None:
        with open_query(lake, QueryCaps(64 * 1024 * 1024, 0.2)) as engine:
            assert refusal(engine, ENDLESS).startswith("The query took more than 0.2 seconds.")

    def test_time_runs_on_while_rows_are_read(self, lake: Path) -> None:
        with open_query(lake, QueryCaps(64 * 1024 * 1024, 0.3)) as engine:
            sql = "SELECT md5(range::VARCHAR) FROM range(1000000000)"
            assert refusal(engine, sql).startswith("The query took more than 0.3 seconds.")

    def test_cancel_stops_a_query(self, engine: QueryEngine) -> None:
        timer = threading.Timer(0.3, engine.cancel)
        timer.start()
        assert refusal(engine, ENDLESS).startswith("The query was stopped.")
        timer.join()

    def test_a_query_runs_after_one_that_failed(self, engine: QueryEngine) -> None:
        refusal(engine, "nonsense")
        assert value(engine, "SELECT 1") == 1


class TestVanishedFiles:
    def paths(self, lake: Path) -> list[str]:
        append(lake, EVENTS, [event()])
        return list(lake_snapshot(lake)("events"))

    def test_a_fresh_snapshot_is_taken_once(self, lake: Path) -> None:
        there = self.paths(lake)
        taken = iter([[str(lake / "gone.parquet")], there])
        with QueryEngine(lambda table: next(taken) if table == "events" else [], CAPS) as engine:
            assert value(engine, "SELECT count(*) FROM events") == 1

    def test_twice_is_an_error(self, lake: Path) -> None:
        gone = [str(lake / "gone.parquet")]
        with QueryEngine(lambda table: gone if table == "events" else [], CAPS) as engine:
            assert refusal(engine, "SELECT count(*) FROM events").endswith("Run it again.")

    def test_a_path_with_a_quote_is_read(self, tmp_path: Path) -> None:
        lake = tmp_path / "it's" / "lake"
        append(lake, EVENTS, [event()])
        with open_query(lake, CAPS) as engine:
            assert value(engine, "SELECT count(*) FROM events") == 1


ROWS = """
    SELECT * FROM (VALUES
        (1, 'a,"b"\r\nc', TIMESTAMPTZ '2026-04-08 12:00:00.5Z', true, 1.50::DECIMAL(5, 2), [1, 2], '\\xAB'::BLOB),
        (2, NULL, NULL, NULL, NULL, NULL, NULL)
    ) AS t(n, text, moment, flag, amount, list, data) ORDER BY n
"""


class TestFormats:
    def test_json_lines(self, engine: QueryEngine) -> None:
        sink = io.BytesIO()
        write_json(engine.run(ROWS), sink)
        first, second = map(json.loads, sink.getvalue().splitlines())
        assert first == {
            "n": 1,
            "text": 'a,"b"\r\nc',
            "moment": "2026-04-08T12:00:00.500000Z",
            "flag": True,
            "amount": 1.5,
            "list": [1, 2],
            "data": "ab",
        }
        assert second == dict.fromkeys(first, None) | {"n": 2}

    def test_properties_stay_text_in_json(self, engine: QueryEngine, lake: Path) -> None:
        append(lake, EVENTS, [event(properties='{"a": 1}')])
        sink = io.BytesIO()
        write_json(engine.run("SELECT properties FROM events"), sink)
        assert json.loads(sink.getvalue()) == {"properties": '{"a": 1}'}

    def test_integers_beyond_64_bits_are_numbers(self, engine: QueryEngine) -> None:
        sink = io.BytesIO()
        write_json(engine.run("SELECT 170141183460469231731687303715884105727::HUGEINT AS n"), sink)
        assert json.loads(sink.getvalue()) == {"n": 2**127 - 1}

    def test_csv(self, engine: QueryEngine) -> None:
        sink = io.BytesIO()
        write_csv(engine.run(ROWS), sink)
        assert sink.getvalue().startswith(b"n,text,moment,flag,amount,list,data\r\n")
        _, first, second = csv.reader(io.StringIO(sink.getvalue().decode(), newline=""))
        assert first == ["1", 'a,"b"\r\nc', "2026-04-08T12:00:00.500000Z", "true", "1.50", "[1,2]", "ab"]
        assert second == ["2", "", "", "", "", "", ""]

    def test_parquet(self, engine: QueryEngine) -> None:
        sink = io.BytesIO()
        write_parquet(engine.run(ROWS), sink)
        assert pq.read_table(io.BytesIO(sink.getvalue())).equals(engine.run(ROWS).table())

    def test_a_type_that_parquet_does_not_know(self, engine: QueryEngine) -> None:
        with pytest.raises(QueryFailed, match="cannot be Parquet"):
            write_parquet(engine.run("SELECT INTERVAL 1 DAY"), io.BytesIO())

    def test_an_instant_beyond_the_years_of_text_is_refused(self, engine: QueryEngine) -> None:
        for write in (write_json, write_csv):
            with pytest.raises(QueryFailed, match="The column 'day' has a value that cannot be written"):
                write(engine.run("SELECT DATE '99999-01-01' AS day"), io.BytesIO())


class TestCommand:
    @pytest.fixture(autouse=True)
    def _quiet_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lake: Path) -> None:
        append(lake, EVENTS, [event(n, event_name="A\x1b[31m[red]B") for n in range(3)])
        append(lake, LOADS, [])
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("KIXO_DATA_DIR", str(lake.parent))

    def test_a_table_shows_control_characters_and_markup_as_they_are(self, capsys: pytest.CaptureFixture[str]) -> None:
        query_command("SELECT event_name, NULL AS nothing FROM events LIMIT 1")
        assert r"A\x1b[31m[red]B" in capsys.readouterr().out

    def test_a_long_table_is_cut_and_says_so(self, capsys: pytest.CaptureFixture[str]) -> None:
        query_command("SELECT range FROM range(1001)")
        captured = capsys.readouterr()
        assert "999" in captured.out
        assert "1000" not in captured.out
        assert "The first 1000 rows are shown" in captured.err

    def test_a_wide_table_is_cut_to_the_terminal_and_says_so(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        monkeypatch.setenv("COLUMNS", "80")
        query_command("SELECT *, repeat('x', 500) AS wide FROM events")
        captured = capsys.readouterr()
        assert max(map(len, captured.out.splitlines())) < 200
        assert "Not shown for width: " in captured.err

    def test_a_plan_is_shown_over_lines(self, capsys: pytest.CaptureFixture[str]) -> None:
        query_command("EXPLAIN SELECT 1")
        assert len(capsys.readouterr().out.splitlines()) > 2

    def test_formats_on_stdout(self, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        query_command("SELECT 1 AS a", format="json")
        query_command("SELECT 1 AS a", format="csv")
        assert capfdbinary.readouterr().out == b'{"a":1}\na\r\n1\r\n'
        query_command("SELECT 1 AS a", format="parquet")
        assert pq.read_table(io.BytesIO(capfdbinary.readouterr().out)).to_pylist() == [{"a": 1}]

    @pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.parquet"])
    def test_a_suffix_names_the_format(self, tmp_path: Path, name: str) -> None:
        query_command("SELECT 1 AS a", output=tmp_path / name)
        assert (tmp_path / name).read_bytes()[:4] in {b"a\r\n1", b'{"a"', b"PAR1"}

    def test_a_query_that_fails_leaves_no_file(self, tmp_path: Path) -> None:
        (tmp_path / "out.csv").write_text("before")
        with pytest.raises(QueryFailed):
            query_command("SELECT if(range < 100000, 1, error('late')) FROM range(100001)", output=tmp_path / "out.csv")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out.csv"]
        assert (tmp_path / "out.csv").read_text() == "before"

    def test_stdin(self, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"SELECT 7 AS seven")))
        query_command("-", format="json")
        assert capfd.readouterr().out == '{"seven":7}\n'

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"output": Path("out")}, BadArgument, "--format"),
            ({"output": Path("missing/out.csv")}, BadArgument, "cannot be written"),
            ({"memory": "5"}, BadArgument, "--memory is 5 bytes"),
            ({"seconds": "soon"}, BadArgument, "--seconds is 'soon'"),
            ({"data_dir": "nowhere"}, DataFolderError, "no tables in"),
        ],
    )
    def test_bad_arguments(self, arguments: dict[str, Any], error: type[KixoError], message: str) -> None:
        with pytest.raises(error, match=message):
            query_command("SELECT 1", **arguments)


def test_rows_of_1970_have_a_date(engine: QueryEngine, lake: Path) -> None:
    append(lake, EVENTS, [event(date=date(1970, 1, 1))])
    assert value(engine, "SELECT date FROM events") == date(1970, 1, 1)
