import os
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from msgspec import json

from kixo.errors import DataFolderError
from kixo.lake.commit import Commit, CommitConflict, TableFile, is_whole, log_entry, pack, write_commit
from kixo.lake.compaction import Bounds, choose, merge
from kixo.lake.create import create_tables
from kixo.lake.local import LocalLake
from kixo.lake.parquet import FRESH, write_file
from kixo.lake.read import open_table
from kixo.lake.schema import LOADS, TABLES
from kixo.lake.sweep import drop_uncommitted, sweep
from kixo.lake.table import LakeTable, open_tables
from tests.loading import LOG_ID, NOW_US, Reports

KIB = 1024
MIB = 1024 * 1024
DATE = "2026-04-08"


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


@pytest.fixture
def reports() -> Reports:
    return Reports()


def opened(lake: Path, reports: Reports, name: str = "loads", checkpoint_commits: int = 1000) -> LakeTable:
    return open_tables(lake, LOG_ID, checkpoint_commits, reports, create=True)[name]


def ledger(*stored: int) -> pa.Table:
    lines = [
        {
            "loaded_at": NOW_US + number,
            "log_id": LOG_ID,
            "log_partition": 0,
            "first_offset": number,
            "end_offset": number + 1,
            "project_id": f"project {number % 3}",
            "received": number,
            "stored": number,
            "duplicate": 0,
            "rejected": 0,
        }
        for number in stored
    ]
    return pa.Table.from_pylist(lines, schema=LOADS.file_schema)


def load(table: LakeTable, number: int) -> TableFile:
    """Commits one row, and `number` as the position."""
    path = f"date={DATE}/{table.version + 1:012d}-{number}.parquet"
    file = write_file(table.store, path, DATE, ledger(number), FRESH)
    table.commit("WRITE", NOW_US, [file], positions={0: number})
    return file


def stored(lake: Path) -> list[int]:
    paths = list(open_table(lake, "loads").paths)
    with duckdb.connect() as connection:
        rows = connection.execute("SELECT stored FROM read_parquet(?)", [paths]).fetchall()
    return sorted(row[0] for row in rows)


def test_new_tables_are_empty_and_have_their_columns(lake: Path) -> None:
    create_tables(lake)
    for table in TABLES:
        view = open_table(lake, table.name)
        assert (view.version, view.paths, view.position(LOG_ID, 0)) == (0, (), 0)
        assert DeltaTable(lake / table.name).schema().to_arrow() is not None
        assert [field.name for field in DeltaTable(lake / table.name).schema().fields] == table.schema.names


def test_making_tables_again_changes_nothing(lake: Path, reports: Reports) -> None:
    load(opened(lake, reports), 7)
    create_tables(lake)
    assert stored(lake) == [7]


def test_a_view_has_files_and_positions_of_one_commit(lake: Path, reports: Reports) -> None:
    table = opened(lake, reports)
    load(table, 5)
    before = open_table(lake, "loads")
    load(table, 9)
    assert (before.version, len(before.paths), before.positions(LOG_ID, [0, 1])) == (1, 1, {0: 5, 1: 0})
    after = open_table(lake, "loads")
    assert (after.version, len(after.paths), after.positions(LOG_ID, [0, 1])) == (2, 2, {0: 9, 1: 0})
    assert after.position("another log", 0) == 0


def test_other_delta_readers_read_our_commits(lake: Path, reports: Reports) -> None:
    load(opened(lake, reports), 5)
    table = DeltaTable(lake / "loads")
    actions = table.get_add_actions(flatten=True)
    assert actions.column("num_records").to_pylist() == [1]
    assert actions.column("min.project_id").to_pylist() == ["project 2"]
    assert table.history(1)[0]["operation"] == "WRITE"


def test_positions_and_files_outlive_checkpoints_and_restarts(lake: Path, reports: Reports) -> None:
    table = opened(lake, reports, checkpoint_commits=3)
    for number in range(10):
        load(table, number)
        table.checkpoint_if_due()
    again = opened(lake, reports)
    assert (again.version, again.position(0), again.position(1)) == (10, 9, 0)
    assert again.files == table.files
    assert stored(lake) == list(range(10))


def test_old_log_entries_go_but_a_reader_of_the_last_checkpoint_can_go_on(lake: Path, reports: Reports) -> None:
    table = opened(lake, reports, checkpoint_commits=3)
    for number in range(10):
        load(table, number)
        table.checkpoint_if_due()
    log = lake / "loads" / "_delta_log"
    assert sorted(int(path.stem) for path in log.glob("*.json")) == [6, 7, 8, 9, 10]
    assert sorted(int(path.name[:20]) for path in log.glob("*.checkpoint.parquet")) == [6, 9]


def test_a_version_is_written_once(lake: Path, reports: Reports) -> None:
    one, other = opened(lake, reports), opened(lake, reports)
    load(one, 1)
    with pytest.raises(CommitConflict):
        load(other, 2)
    assert stored(lake) == [1]


def test_an_entry_cut_anywhere_is_not_whole() -> None:
    file = TableFile("date=2026-04-08/a.parquet", DATE, 10, 1, "{}")
    data = pack(Commit("WRITE", 1, (file,), (file,), (("kixo/x/0", 5), ("kixo/x/1", 6))))
    assert is_whole(data)
    # Without the last line break nothing is missing.
    assert [length for length in range(len(data)) if is_whole(data[:length])] == [len(data) - 1]


def test_a_torn_last_commit_is_moved_aside(lake: Path, reports: Reports) -> None:
    table = opened(lake, reports)
    for number in (1, 2):
        load(table, number)
    entry = lake / "loads" / log_entry(2)
    data = entry.read_bytes()
    for length in (0, 1, data.index(b"\n") + 1, len(data) - 2):
        entry.write_bytes(data[:length])
        reports.sentences.clear()
        again = opened(lake, reports)
        assert (again.version, again.position(0)) == (1, 1)
        assert stored(lake) == [1]
        assert reports.tells("moved aside")
        assert (lake / "torn" / f"loads-{entry.name}").read_bytes() == data[:length]
        load(again, 2)
        assert stored(lake) == [1, 2]
        entry.write_bytes(data)


def test_several_torn_commits_are_moved_aside(lake: Path, reports: Reports) -> None:
    table = opened(lake, reports)
    for number in range(4):
        load(table, number)
    for version in (3, 4):
        (lake / "loads" / log_entry(version)).write_bytes(b"")
    assert opened(lake, reports).position(0) == 1


def test_a_table_whose_making_was_cut_off_is_made_again(lake: Path, reports: Reports) -> None:
    create_tables(lake)
    (lake / "events" / log_entry(0)).write_bytes(b"")
    assert opened(lake, reports, "events").version == 0


@pytest.mark.parametrize("keep", [0, 100])
def test_a_torn_checkpoint_is_moved_aside(lake: Path, reports: Reports, keep: int) -> None:
    table = opened(lake, reports, checkpoint_commits=2)
    for number in range(1, 6):
        load(table, number)
        table.checkpoint_if_due()
    newest = max((lake / "loads" / "_delta_log").glob("*.checkpoint.parquet"))
    newest.write_bytes(newest.read_bytes()[:keep])
    assert opened(lake, reports).position(0) == 5
    assert stored(lake) == [1, 2, 3, 4, 5]


def test_a_torn_hint_is_moved_aside(lake: Path, reports: Reports) -> None:
    table = opened(lake, reports, checkpoint_commits=2)
    for number in range(1, 6):
        load(table, number)
        table.checkpoint_if_due()
    (lake / "loads" / "_delta_log" / "_last_checkpoint").write_bytes(b"")
    assert opened(lake, reports).position(0) == 5
    assert stored(lake) == [1, 2, 3, 4, 5]


def test_a_lake_of_a_newer_format_is_left_alone(lake: Path, reports: Reports) -> None:
    create_tables(lake)
    (lake / "kixo.json").write_bytes(json.encode({"format": 2}))
    with pytest.raises(DataFolderError, match="format 2"):
        opened(lake, reports)
    with pytest.raises(DataFolderError, match="format 2"):
        open_table(lake, "events")


def test_a_table_of_another_protocol_is_left_alone(lake: Path, reports: Reports) -> None:
    create_tables(lake)
    DeltaTable(lake / "loads").alter.set_table_properties({"delta.enableChangeDataFeed": "true"})
    with pytest.raises(DataFolderError, match="protocol"):
        opened(lake, reports)


def test_a_missing_table_is_not_made_while_running(lake: Path, reports: Reports) -> None:
    with pytest.raises(DataFolderError, match="gone"):
        open_tables(lake, LOG_ID, 10, reports, create=False)
    assert not lake.exists()


def test_opening_no_table_says_what_to_do(lake: Path) -> None:
    with pytest.raises(DataFolderError, match="kixo serve"):
        open_table(lake, "events")


# Merges and sweeps.


def files(*sizes: int, date: str = DATE) -> list[TableFile]:
    return [TableFile(f"date={date}/{n}-{size}.parquet", date, size, 1) for n, size in enumerate(sizes)]


def test_a_merge_takes_files_of_one_tier_when_there_are_enough() -> None:
    bounds = Bounds(3, 128 * MIB)
    assert choose(files(KIB, KIB), bounds) == []
    assert choose(files(KIB, 9 * KIB, 2 * KIB), bounds) == files(KIB, 9 * KIB, 2 * KIB)
    assert choose(files(KIB, KIB, 65 * KIB), bounds) == []
    assert choose(files(KIB, KIB) + files(KIB, date="2026-04-09"), bounds) == []


def test_large_files_are_left_alone() -> None:
    assert choose(files(*[128 * MIB] * 9), Bounds(3, 128 * MIB)) == []


def test_a_merge_takes_no_more_than_its_bytes() -> None:
    chosen = choose(files(*[50 * MIB] * 9), Bounds(32, 128 * MIB))
    assert sum(file.size_bytes for file in chosen) == 150 * MIB


def test_files_with_many_rows_are_full_too() -> None:
    many = [TableFile(f"date={DATE}/{number}.parquet", DATE, KIB, 60) for number in range(4)]
    assert choose(many, Bounds(32, MIB, rows_max=100)) == many[:2]
    assert choose(many, Bounds(2, MIB, rows_max=60)) == []


def test_merges_that_can_wait_do_while_there_is_a_backlog() -> None:
    bounds = Bounds(3, MIB)
    assert choose(files(*[KIB] * 11), bounds, busy=True) == []
    assert len(choose(files(*[KIB] * 12), bounds, busy=True)) == 12
    assert choose(files(*[600 * KIB] * 2), bounds) == files(*[600 * KIB] * 2)
    assert choose(files(*[600 * KIB] * 2), bounds, busy=True) == []


def test_a_merged_file_has_all_rows_sorted_by_project(lake: Path, reports: Reports) -> None:
    table = opened(lake, reports)
    loaded = [load(table, number) for number in range(7)]
    merged = merge(table.store, LOADS, loaded, "merged")
    rows = pq.read_table(lake / "loads" / merged.path, partitioning=None)
    assert rows.column("project_id").to_pylist() == sorted(f"project {number % 3}" for number in range(7))
    assert sorted(rows.column("stored").to_pylist()) == list(range(7))
    assert (merged.rows, merged.data_version) == (7, 7)
    table.commit("OPTIMIZE", NOW_US, [merged], removed=loaded, changes_data=False)
    assert stored(lake) == list(range(7))
    assert len(open_table(lake, "loads").paths) == 1
    assert opened(lake, reports).position(0) == 6


def test_a_file_of_unknown_origin_makes_a_merged_file_of_unknown_origin(lake: Path, reports: Reports) -> None:
    table = opened(lake, reports)
    known = load(table, 1)
    path = f"date={DATE}/part-from-elsewhere.parquet"
    other = write_file(table.store, path, DATE, ledger(2), FRESH)
    assert merge(table.store, LOADS, [known, other], "merged").data_version is None


def test_a_sweep_deletes_what_was_replaced_long_enough_ago(lake: Path, reports: Reports) -> None:
    table = opened(lake, reports)
    loaded = [load(table, number) for number in range(3)]
    merged = merge(table.store, LOADS, loaded, "merged")
    table.retire(loaded, 1000.0)
    table.commit("OPTIMIZE", NOW_US, [merged], removed=loaded, changes_data=False)
    assert sweep(table, 1000.0) == 0
    assert sweep(table, 1000.1) == 3
    assert stored(lake) == [0, 1, 2]


def test_a_sweep_never_deletes_a_file_of_the_table(lake: Path, reports: Reports) -> None:
    table = opened(lake, reports)
    file = load(table, 1)
    os.utime(lake / "loads" / file.path, (1, 1))
    assert sweep(table, 2e9) == 0
    assert stored(lake) == [1]


def test_what_a_failed_load_wrote_goes_at_once(lake: Path, reports: Reports) -> None:
    table = opened(lake, reports)
    load(table, 1)
    path = f"date={DATE}/{2:012d}-x.parquet"
    write_file(table.store, path, DATE, ledger(2), FRESH)
    assert drop_uncommitted(table) == 1
    assert stored(lake) == [1]


def test_write_commit_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "_delta_log").mkdir()
    write_commit(LocalLake(tmp_path), 0, Commit("WRITE", 1))
    with pytest.raises(CommitConflict):
        write_commit(LocalLake(tmp_path), 0, Commit("WRITE", 1))
    assert [path.name for path in (tmp_path / "_delta_log").iterdir()] == [f"{0:020d}.json"]
