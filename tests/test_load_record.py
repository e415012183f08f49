"""The record of loads: what watchers learn of each load, whatever happens to its writer or its file."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kixo.load_record import (
    CAPACITY,
    COPY,
    STATE_AT,
    WORKERS_MAX,
    Copies,
    EventPlace,
    Loaded,
    LoadRecord,
    read_loads,
)
from kixo.log import REPLAYS
from tests.loading import LOG_ID, NOW_US, Setting, as_sent, event, judged

OTHER_LOG_ID = "f" * 32


def copies(*places: EventPlace) -> Copies:
    return np.array([(offset, partition, index) for partition, offset, index in places], COPY)


def opened(path: Path, positions: dict[int, int] | None = None, log_id: str = LOG_ID) -> LoadRecord:
    return LoadRecord(path, log_id, positions or {}, NOW_US)


def read(path: Path, since: int | None = None) -> Loaded:
    loaded = read_loads(path, since)
    assert loaded is not None
    return loaded


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "loads"


@pytest.fixture
def record(path: Path) -> Iterator[LoadRecord]:
    with closing(opened(path)) as record:
        yield record


def test_a_reader_is_told_of_each_copy_once(record: LoadRecord, path: Path) -> None:
    first = read(path)
    assert (first.log_id, first.positions, first.copies, first.missed) == (LOG_ID, {}, [], 0)
    record.note({0: 5, 1: 9}, copies((0, 4, 7), (1, 8, 0)))
    second = read(path, first.next)
    assert second.positions == {0: 5, 1: 9}
    assert second.copies == [(0, 4, 7), (1, 8, 0)]
    record.note({1: 12}, copies())
    third = read(path, second.next)
    assert (third.positions, third.copies, third.missed) == ({0: 5, 1: 12}, [], 0)
    assert read(path).copies == second.copies


@given(st.lists(st.integers(0, 2 * CAPACITY), max_size=6), st.integers(0, 5))
def test_the_ring_holds_the_newest_and_says_how_many_it_lost(
    tmp_path_factory: pytest.TempPathFactory, loads: list[int], seen: int
) -> None:
    path = tmp_path_factory.mktemp("record") / "loads"
    found: list[int] = []
    with closing(opened(path)) as record:
        before, since = 0, read(path).next
        for number, count in enumerate(loads):
            numbers = np.arange(len(found), len(found) + count)
            noted = np.zeros(count, COPY)
            noted["offset"] = numbers
            if number == seen:
                before, since = len(found), read(path).next
            record.note({0: number + 1}, noted)
            found += numbers.tolist()
    loaded = read(path, since)
    expected = found[before:][-CAPACITY:]
    assert [offset for _, offset, _ in loaded.copies] == expected
    assert loaded.missed == len(found) - before - len(expected)


def test_while_a_load_is_written_down_nothing_is_told(record: LoadRecord, path: Path) -> None:
    record.note({0: 5}, copies((0, 4, 7)))
    whole = path.read_bytes()
    torn = bytearray(whole)
    torn[STATE_AT] += 1
    path.write_bytes(torn)
    assert read_loads(path) is None
    path.write_bytes(whole)
    assert read(path).positions == {0: 5}


def test_a_writer_that_was_killed_in_the_middle_is_followed_by_one_that_tells_of_it(path: Path) -> None:
    with closing(opened(path)) as record:
        record.note({0: 5}, copies((0, 4, 7)))
    since = read(path).next
    torn = bytearray(path.read_bytes())
    torn[STATE_AT] += 1
    path.write_bytes(torn)
    # The tables came to 6, and nobody knows what was a copy on the way.
    with closing(opened(path, {0: 6})):
        loaded = read(path, since)
    assert (loaded.positions, loaded.copies, loaded.missed) == ({0: 6}, [], 1)


def test_a_restart_with_nothing_in_between_loses_nothing(path: Path) -> None:
    with closing(opened(path)) as record:
        record.note({0: 5}, copies((0, 4, 7)))
    since = read(path).next
    with closing(opened(path, {0: 5})) as record:
        assert read(path).copies == [(0, 4, 7)]
        record.note({0: 6}, copies((0, 5, 0)))
    loaded = read(path, since)
    assert (loaded.copies, loaded.missed) == ([(0, 5, 0)], 0)


def test_another_log_begins_with_its_own_positions(path: Path) -> None:
    with closing(opened(path)) as record:
        record.note({0: 500, 1: 7}, copies((0, 4, 7)))
    with closing(opened(path, {0: 2}, OTHER_LOG_ID)):
        loaded = read(path)
    assert (loaded.log_id, loaded.positions, loaded.copies) == (OTHER_LOG_ID, {0: 2}, [])


@pytest.mark.parametrize("damage", ["short", "other layout", "gone"])
def test_a_file_that_is_no_record_is_empty_to_readers_and_made_anew_by_writers(path: Path, damage: str) -> None:
    opened(path).close()
    if damage == "short":
        os.truncate(path, 5000)
    elif damage == "gone":
        path.unlink()
    else:
        path.write_bytes(b"kixo loads 9" + path.read_bytes()[12:])
    assert read_loads(path) is None
    with closing(opened(path)) as record:
        record.note({0: 5}, copies((0, 4, 7)))
        assert read(path).copies == [(0, 4, 7)]


def test_partitions_beyond_those_there_can_be_are_left_out(record: LoadRecord, path: Path) -> None:
    record.note({WORKERS_MAX: 3, WORKERS_MAX - 1: 4}, copies())
    assert read(path).positions == {WORKERS_MAX - 1: 4}


def test_replays_have_a_position_like_any_worker(path: Path) -> None:
    with closing(opened(path, {REPLAYS: 3})) as record:
        record.note({0: 1, REPLAYS: 5}, copies((REPLAYS, 4, 0)))
        assert read(path).positions == {0: 1, REPLAYS: 5}
        assert read(path).copies[-1] == (REPLAYS, 4, 0)


# What the loader writes into it.


def test_the_loader_tells_which_events_were_copies_and_how_far_it_came(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.log.append(as_sent(event("a"), event("b"), event("a")))
    setting.log.append(judged({0: event(), 3: event(event_name="x")}, [1, 2]), 1)
    setting.load_all()
    loaded = read(tmp_path / "loads")
    assert (loaded.log_id, loaded.positions) == (LOG_ID, {0: 1, 1: 1})
    assert loaded.copies == [(0, 0, 2)]
    setting.log.append(as_sent(event("c"), event("b")))
    setting.log.append(judged({2: event(), 5: event(event_name="x")}, [1]), 1)
    setting.load_all()
    later = read(tmp_path / "loads", loaded.next)
    assert later.positions == {0: 2, 1: 2}
    assert sorted(later.copies) == [(0, 1, 1), (1, 1, 2), (1, 1, 5)]
    stored = setting.rows("events", "log_partition, log_offset, log_index")
    assert {*loaded.copies, *later.copies} & set(stored) == set()
    assert len(stored) + 4 == 9


def test_a_record_that_cannot_be_written_costs_no_load(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    (tmp_path / "loads").mkdir()
    setting.log.append(as_sent(event("a")))
    setting.load_all()
    assert setting.rows("events", "event_id") == [("a",)]
    assert setting.reports.tells("could not be written down")
