import shutil
import threading
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from msgspec import json

from kixo import metric_file, metrics
from kixo.errors import DataFolderError
from kixo.lake.commit import CommitConflict, log_entry
from kixo.lake.read import open_table
from kixo.loader.instants import parse_column
from kixo.loader.load import STEPS
from kixo.loader.pieces import cut_pieces
from kixo.loader.requests import PlacedFrame
from kixo.log import Frame
from kixo.log.folder import ensure_log
from kixo.log.reader import LocalLogReader
from kixo.log.segment import pack_frame
from kixo.log.writer import LocalLogWriter
from kixo.stored import AS_SENT
from kixo.timestamp import format_us, parse_us
from tests.loading import (
    LOG_ID,
    NOW_US,
    Clock,
    Killed,
    MemoryLog,
    Setting,
    as_sent,
    event,
    judged,
    kill_after,
    reconcile,
    wait_for,
)

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


# What rows hold.


def test_every_member_has_its_column(setting: Setting) -> None:
    properties = {"referrer": "https://google.com", "é": [1, {"b": None}]}
    setting.log.append(
        as_sent(
            event("e1", timestamp="2026-04-08T13:58:20.1234567+02:00", properties=properties, unknown=1),
            event(event_name="Zwölf 🎉"),
            project="kx_proj_abc123",
            environment="staging",
            sent_at="2026-04-08T11:58:30Z",
        )
    )
    setting.load_all()
    instants = "epoch_us(timestamp), epoch_us(client_timestamp), epoch_us(sent_at), epoch_us(received_at)"
    columns = f"""date, project_id, environment, bundle_id, platform, event_type, event_name, device_id, session_id,
        {instants}, clock_rule, event_id, octet_length(identity), properties, log_partition, log_offset, log_index"""
    first, second = setting.rows("events", columns, "log_index")
    client_us = parse_us("2026-04-08T11:58:20.123456Z")
    sent_us = parse_us("2026-04-08T11:58:30Z")
    owner = (date(2026, 4, 8), "kx_proj_abc123", "staging", "b", "ios")
    times = (client_us + 90 * SECOND_US, client_us, sent_us, NOW_US, "behind")
    text = json.encode(properties).decode()
    assert first == (*owner, "tap", "Button", "d", "s", *times, "e1", 16, text, 0, 0, 0)
    assert second[6] == "Zwölf 🎉"
    assert second[13:] == ("clamped", None, 16, "{}", 0, 0, 1)


def test_rejected_events_are_kept_with_their_reason(setting: Setting) -> None:
    setting.log.append(judged({0: event(), 3: event(event_name="x")}, [1, 2]))
    setting.load_all()
    columns = "date, project_id, epoch_us(sent_at), field, code, event, log_partition, log_offset, log_index"
    day = (date(2026, 4, 8), "p", NOW_US, "timestamp", "invalid_timestamp", '{"x":1}', 0, 0)
    assert setting.rows("rejected", columns) == [(*day, 1), (*day, 2)]
    assert setting.rows("events", "log_index") == [(0,), (3,)]
    reconcile(setting)


def test_null_properties_are_none_at_all(setting: Setting) -> None:
    setting.log.append(as_sent(event("a", properties=None), event("b"), event("c", properties={"a": None})))
    setting.load_all()
    assert setting.rows("events", "properties", "log_index") == [("{}",), ("{}",), ('{"a":null}',)]


def test_the_day_is_that_of_the_corrected_time_and_old_ones_share_one(setting: Setting) -> None:
    def ago(days: float) -> dict[str, Any]:
        return event(timestamp=format_us(NOW_US - round(days * DAY_US)))

    setting.log.append(as_sent(ago(0), ago(1), ago(400), ago(400.1), event(timestamp="0001-01-01"), ago(-5)))
    setting.load_all()
    days = [row[0].isoformat() for row in setting.rows("events", "date", "log_index")]
    assert days == ["2026-04-08", "2026-04-07", "2025-03-04", "1970-01-01", "1970-01-01", "2026-04-08"]
    assert min(setting.rows("events", "client_timestamp::VARCHAR"))[0].startswith("0001-01-01")


def test_files_are_sorted_by_project(setting: Setting) -> None:
    for number in range(60):
        events = [event(f"{number}-{each}") for each in range(number * 40 if number % 7 == 0 else 2)]
        setting.log.append(as_sent(*events, project=f"project {number % 5}"), number % 2)
    setting.load_all()
    (path,) = open_table(setting.lake, "events").paths
    projects = pa.parquet.read_table(path, partitioning=None).column("project_id").to_pylist()
    # Small projects follow, sorted among themselves.
    changes = sum(one != other for one, other in pairwise(projects))
    assert changes <= 2 * 5
    reconcile(setting)


def test_pieces_are_in_order_of_projects_and_then_of_the_log() -> None:
    frames = [
        PlacedFrame(0, as_sent(*[event("x")] * 1200, project=f"project {number % 3}")._replace(offset=number))
        for number in range(9)
    ]
    pieces = cut_pieces(frames, lambda _: None)
    places = [(piece.owner[0], [request.offset for request in piece.requests]) for piece in pieces]
    assert places == [(f"project {project}", [project + 3 * turn]) for project in range(3) for turn in range(3)]


shapes = st.sampled_from(
    [
        "2026-04-08T12:00:00Z",
        "2026-04-08T12:00:00.123Z",
        "2026-04-08T12:00:00.123456789Z",
        "1969-12-31T23:59:59.9999999Z",
        "1600-02-29T23:59:59.9999999+02:00",
        "2026-04-08t12:00:00z",
        "2026-04-08 12:00:00,5+0200",
        "2026-04-08T12-02",
        "2026-04-08T12:30",
        "2026-04-08",
        "20260408T120000Z",
        "2026-W15-3T12:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59.999999-14:00",
        "9999-12-31T23:59:59.999999999",
    ]
)
two = st.integers(0, 59).map(lambda number: f"{number:02d}")
built = st.builds(
    lambda day, t, hour, minute, second, fraction, zone: f"{day}{t}{hour:02d}:{minute}:{second}{fraction}{zone}",
    st.dates().map(str),
    st.sampled_from(["T", "t", " "]),
    st.integers(0, 23),
    two,
    two,
    st.just("") | st.text("0123456789", min_size=1, max_size=9).map(lambda digits: "." + digits),
    st.sampled_from(["", "Z", "z", "+02:00", "-0930", "+05", "-23:59", "-00:00"]),
)


@given(st.lists(shapes | built, max_size=100), st.integers(0, 3))
def test_columns_of_times_are_read_as_single_times_are(texts: list[str], repeat: int) -> None:
    texts = texts * (repeat + 1)
    found = parse_column(pa.array(texts, pa.string()), lambda place: pytest.fail(texts[place]))
    assert found.tolist() == [parse_us(text) for text in texts]


@given(st.integers(-(9 * 10**9), 9 * 10**9), st.integers(0, 10**9 - 1), st.integers(7, 9))
def test_nanoseconds_are_cut_and_never_rounded(second: int, nanosecond: int, digits: int) -> None:
    start = format_us(second * SECOND_US)[:19]
    texts = [f"{start}.{nanosecond:09d}"[: 20 + digits] + "Z"] * 40
    found = parse_column(pa.array(texts), lambda place: pytest.fail(texts[place]))
    assert found.tolist() == [parse_us(texts[0])] * 40


def test_a_time_that_cannot_be_read_costs_no_event() -> None:
    texts = ["2026-04-08T12:00:00Z"] * 200
    texts[7] = texts[150] = "yesterday"
    found = parse_column(pa.array(texts), lambda place: -place)
    assert (found[7], found[150], found[8]) == (-7, -150, NOW_US)
    assert np.count_nonzero(found == NOW_US) == 198


# Copies.


def test_a_copy_is_stored_once_however_late_it_comes(setting: Setting) -> None:
    early = [event("a"), event(event_name="without id")]
    setting.log.append(as_sent(*early, sent_at="2026-04-08T12:00:00Z"))
    setting.load_all()
    week = 7 * DAY_US
    setting.log.append(as_sent(*early, sent_at="2026-04-08T12:00:00Z", received_at_us=NOW_US + week), 1)
    setting.log.append(as_sent(event("a", timestamp="2026-04-01T00:00:00Z"), event("b")), 1)
    setting.load_all()
    assert setting.rows("events", "event_id, log_partition") == [("a", 0), ("b", 1), (None, 0)]
    reconcile(setting)


def test_copies_in_one_load_are_stored_once_and_the_first_is_kept(setting: Setting) -> None:
    setting.log.append(as_sent(event("a", event_name="first"), event("a", event_name="second")))
    setting.log.append(as_sent(event("a", event_name="third")), 1)
    setting.load_all()
    assert setting.rows("events", "event_name") == [("first",)]
    assert setting.rows("loads", "log_partition, received, stored, duplicate") == [(0, 2, 1, 1), (1, 1, 0, 1)]
    reconcile(setting)


def test_the_same_id_in_another_project_or_environment_is_another_event(setting: Setting) -> None:
    setting.log.append(as_sent(event("a"), project="one"))
    setting.log.append(as_sent(event("a"), project="two"))
    setting.log.append(as_sent(event("a"), project="two", environment="staging"))
    setting.load_all()
    assert len(setting.rows("events", "identity")) == 3


def test_a_load_of_nothing_but_copies_moves_the_position(setting: Setting) -> None:
    for _ in range(3):
        setting.log.append(as_sent(event("a")))
        setting.load_all()
    assert open_table(setting.lake, "events").position(LOG_ID, 0) == 3
    assert len(open_table(setting.lake, "events").paths) == 1
    reconcile(setting)


def test_a_batch_of_no_events_moves_the_position(setting: Setting) -> None:
    setting.log.append(as_sent())
    setting.load_all()
    assert open_table(setting.lake, "events").position(LOG_ID, 0) == 1
    reconcile(setting)


# Crashes.


def some_requests(log: MemoryLog, round_: int) -> None:
    for number in range(3):
        copy = event(f"{max(0, round_ - 1)}-{number}")
        log.append(as_sent(event(f"{round_}-{number}"), copy, event(event_name=f"{round_} {number}")), number % 2)
        log.append(judged({0: event(event_name=f"judged {round_} {number}")}, [1, 2]), number % 2)


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_after_any_step_loses_and_doubles_nothing(setting: Setting, step: str) -> None:
    some_requests(setting.log, 0)
    setting.load_all()
    some_requests(setting.log, 1)
    loader = setting.loader(kill_after(step))
    with pytest.raises(Killed):
        loader.run_once()
    # More came before the restart: it must not become part of the load that was begun.
    some_requests(setting.log, 2)
    setting.load_all()
    reconcile(setting)
    assert len(setting.rows("events", "identity")) == 3 * 9


@given(st.lists(st.sampled_from(STEPS), max_size=4), st.integers(1, 12))
@examples(max_examples=10, deadline=None)
def test_any_number_of_kills_loses_and_doubles_nothing(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], events_max: int
) -> None:
    setting = Setting(tmp_path_factory.mktemp("kills"), load_events_max=events_max)
    for number, step in enumerate(steps):
        some_requests(setting.log, number)
        with pytest.raises(Killed):
            setting.loader(kill_after(step)).run_once()
    some_requests(setting.log, len(steps))
    setting.load_all()
    reconcile(setting)
    assert len(setting.rows("events", "identity")) == 9 * (len(steps) + 1)


@pytest.mark.parametrize("table", ["rejected", "loads", "events"])
def test_a_commit_torn_by_a_power_loss_is_loaded_again(setting: Setting, table: str) -> None:
    some_requests(setting.log, 0)
    loader = setting.loader(kill_after(table))
    with pytest.raises(Killed):
        loader.run_once()
    entry = setting.lake / table / log_entry(1)
    entry.write_bytes(entry.read_bytes()[:-40])
    setting.load_all()
    assert setting.reports.tells("moved aside")
    reconcile(setting)


def test_the_log_is_released_only_when_all_is_committed(setting: Setting) -> None:
    for step in STEPS:
        some_requests(setting.log, 0)
        with pytest.raises(Killed):
            setting.loader(kill_after(step)).run_once()
        view = open_table(setting.lake, "events")
        assert all(position <= view.position(LOG_ID, p) for p, position in setting.log.released.items())
    # Nothing is left to load, but the log still has to hear of it.
    setting.loader()
    assert setting.log.released == {p: frames[-1].offset + 1 for p, frames in setting.log.frames.items()}


def test_loads_are_bounded_and_lose_nothing(tmp_path: Path) -> None:
    setting = Setting(tmp_path, load_events_max=10)
    for number in range(20):
        setting.log.append(as_sent(*(event(f"{number}-{each}") for each in range(3))), number % 2)
    loader = setting.loader()
    results = []
    while (result := loader.run_once()).bytes:
        results.append(result)
    assert all(result.stored <= 10 for result in results)
    assert [result.more for result in results] == [True] * (len(results) - 1) + [False]
    reconcile(setting)


def test_partitions_that_have_nothing_take_no_share_of_a_load(tmp_path: Path) -> None:
    setting = Setting(tmp_path, load_events_max=10)
    for number in range(20):
        setting.log.append(as_sent(event(str(number))))
    setting.log.frames[7] = []
    loader = setting.loader()
    assert [loader.run_once().stored for _ in range(3)] == [10, 10, 0]
    # One in which something comes later gets its share then.
    for number in range(20, 40):
        setting.log.append(as_sent(event(str(number))), 7 * (number % 2))
    assert [loader.run_once().stored for _ in range(3)] == [10, 10, 0]
    reconcile(setting)


def test_a_log_that_was_begun_anew_is_read_from_its_start(setting: Setting) -> None:
    some_requests(setting.log, 0)
    setting.load_all()
    setting.log = MemoryLog(log_id="f" * 32)
    setting.log.append(as_sent(event("new"), event("0-0")))
    setting.load_all()
    assert ("new",) in setting.rows("events", "event_id")
    assert len(setting.rows("events", "identity")) == 10


def test_a_deleted_lake_is_filled_from_what_the_log_still_has(setting: Setting) -> None:
    some_requests(setting.log, 0)
    setting.load_all()
    setting.log.released.clear()
    shutil.rmtree(setting.lake)
    setting.load_all()
    reconcile(setting)


# Bad days.


def test_a_failed_load_is_repeated_from_the_tables(setting: Setting) -> None:
    failures = ["files", "events"]

    def fail(step: str) -> None:
        if failures and step == failures[0]:
            failures.pop(0)
            raise OSError(28, "No space left on device")

    some_requests(setting.log, 0)
    loader = setting.loader(fail)
    for _ in range(2):
        with pytest.raises(OSError, match="No space"):
            loader.run_once()
    loader.run_once()
    reconcile(setting)
    in_table = set(open_table(setting.lake, "events").paths)
    assert {str(path) for path in (setting.lake / "events").glob("date=*/*")} == in_table


def test_a_lake_that_vanishes_is_waited_for_and_not_begun_anew(setting: Setting) -> None:
    some_requests(setting.log, 0)
    loader = setting.loader()
    loader.run_once()
    setting.lake.rename(setting.folder / "away")
    some_requests(setting.log, 1)
    released = dict(setting.log.released)
    with pytest.raises(OSError, match="lake"):
        loader.run_once()
    with pytest.raises(DataFolderError, match="gone"):
        loader.run_once()
    assert setting.log.released == released
    shutil.rmtree(setting.lake, ignore_errors=True)
    (setting.folder / "away").rename(setting.lake)
    loader.run_once()
    reconcile(setting)


def test_another_writer_is_noticed_and_its_commit_kept(setting: Setting) -> None:
    loader = setting.loader()
    some_requests(setting.log, 0)
    setting.load_all()
    setting.log.released.clear()
    with pytest.raises(CommitConflict):
        loader.run_once()
    assert loader.run_once().bytes == 0
    reconcile(setting)


def test_a_frame_that_cannot_be_read_is_set_aside_and_fails_the_audit(setting: Setting) -> None:
    setting.log.append(as_sent(event("a")))
    setting.log.append(Frame(0, NOW_US, AS_SENT, 2, 0, b'{"project_id":"broken","batch":[{}]}'))
    setting.log.append(Frame(0, NOW_US, 9, 1, 0, b"\xff"))
    setting.log.append(as_sent(event("b")))
    setting.load_all()
    assert setting.rows("events", "event_id") == [("a",), ("b",)]
    assert setting.rows("loads", "project_id, received, stored") == [("", 1, 0), ("broken", 2, 0), ("p", 2, 2)]
    kept = {path.name: path.read_bytes() for path in (setting.lake / "quarantine").iterdir()}
    assert kept == {f"{LOG_ID}-0-{f.offset}.payload": f.payload for f in setting.log.frames[0][1:3]}
    assert setting.reports.tells("cannot be read")


def test_properties_that_are_not_utf8_are_set_aside(setting: Setting) -> None:
    frame = as_sent(event("a", properties={"x": "Z"}))
    setting.log.append(frame._replace(payload=frame.payload.replace(b'"Z"', b'"\xff"')))
    setting.log.append(as_sent(event("b")))
    setting.load_all()
    assert setting.rows("events", "event_id") == [("b",)]


# With the log as it is on disk.


def test_a_log_on_disk_is_loaded_whole_and_its_segments_go(tmp_path: Path) -> None:
    setting = Setting(tmp_path, load_events_max=5)
    folder = tmp_path / "log"
    ensure_log(folder)
    expected = []
    for partition in range(2):
        writer = LocalLogWriter(
            folder,
            partition,
            segment_bytes=1024,
            free_bytes_min=0,
            now_us=setting.clock,
            report=lambda sentence, _: pytest.fail(sentence),
        )
        for number in range(20):
            frame = as_sent(*(event(f"{partition} {number} {each}") for each in range(3)))
            packed = pack_frame(writer.next_offset(), NOW_US, AS_SENT, 3, 0, [frame.payload])
            writer.commit([b"".join(packed)])
            expected += [f"{partition} {number} {each}" for each in range(3)]
        writer.close()
    before = len(list(folder.glob("*/*.log")))
    setting.log = LocalLogReader(folder, lambda sentence, _: pytest.fail(sentence))  # type: ignore[assignment]
    setting.load_all()
    setting.log.close()
    assert [row[0] for row in setting.rows("events", "event_id")] == sorted(expected)
    assert before > 10
    assert len(list(folder.glob("*/*.log"))) == 2


# The life of a loader.


class StoppingClock(Clock):
    """A clock that counts how often it is asked, and stops a loader then."""

    def __init__(self, stop: threading.Event, calls: int) -> None:
        super().__init__()
        self._stop, self._calls = stop, calls

    def __call__(self) -> int:
        self._calls -= 1
        if not self._calls:
            self._stop.set()
        return self.now_us


def value(setting: Setting, metric: metrics.Metric, labels: tuple[str, ...] = ()) -> float:
    return metric_file.read(setting.folder / "metrics")[metric_file.slots()[metric.name, labels]]


def test_a_loader_runs_until_it_is_stopped(tmp_path: Path) -> None:
    setting = Setting(tmp_path, load_interval_s=0.0)
    stop = threading.Event()
    setting.clock = StoppingClock(stop, 40)
    some_requests(setting.log, 0)
    loader = setting.loader()
    loader.run(stop)
    loader.close()
    reconcile(setting)


def test_a_loader_reports_a_failure_and_goes_on(tmp_path: Path) -> None:
    setting = Setting(tmp_path, load_interval_s=0.0)
    stop = threading.Event()

    def fail_once(step: str) -> None:
        if step == "files" and not setting.reports.tells("repeated"):
            raise OSError(28, "No space left on device")
        if step == "index":
            stop.set()

    some_requests(setting.log, 0)
    loader = setting.loader(fail_once)
    loader.run(stop)
    assert setting.reports.tells("A load failed and is repeated")
    assert value(setting, metrics.LOAD_FAILURES) == 1
    reconcile(setting)


class OneTurn(threading.Event):
    """Ends a loader when it comes to rest, and remembers for how long it wanted to."""

    wanted_s: float | None = None

    def wait(self, timeout: float | None = None) -> bool:
        self.wanted_s = timeout
        self.set()
        return True


def test_a_clock_that_is_set_back_holds_up_no_load(tmp_path: Path) -> None:
    setting = Setting(tmp_path, load_interval_s=0.25)
    stop = OneTurn()
    setting.timer_s = lambda: 0.0  # type: ignore[method-assign]

    def set_back(_: str) -> None:
        setting.clock.now_us -= DAY_US

    some_requests(setting.log, 0)
    setting.loader(set_back).run(stop)
    assert stop.wanted_s == 0.25
    assert value(setting, metrics.LOAD_LAG_SECONDS) == 0
    reconcile(setting)


def test_while_loads_fail_the_lag_grows_whatever_the_clock_does(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    seconds = iter(range(1000, 2000))
    setting.timer_s = lambda: float(next(seconds))  # type: ignore[method-assign]

    def fail(_: str) -> None:
        setting.clock.now_us -= DAY_US
        raise OSError(28, "No space left on device")

    some_requests(setting.log, 0)
    setting.loader(fail).run(OneTurn())
    assert value(setting, metrics.LOAD_LAG_SECONDS) > 0


def test_a_loader_that_cannot_write_its_index_ends_in_order_and_the_next_one_knows_every_copy(
    setting: Setting,
) -> None:
    some_requests(setting.log, 0)
    loader = setting.loader()
    loader.run_once()
    shutil.rmtree(setting.folder / "index")
    loader.close()
    assert setting.reports.tells("could not be written")
    some_requests(setting.log, 0)
    setting.load_all()
    reconcile(setting)


def test_metrics_tell_what_became_of_events(setting: Setting) -> None:
    some_requests(setting.log, 0)
    some_requests(setting.log, 1)
    setting.clock.now_us = NOW_US + 3 * SECOND_US
    setting.loader().run_once()
    outcomes = [value(setting, metrics.EVENTS, (name,)) for name in ("stored", "duplicate", "rejected_stored")]
    assert outcomes == [18, 6, 12]
    assert value(setting, metrics.LOAD_COMMITS) == 1
    assert value(setting, metrics.LOAD_LAG_SECONDS) == 3
    assert value(setting, metrics.IDENTITIES) == 18
    assert value(setting, metrics.TABLE_FILES) == 1
    assert value(setting, metrics.LOG_BACKLOG_BYTES) == 0


def test_files_stay_few_over_many_loads_and_none_is_lost(tmp_path: Path) -> None:
    setting = Setting(tmp_path, compaction_files_min=4, checkpoint_commits=10, file_grace_s=0.0)
    loader = setting.loader()
    for number in range(80):
        setting.log.append(as_sent(event(str(number))))
        loader.run_once()
    # Merges run beside the loads, in a thread that gives way to all others: on a busy machine they come later.
    wait_for(lambda: loader.table_files < 10, loader)
    loader.close()
    assert len(open_table(setting.lake, "events").paths) < 10
    assert len(list((setting.lake / "events" / "_delta_log").iterdir())) < 50
    assert value(setting, metrics.COMPACTIONS) > 0
    assert sorted(int(row[0]) for row in setting.rows("events", "event_id")) == list(range(80))
    reconcile(setting)
    setting.log.append(as_sent(*(event(str(number)) for number in range(80))))
    setting.load_all()
    reconcile(setting)


def test_a_merge_that_fails_holds_up_no_load_and_is_tried_again_later(tmp_path: Path) -> None:
    setting = Setting(tmp_path, compaction_files_min=2, file_grace_s=0.0)
    loader = setting.loader()
    damaged: Path | None = None
    for number in range(12):
        setting.log.append(as_sent(event(f"e{number}")))
        loader.run_once()
        if damaged is None and (found := sorted(setting.lake.glob("events/**/*.parquet"))):
            damaged, whole = found[0], found[0].read_bytes()
            damaged.write_bytes(b"PAR1")
    wait_for(lambda: setting.reports.tells("Merging small table files failed"), loader)
    assert damaged is not None
    assert len(setting.rows("loads", "received")) == 12
    damaged.write_bytes(whole)
    setting.clock.now_us += 61_000_000
    files = loader.table_files
    wait_for(lambda: loader.table_files < files, loader)
    assert len(setting.rows("events", "event_id")) == 12
