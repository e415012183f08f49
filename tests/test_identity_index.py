from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import json

from kixo.lake.table import LakeTable, open_tables
from kixo.loader.identities import Identities
from kixo.loader.identity_filter import IdentityFilter
from kixo.loader.identity_index import MANIFEST, IdentityIndex
from kixo.loader.identity_runs import DamagedRun, check_run, find, make_run, map_run, merge, merge_files, write_run
from tests.loading import LOG_ID, Reports, Setting, as_sent, event

MIB = 1024 * 1024
pairs = st.lists(st.tuples(st.integers(0, 3) | st.integers(0, 2**64 - 1), st.integers(0, 5)), max_size=60)


def numbers(pairs: list[tuple[int, int]]) -> Identities:
    low, high = ([pair[half] for pair in pairs] for half in range(2))
    return Identities(np.array(high, np.uint64), np.array(low, np.uint64))


def in_order(run: Identities) -> list[tuple[int, int]]:
    return list(zip(run.low.tolist(), run.high.tolist(), strict=True))


def random_numbers(count: int, seed: int = 1) -> Identities:
    generator = np.random.default_rng(seed)
    return Identities(*(generator.integers(0, 2**64, count, np.uint64) for _ in range(2)))


@given(pairs, pairs)
def test_a_run_holds_what_it_was_made_of_and_nothing_else(
    held: list[tuple[int, int]], asked: list[tuple[int, int]]
) -> None:
    run = make_run(numbers(held))
    assert in_order(run) == sorted(held)
    assert find(run, numbers(asked)).tolist() == [pair in held for pair in asked]


@given(st.lists(pairs, min_size=1, max_size=9))
def test_merging_runs_is_sorting_all_of_them(held: list[list[tuple[int, int]]]) -> None:
    merged = merge([make_run(numbers(each)) for each in held])
    assert in_order(merged) == sorted(pair for each in held for pair in each)


def test_merging_files_is_sorting_all_of_them(tmp_path: Path) -> None:
    runs = [make_run(random_numbers(700_000, seed)) for seed in range(3)]
    for number, run in enumerate(runs):
        write_run(tmp_path / str(number), run)
    assert merge_files([tmp_path / str(number) for number in range(3)], tmp_path / "merged") == 2_100_000
    merged, expected = map_run(tmp_path / "merged"), merge(runs)
    assert np.array_equal(merged.low, expected.low)
    assert np.array_equal(merged.high, expected.high)
    assert np.array_equal(np.concatenate(list(check_run(tmp_path / "merged"))), expected.low)


@given(st.integers(0, 40 + 16 * 5 - 1), st.integers(1, 255))
@settings(max_examples=40)
def test_a_damaged_run_file_is_found_out(tmp_path_factory: pytest.TempPathFactory, place: int, change: int) -> None:
    path = tmp_path_factory.mktemp("run") / "run"
    write_run(path, make_run(random_numbers(5)))
    data = bytearray(path.read_bytes())
    data[place] ^= change
    path.write_bytes(data)
    with pytest.raises(DamagedRun):
        list(check_run(path)) and map_run(path)


def test_a_run_file_cut_short_is_found_out(tmp_path: Path) -> None:
    write_run(tmp_path / "run", make_run(random_numbers(5)))
    whole = (tmp_path / "run").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "run").write_bytes(whole[:length])
        with pytest.raises(DamagedRun):
            list(check_run(tmp_path / "run"))


def test_the_filter_never_denies_what_it_was_given() -> None:
    chosen = random_numbers(600_000).low
    known = IdentityFilter(0, 24 * MIB)
    for part in np.split(chosen, 6):
        known.add(part)
    assert known.may_have(chosen).all()
    assert known.may_have(random_numbers(100_000, 2).low).mean() < 0.01


def test_the_filter_keeps_within_its_bytes_and_stays_true() -> None:
    known = IdentityFilter(0, MIB)
    chosen = random_numbers(2_000_000).low
    known.add(chosen)
    known.add(chosen)
    assert known.size_bytes <= MIB
    assert known.may_have(chosen).all()


def test_a_full_filter_is_joined_by_a_larger_one() -> None:
    known = IdentityFilter(0, 64 * MIB)
    for seed in range(5):
        known.add(random_numbers(1_000_000, seed).low)
    assert known.size_bytes == 24 * MIB
    assert all(known.may_have(random_numbers(1_000_000, seed).low).all() for seed in range(5))
    assert known.may_have(random_numbers(100_000, 9).low).mean() < 0.01


# The index over a real table.


class Indexed:
    """A table with some rows, and indexes opened on it."""

    def __init__(self, folder: Path) -> None:
        self.setting = Setting(folder)
        self.folder = folder / "index"
        self.reports = Reports()
        self._names = iter(f"{number:04d}" for number in range(10_000))

    def load(self, *ids: str) -> None:
        self.setting.log.append(as_sent(*(event(each) for each in ids)))
        self.setting.load_all()

    def table(self) -> LakeTable:
        return open_tables(self.setting.lake, LOG_ID, 100, self.reports, create=True)["events"]

    def index(self, log_id: str = LOG_ID, flush_identities: int = 100) -> IdentityIndex:
        index = IdentityIndex(self.folder, log_id, MIB, self.reports, lambda: next(self._names), flush_identities)
        index.open(self.table(), [0])
        return index

    def identities(self) -> Identities:
        raw = [bytes(row[0]) for row in self.setting.rows("events", "identity")]
        array = np.frombuffer(b"".join(raw), "<u8").reshape(-1, 2)
        return Identities(array[:, 0].copy(), array[:, 1].copy())

    def made_anew(self) -> bool:
        return self.reports.tells("made anew")


@pytest.fixture
def indexed(tmp_path: Path) -> Indexed:
    indexed = Indexed(tmp_path)
    indexed.load("a", "b", "c")
    return indexed


def assert_exact(index: IdentityIndex, indexed: Indexed) -> None:
    identities = indexed.identities()
    assert index.count == len(identities.low)
    assert not index.find_new(identities).mask.any()
    assert index.find_new(random_numbers(1000)).mask.all()


def test_what_was_flushed_is_not_read_again(indexed: Indexed) -> None:
    indexed.reports.sentences.clear()
    assert_exact(indexed.index(), indexed)
    assert not indexed.made_anew()


def test_rows_that_came_after_the_flush_are_caught_up(indexed: Indexed) -> None:
    manifest = (indexed.folder / MANIFEST).read_bytes()
    runs = {path: path.read_bytes() for path in indexed.folder.glob("*.run")}
    indexed.load("d", "e")
    for path in indexed.folder.iterdir():
        path.unlink()
    (indexed.folder / MANIFEST).write_bytes(manifest)
    for path, data in runs.items():
        path.write_bytes(data)
    indexed.reports.sentences.clear()
    index = indexed.index()
    assert index.count == 5
    assert_exact(index, indexed)
    assert not indexed.made_anew()


def lose(indexed: Indexed) -> None:
    for path in indexed.folder.iterdir():
        path.unlink()


def lose_manifest(indexed: Indexed) -> None:
    (indexed.folder / MANIFEST).unlink()


def lose_run(indexed: Indexed) -> None:
    next(indexed.folder.glob("*.run")).unlink()


def tear_manifest(indexed: Indexed) -> None:
    path = indexed.folder / MANIFEST
    path.write_bytes(path.read_bytes()[:-10])


def empty_manifest(indexed: Indexed) -> None:
    (indexed.folder / MANIFEST).write_bytes(b"")


def tear_run(indexed: Indexed) -> None:
    path = next(indexed.folder.glob("*.run"))
    path.write_bytes(path.read_bytes()[:-1])


def change_run(indexed: Indexed) -> None:
    path = next(indexed.folder.glob("*.run"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")


@pytest.mark.parametrize("harm", [lose, lose_manifest, lose_run, tear_manifest, empty_manifest, tear_run, change_run])
def test_a_damaged_index_is_made_anew(indexed: Indexed, harm: Callable[[Indexed], None]) -> None:
    harm(indexed)
    indexed.reports.sentences.clear()
    assert_exact(indexed.index(), indexed)
    assert indexed.made_anew()


def test_an_index_ahead_of_its_table_is_made_anew(indexed: Indexed) -> None:
    newest = indexed.setting.lake / "events" / "_delta_log" / f"{1:020d}.json"
    newest.unlink()
    assert_exact(indexed.index(), indexed)
    assert indexed.made_anew()


def test_an_index_of_a_later_version_is_made_anew_even_at_the_same_positions(indexed: Indexed) -> None:
    path = indexed.folder / MANIFEST
    manifest = json.decode(path.read_bytes())
    manifest["coverage"]["version"] += 1
    path.write_bytes(json.encode(manifest))
    assert_exact(indexed.index(), indexed)
    assert indexed.made_anew()
    # Not closed, as after a kill; and yet the old manifest is gone.
    indexed.reports.sentences.clear()
    assert_exact(indexed.index(), indexed)
    assert not indexed.made_anew()


def test_what_comes_while_a_flush_is_under_way_is_not_covered_by_it(indexed: Indexed) -> None:
    index = indexed.index()
    runs = index.begin_flush() or [make_run(random_numbers(0))]
    index.add(index.find_new(random_numbers(10)), indexed.table(), {0: 99})
    assert index.count == 13
    index.end_flush(index.store.write(runs))
    assert index.count == 13
    assert not index.find_new(random_numbers(10)).mask.any()
    coverage = json.decode((indexed.folder / MANIFEST).read_bytes())["coverage"]
    assert coverage["positions"] == {"0": 1}


def test_the_index_of_another_log_is_made_anew(indexed: Indexed) -> None:
    assert_exact(indexed.index(log_id="another"), indexed)
    assert indexed.made_anew()


def test_a_large_table_is_read_in_parts_that_go_to_files(indexed: Indexed) -> None:
    for number in range(6):
        indexed.load(*(f"{number}-{each}" for each in range(120)))
    lose(indexed)
    index = indexed.index()
    assert len(index.store.files) > 1
    assert_exact(index, indexed)
    indexed.reports.sentences.clear()
    assert_exact(indexed.index(), indexed)
    assert not indexed.made_anew()


def test_merging_run_files_keeps_every_identity(indexed: Indexed) -> None:
    index = indexed.index()
    table = indexed.table()
    held = [random_numbers(200, seed) for seed in range(9)]
    for each in held:
        index.add(index.find_new(each), table, {0: 1})
        index.flush()
    names = index.store.merge_due()
    assert len(names) == 8
    index.exchange(names, index.store.merge_files(names))
    assert not any(index.find_new(each).mask.any() for each in held)
    assert {path.name for path in indexed.folder.glob("*.run")} == set(index.store.files)
    assert not any(indexed.index().find_new(each).mask.any() for each in held)


def test_copies_within_a_load_count_once(indexed: Indexed) -> None:
    index = indexed.index()
    same_low = numbers([(7, 1), (7, 2), (7, 1), (8, 1), (7, 2)])
    assert index.find_new(same_low).mask.tolist() == [True, True, False, True, False]
