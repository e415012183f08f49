import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from kixo.cli import run
from kixo.lake.schema import EVENTS
from kixo.query import lake_snapshot
from kixo.query.pinned import PREFIX, pinned
from kixo.query.selection import COLUMNS, LEFT_OUT
from tests.test_query import NOON, append, event


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with four events on three days, one of them from before the horizon."""
    folder = tmp_path / "data"
    rows = [
        event(1, event_type="tap", properties='{"text":"a,\\n\\"b\\""}'),
        event(2, at=NOON + timedelta(days=1), project_id="kx_proj_b", event_id="e-2"),
        event(3, at=NOON + timedelta(days=2), environment="staging"),
        event(4, at=datetime(1999, 1, 1, tzinfo=UTC)) | {"date": datetime(1970, 1, 1, tzinfo=UTC).date()},
    ]
    append(folder / "lake", EVENTS, rows)
    return folder


def exported(data: Path, capfd: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert run(["export", "--data-dir", str(data), *arguments]) == 0
    return [json.loads(line) for line in capfd.readouterr().out.splitlines()]


def numbers(rows: list[dict[str, Any]]) -> list[int]:
    return sorted(int(row["identity"], 16) for row in rows)


def test_all_events_are_written_with_all_columns_but_their_place_in_the_log(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = exported(data, capfd)
    assert numbers(rows) == [1, 2, 3, 4]
    assert set(rows[0]) == {column.name for column in EVENTS.columns} - set(LEFT_OUT)


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        (["--from", "2026-04-08"], [1, 2, 3]),
        (["--from", "2026-04-08T12:00:00Z", "--to", "2026-04-09T12:00:00Z"], [1]),
        (["--to", "2026-04-08"], [4]),
        (["--from", "1998-01-01", "--to", "1999-12-31"], [4]),
        (["--project", "kx_proj_b"], [2]),
        (["--project", "kx_proj_b", "--project", "kx_proj_a"], [1, 2, 3, 4]),
        (["--environment", "staging"], [3]),
        (["--type", "tap"], [1]),
        (["--name", "it's not there"], []),
    ],
)
def test_flags_choose_events(data: Path, capfd: pytest.CaptureFixture[str], flags: list[str], found: list[int]) -> None:
    assert numbers(exported(data, capfd, *flags)) == found


def test_a_query_chooses_events(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert exported(data, capfd, "SELECT event_id FROM events WHERE event_id IS NOT NULL") == [{"event_id": "e-2"}]


def test_a_query_and_flags_do_not_go_together(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "--data-dir", str(data), "SELECT 1", "--type", "tap"]) == 2
    assert "do not go together" in capsys.readouterr().err


def test_a_time_that_is_none_is_named(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "--data-dir", str(data), "--from", "yesterday"]) == 2
    assert "--from is 'yesterday'" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_file_has_the_format_of_its_name(data: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"events.{suffix}"
    assert run(["export", "--data-dir", str(data), "--type", "tap", "--output", str(path)]) == 0
    readers: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "jsonl": lambda: [json.loads(line) for line in path.read_text("utf-8").splitlines()],
        "csv": lambda: list(csv.DictReader(io.StringIO(path.read_text("utf-8"), newline=""))),
        "parquet": lambda: pq.read_table(path).to_pylist(),
    }
    (row,) = readers[suffix]()
    assert list(row) == list(COLUMNS)
    assert json.loads(row["properties"]) == {"text": 'a,\n"b"'}


class TestPinned:
    def test_files_live_on_under_their_second_names(self, data: Path) -> None:
        with pinned(lake_snapshot(data / "lake"), data / "run") as snapshot:
            paths = [Path(path) for path in snapshot("events")]
            for original in lake_snapshot(data / "lake")("events"):
                Path(original).unlink()
            assert paths
            assert all(path.read_bytes()[:4] == b"PAR1" for path in paths)
            assert {path.parent.name for path in paths} >= {"date=2026-04-08", "date=1970-01-01"}
        assert list((data / "run").iterdir()) == []

    def test_what_a_killed_export_left_behind_is_removed(self, data: Path) -> None:
        left = data / "run" / f"{PREFIX}left"
        (left / "events").mkdir(parents=True)
        with pinned(lake_snapshot(data / "lake"), data / "run") as first:
            assert not left.exists()
            paths = [Path(path) for path in first("events")]
            with pinned(lake_snapshot(data / "lake"), data / "run"):
                assert paths
                assert all(path.exists() for path in paths)

    def test_without_links_the_files_are_read_where_they_are(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise OSError("no links here")

        monkeypatch.setattr("kixo.query.pinned.os.link", refuse)
        snapshot = lake_snapshot(data / "lake")
        with pinned(snapshot, data / "run") as linked:
            assert list(linked("events")) == list(snapshot("events"))
