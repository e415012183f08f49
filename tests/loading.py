"""What the tests of the lake and the loader share: a log in memory, a report that remembers, and a loader on both."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count, pairwise
from pathlib import Path
from typing import Any, Protocol

import duckdb
from msgspec import json

from kixo.lake.read import open_table
from kixo.loader.loader import Loader, Surroundings
from kixo.log import Frame
from kixo.metric_file import MetricFile
from kixo.settings import Settings
from kixo.stored import AS_SENT, JUDGED, JudgedBatch, JudgedEvent, RejectedEvent, encode_judged
from kixo.timestamp import parse_us

LOG_ID = "0123456789abcdef0123456789abcdef"
NOW_US = parse_us("2026-04-08T12:00:00Z")


@dataclass
class MemoryLog:
    """A log that keeps its frames in a list, and remembers what was released."""

    log_id: str = LOG_ID
    frames: dict[int, list[Frame]] = field(default_factory=lambda: {0: []})
    released: dict[int, int] = field(default_factory=dict)

    def partitions(self) -> list[int]:
        return sorted(self.frames)

    def read(self, partition: int, position: int, bytes_max: int) -> list[Frame]:
        assert position >= self.released.get(partition, 0), "read of what was released"
        found: list[Frame] = []
        for frame in self.frames[partition]:
            if frame.offset >= position and (not found or bytes_max >= len(frame.payload)):
                bytes_max -= len(frame.payload)
                found.append(frame)
        return found

    def backlog_bytes(self, partition: int, position: int) -> int:
        return sum(len(frame.payload) for frame in self.frames[partition] if frame.offset >= position)

    def end_position(self, partition: int) -> int:
        return self.frames[partition][-1].offset + 1 if self.frames[partition] else 0

    def close(self) -> None:
        pass

    def release(self, partition: int, position: int) -> int:
        self.released[partition] = position
        return 0

    def append(self, frame: Frame, partition: int = 0) -> None:
        frames = self.frames.setdefault(partition, [])
        frames.append(frame._replace(offset=self.end_position(partition)))


@dataclass
class Reports:
    """A report that remembers the sentences."""

    sentences: list[str] = field(default_factory=list)

    def info(self, event: str, **_: Any) -> None:
        self.sentences.append(event)

    warning = error = info

    def tells(self, words: str) -> bool:
        return any(words in sentence for sentence in self.sentences)


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now_us: int = NOW_US

    def __call__(self) -> int:
        return self.now_us


class Setting:
    """A folder with a lake, an index and a log, and loaders on them, one at a time."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.lake = folder / "lake"
        self.log = MemoryLog()
        self.reports = Reports()
        self.clock = Clock()
        self.settings = Settings(**settings)
        self._ids: Iterator[int] = count()

    def loader(self, step: Callable[[str], None] = lambda _: None) -> Loader:
        """A new loader, opened. It is never closed: as after a kill, what it did not write is lost."""
        loader = Loader(
            Surroundings(
                self.lake,
                self.folder / "index",
                self.log,
                self.settings,
                self.clock,
                MetricFile(self.folder / "metrics"),
                self.reports,
                lambda: f"{next(self._ids):08d}",
                step,
                self.timer_s,
                self.folder / "loads",
            )
        )
        loader.open()
        return loader

    def timer_s(self) -> float:
        """A timer that runs as the clock does, unless a test takes another."""
        return self.clock() / 1e6

    def load_all(self) -> None:
        """Loads until the log has nothing more."""
        loader = self.loader()
        while loader.run_once().bytes:
            pass
        loader.close()

    def rows(self, table: str, columns: str, order: str = "ALL") -> list[tuple[Any, ...]]:
        """Some columns of a table's rows."""
        return rows_of(self.lake, table, columns, order)


def rows_of(lake: Path, table: str, columns: str, order: str = "ALL") -> list[tuple[Any, ...]]:
    """Some columns of the rows of a table in `lake`."""
    paths = list(open_table(lake, table).paths)
    if not paths:
        return []
    query = f"SELECT {columns} FROM read_parquet(?, hive_partitioning = true) ORDER BY {order}"
    with duckdb.connect() as connection:
        return connection.execute(query, [paths]).fetchall()


def event(event_id: str | None = None, **members: Any) -> dict[str, Any]:
    """An event as a client sends it."""
    return {
        "event_type": "tap",
        "event_name": "Button",
        "device_id": "d",
        "session_id": "s",
        "timestamp": "2026-04-08T11:59:00Z",
        **({} if event_id is None else {"event_id": event_id}),
        **members,
    }


def as_sent(*events: dict[str, Any], received_at_us: int = NOW_US, project: str = "p", **members: Any) -> Frame:
    """A frame of a request all of whose events were taken."""
    batch = {"project_id": project, "bundle_id": "b", "platform": "ios", "batch": events, **members}
    return Frame(0, received_at_us, AS_SENT, len(events), 0, json.encode(batch))


def judged(
    taken: dict[int, dict[str, Any]], refused: list[int], project: str = "p", received_at_us: int = NOW_US
) -> Frame:
    """A frame of a request of which the events at the places `refused` were not taken."""
    events = [
        JudgedEvent(index, e["event_type"], e["event_name"], e["device_id"], e["session_id"], e["timestamp"])
        for index, e in taken.items()
    ]
    rejected = [RejectedEvent(index, "timestamp", "invalid_timestamp", "No.", '{"x":1}') for index in refused]
    batch = JudgedBatch(project, "production", "b", "ios", "2026-04-08T12:00:00Z", events, rejected)
    return Frame(0, received_at_us, JUDGED, len(taken), len(refused), encode_judged(batch))


class Killed(BaseException):
    """Stands for a kill -9: nothing after it runs."""


def kill_after(step: str) -> Callable[[str], None]:
    def told(done: str) -> None:
        if done == step:
            raise Killed

    return told


class Reconciled(Protocol):
    """Tables, and the log that they were filled from."""

    @property
    def lake(self) -> Path: ...

    @property
    def log(self) -> MemoryLog: ...

    def rows(self, table: str, columns: str, order: str = "ALL") -> list[tuple[Any, ...]]: ...


def reconcile(setting: Reconciled) -> None:
    """What every audit asks for: each event once, and a ledger that adds up, without gaps or overlaps."""
    events = setting.rows("events", "project_id, identity, log_partition, log_offset, log_index")
    assert len({row[:2] for row in events}) == len(events)
    rejected = setting.rows("rejected", "log_partition, log_offset, log_index")
    assert len(set(rejected)) == len(rejected)
    columns = "log_partition, first_offset, end_offset, received, stored, duplicate, rejected"
    loads = setting.rows("loads", columns)
    assert all(row[3] == sum(row[4:]) for row in loads)
    assert sum(row[4] for row in loads) == len(events)
    assert sum(row[6] for row in loads) == len(rejected)
    in_log = [frame for frames in setting.log.frames.values() for frame in frames]
    assert sum(row[3] for row in loads) == sum(frame.accepted + frame.rejected for frame in in_log)
    for partition, frames in setting.log.frames.items():
        if not frames:
            continue
        spans = sorted({row[1:3] for row in loads if row[0] == partition})
        assert all(one[1] == other[0] for one, other in pairwise(spans))
        end = frames[-1].offset + 1
        assert (spans[0][0], spans[-1][1]) == (0, end)
        assert {open_table(setting.lake, t).position(LOG_ID, partition) for t in ("events", "loads", "rejected")} == {
            end
        }


def wait_for(condition: Callable[[], bool], loader: Loader, runs_max: int = 2000) -> None:
    """Lets the loader turn until its merges, which run in a thread, have got there."""
    for _ in range(runs_max):
        loader.run_once()
        if condition():
            return
        threading.Event().wait(0.005)
    raise AssertionError("the merges did not get there")
