"""The traffic that questions are measured on is what a loader would have made, and the measuring says what was read."""

import subprocess
import sys
from pathlib import Path

import pytest

from kixo.query import QueryCaps, QueryEngine, open_query
from kixo.timestamp import parse_us
from scripts.question_traffic import fill, streams

ROOT = Path(__file__).parent.parent
EVENTS, DAYS = 20_000, 3
END_US = parse_us("2026-04-08T16:00:00Z")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("measured")
    (found / "end_us").write_text(str(END_US))
    written = fill(found / "lake", EVENTS, DAYS, END_US)
    assert written == sum(row["n"] for row in rows(found, "SELECT count(*) AS n FROM events"))
    return found


def rows(folder: Path, sql: str) -> list[dict[str, int]]:
    engine: QueryEngine
    with open_query(folder / "lake", QueryCaps(memory_bytes_max=256 * 1024 * 1024, seconds_max=30.0)) as engine:
        found: list[dict[str, int]] = engine.run(sql).table().to_pylist()
    return found


def test_events_lie_under_the_day_of_their_timestamp_and_none_after_the_end(folder: Path) -> None:
    wrong = f"date <> timestamp::DATE OR epoch_us(timestamp) >= {END_US} OR timestamp > received_at"
    assert rows(folder, f"SELECT count(*) AS n FROM events WHERE {wrong}") == [{"n": 0}]


def test_no_identity_and_no_event_id_is_there_twice(folder: Path) -> None:
    twice = "count(*) - count(DISTINCT identity) AS a, count(*) - count(DISTINCT event_id) AS b"
    assert rows(folder, f"SELECT {twice} FROM events") == [{"a": 0, "b": 0}]


def test_the_project_that_is_asked_about_has_about_the_events_that_were_wanted(folder: Path) -> None:
    asked = streams(EVENTS)[0]
    owner = f"project_id = '{asked.project_id}' AND environment = '{asked.environment}'"
    (found,) = rows(folder, f"SELECT count(*) AS n, count(DISTINCT project_id) AS projects FROM events WHERE {owner}")
    # What would have come after the end of the last day has not come.
    assert 0.7 * EVENTS < found["n"] < 1.1 * EVENTS * (DAYS + 1) / DAYS
    assert rows(folder, "SELECT count(DISTINCT project_id) AS n FROM events") == [{"n": 3}]


def test_some_sessions_pause_and_some_go_on_over_midnight(folder: Path) -> None:
    (found,) = rows(
        folder,
        "SELECT count(*) FILTER (session_number > 1) AS pauses,"
        " count(*) FILTER (started_at::DATE < ended_at::DATE) AS nights FROM sessions",
    )
    assert found["pauses"] > 0
    assert found["nights"] > 0


def test_the_measuring_tells_of_each_query_and_of_the_page(folder: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "scripts.measure_questions",
        "--lake",
        str(folder),
        "--rounds",
        "1",
        "--span",
        "day",
    ]
    lines = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.splitlines()
    figures = {line[:32].strip(): line[32:].split() for line in lines if line}
    # What belongs to the page is indented below it.
    page = [line[32:].split() for line in lines if line.startswith("  ")]
    total = sum(float(wall_s) for wall_s, *_ in page)
    assert len(page) == 4
    assert float(figures["Overview, one after the other"][0]) == pytest.approx(total, abs=0.03)
    (expected,) = rows(
        folder,
        "SELECT count(*) AS n FROM events WHERE project_id = 'kx_proj_large' AND environment = 'production'"
        " AND timestamp >= TIMESTAMPTZ '2026-04-07 16:00:00+00'",
    )
    assert figures["events_over_time"][2] == f"{expected['n']:,}"
