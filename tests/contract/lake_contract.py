"""What every place for a lake promises, and what follows from it for tables that several loaders write."""

import pyarrow.parquet as pq
import pytest

from kixo.errors import DataFolderError
from kixo.lake.commit import CommitConflict, Fenced, TableFile, log_entry
from kixo.lake.compaction import merge
from kixo.lake.parquet import FRESH, write_file
from kixo.lake.read import open_table, require_lake
from kixo.lake.schema import LOADS
from kixo.lake.store import LakeStore
from kixo.lake.sweep import UNUSED_S_MIN, drop_uncommitted, sweep_among_others
from kixo.lake.table import LAG_MAX, STALE_S, LakeTable, open_tables
from tests.loading import LOG_ID, NOW_US, Reports
from tests.test_lake import DATE, ledger


def opened(lake: LakeStore, checkpoint_commits: int = 1000) -> LakeTable:
    return open_tables(lake, LOG_ID, checkpoint_commits, Reports(), create=True)["loads"]


def written(table: LakeTable, *stored: int) -> TableFile:
    path = f"date={DATE}/{table.version + 1:012d}-{'-'.join(map(str, stored))}.parquet"
    return write_file(table.store, path, DATE, ledger(*stored), FRESH)


def load(table: LakeTable, partition: int, start: int, end: int) -> TableFile:
    """Commits a row whose number is `end`, and the position."""
    file = written(table, end)
    table.commit("WRITE", NOW_US, [file], positions={partition: end}, expected={partition: start})
    return file


def stored(lake: LakeStore) -> list[int]:
    store = lake.inside("loads")
    files = opened(lake).files
    return sorted(n for path in files for n in pq.ParquetFile(store.source(path)).read().column("stored").to_pylist())


class LakeContract:
    """Subclassed for each form, which gives the fixture `lake`: an empty store that has many writers."""

    def test_a_file_is_created_once(self, lake: LakeStore) -> None:
        store = lake.inside("a")
        store.make()
        store.create("x", b"first")
        with pytest.raises(FileExistsError):
            store.create("x", b"second")
        assert store.read("x") == b"first"

    def test_a_file_that_is_not_there_cannot_be_read(self, lake: LakeStore) -> None:
        with pytest.raises(FileNotFoundError):
            lake.read("nothing")

    def test_a_replaced_file_is_the_new_one(self, lake: LakeStore) -> None:
        store = lake.inside("a")
        for data in (b"first", b"second"):
            store.replace("x", data)
            assert store.read("x") == data

    def test_files_are_listed_by_folder(self, lake: LakeStore) -> None:
        for folder in ("date=1", "date=10", "date=2"):
            lake.inside(folder).replace("x", b"123")
        assert {file.path: file.size_bytes for file in lake.list("date=1")} == {"date=1/x": 3}
        assert {file.path for file in lake.list()} == {"date=1/x", "date=10/x", "date=2/x"}

    def test_deleting_passes_over_what_is_gone(self, lake: LakeStore) -> None:
        lake.inside("a").replace("x", b"1")
        lake.delete(["a/x", "a/y"])
        assert list(lake.list("a")) == []

    def test_a_lake_is_missed_until_it_is_made(self, lake: LakeStore) -> None:
        with pytest.raises(DataFolderError, match="no tables"):
            require_lake(lake)
        opened(lake)
        require_lake(lake)

    def test_a_new_table_is_empty(self, lake: LakeStore) -> None:
        assert not lake.inside("loads").is_table()
        assert (opened(lake).version, stored(lake)) == (0, [])
        assert open_table(lake, "loads").paths == ()

    def test_a_lake_of_a_newer_format_is_left_alone(self, lake: LakeStore) -> None:
        lake.replace("kixo.json", b'{"format": 2}')
        with pytest.raises(DataFolderError, match="format 2"):
            opened(lake)

    def test_a_commit_on_top_of_anothers_keeps_both(self, lake: LakeStore) -> None:
        one, other = opened(lake), opened(lake)
        for number in range(5):
            load(one, 0, number, number + 1)
            load(other, 1, number * 10, number * 10 + 10)
        assert stored(lake) == [1, 2, 3, 4, 5, 10, 20, 30, 40, 50]
        assert open_table(lake, "loads").positions(LOG_ID, [0, 1]) == {0: 5, 1: 50}
        one.refresh()
        assert (one.version, one.position(1), one.files.keys()) == (10, 50, opened(lake).files.keys())

    def test_of_two_writers_of_a_partition_only_one_gets_through(self, lake: LakeStore) -> None:
        one, other = opened(lake), opened(lake)
        load(one, 0, 0, 3)
        with pytest.raises(Fenced, match="Another loader"):
            load(other, 0, 0, 5)
        assert stored(lake) == [3]
        assert open_table(lake, "loads").position(LOG_ID, 0) == 3

    def test_a_writer_that_knows_of_the_other_is_fenced_too(self, lake: LakeStore) -> None:
        one, other = opened(lake), opened(lake)
        load(one, 0, 0, 3)
        other.refresh()
        with pytest.raises(Fenced):
            load(other, 0, 0, 5)

    def test_what_another_merged_away_cannot_be_merged_again(self, lake: LakeStore) -> None:
        one, other = opened(lake), opened(lake)
        files = [load(one, 0, number, number + 1) for number in range(3)]
        other.refresh()
        merged = [merge(table.store, LOADS, files, name) for table, name in ((one, "a"), (other, "b"))]
        one.commit("OPTIMIZE", NOW_US, [merged[0]], removed=files, changes_data=False, expected={})
        with pytest.raises(CommitConflict, match="gone"):
            other.commit("OPTIMIZE", NOW_US, [merged[1]], removed=files, changes_data=False, expected={})
        assert stored(lake) == [1, 2, 3]

    def test_a_merge_and_loads_of_others_go_together(self, lake: LakeStore) -> None:
        one, other = opened(lake), opened(lake)
        files = [load(one, 0, number, number + 1) for number in range(3)]
        merged = merge(one.store, LOADS, files, "merged")
        load(other, 1, 0, 10)
        one.commit("OPTIMIZE", NOW_US, [merged], removed=files, changes_data=False, expected={})
        load(other, 1, 10, 20)
        assert stored(lake) == [1, 2, 3, 10, 20]
        assert len(open_table(lake, "loads").paths) == 3

    def test_checkpoints_of_one_writer_do_not_disturb_another(self, lake: LakeStore) -> None:
        one, other = opened(lake, checkpoint_commits=3), opened(lake)
        for number in range(10):
            load(one, 0, number, number + 1)
            one.checkpoint_if_due()
        load(other, 1, 0, 99)
        assert stored(lake) == [*range(1, 11), 99]
        assert {file.path for file in lake.inside("loads").list("_delta_log")} >= {log_entry(n) for n in range(12)}

    def test_a_commit_whose_answer_was_lost_is_known_again(
        self, lake: LakeStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        table = opened(lake)
        create = table.store.create

        def twice(path: str, data: bytes) -> None:
            create(path, data)
            create(path, data)

        monkeypatch.setattr(table.store, "create", twice)
        load(table, 0, 0, 7)
        assert (stored(lake), table.version) == ([7], 1)

    def test_a_load_that_many_versions_have_passed_is_made_anew(self, lake: LakeStore) -> None:
        one, other = opened(lake), opened(lake)
        file = written(one, 5)
        for _ in range(LAG_MAX + 1):
            other.commit("WRITE", NOW_US, [], expected={})
        with pytest.raises(CommitConflict, match="went on"):
            one.commit("WRITE", NOW_US, [file], positions={0: 5}, expected={0: 0})

    def test_a_file_may_be_newer_than_its_name_says(self, lake: LakeStore) -> None:
        one, other = opened(lake), opened(lake)
        file = written(one, 5)
        load(other, 1, 0, 1)
        covered = other.version
        one.commit("WRITE", NOW_US, [file], positions={0: 5}, expected={0: 0})
        other.refresh()
        assert other.may_be_newer(other.files[file.path], covered)
        assert not other.may_be_newer(other.files[file.path], covered + LAG_MAX)

    def test_a_writer_that_stood_still_looks_at_the_table_again(self, lake: LakeStore) -> None:
        opened(lake)
        now_s = [0.0]
        late = LakeTable(lake, LOADS, LOG_ID, 1000, Reports(), lambda: now_s[0], lambda _: None)
        other = opened(lake)
        load(other, 0, 0, 1)
        # As if its entries had been cleaned away meanwhile.
        other.checkpoint()
        lake.inside("loads").delete([log_entry(0), log_entry(1)])
        now_s[0] = STALE_S + 1
        load(late, 1, 0, 10)
        assert stored(lake) == [1, 10]

    def test_a_file_goes_when_it_was_unused_for_an_hour(self, lake: LakeStore) -> None:
        one, other = opened(lake), opened(lake)
        files = [load(one, 0, number, number + 1) for number in range(3)]
        left, coming = written(other, 8), written(one, 9)
        merged = merge(one.store, LOADS, files, "merged")
        one.commit("OPTIMIZE", NOW_US, [merged], removed=files, changes_data=False, expected={})
        unused = {file.path: 0.0 for file in (left, coming, *files)}
        assert sweep_among_others(other, {}, 0.0, 600.0) == unused
        assert sweep_among_others(other, unused, UNUSED_S_MIN, 600.0) == unused
        one.commit("WRITE", NOW_US, [coming], positions={0: 9}, expected={0: 3})
        assert sweep_among_others(other, unused, 2 * UNUSED_S_MIN, 9000.0).keys() == {
            left.path,
            *(f.path for f in files),
        }
        assert sweep_among_others(other, unused, UNUSED_S_MIN + 1, 600.0) == {}
        assert stored(lake) == [1, 2, 3, 9]
        assert {file.path for file in one.store.list(f"date={DATE}")} == {merged.path, coming.path}

    def test_files_that_another_is_about_to_commit_stay(self, lake: LakeStore) -> None:
        one, other = opened(lake), opened(lake)
        file = written(one, 5)
        assert drop_uncommitted(other) == 0
        one.commit("WRITE", NOW_US, [file], positions={0: 5}, expected={0: 0})
        assert stored(lake) == [5]
