"""Ninety days of made-up events in a real lake, for measuring: written by the lake's own code, in a few minutes.

Devices come back, with a few of them much busier than most; sessions have 12 events on average, a few of them a long
pause; days have nights; some events arrive hours late. Each row of a table is as the loader would have made it, but for
`identity`, which is random. Past days lie in merged files of up to 600,000 rows, the last one in fresh small ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kixo.lake.commit import TableFile
from kixo.lake.parquet import FRESH, MERGED, FileStyle, write_file
from kixo.lake.schema import EVENTS, REJECTED, Table
from kixo.lake.table import LakeTable, open_tables
from kixo.timestamp import DAY_US

LOG_ID = "0" * 32
EVENTS_PER_SESSION = 12
GAP_S = 25.0
PAUSE_SHARE = 0.01
PAUSE_S = 2400.0
LATE_SHARE = 0.03
REJECTED_SHARE = 0.005
FILE_ROWS_MAX = 600_000
LAST_DAY_FILES = 24

TYPES = ("screen_view", "page_view", "tap", "click", "session_start", "scroll_depth", "network", "error", "custom")
TYPE_WEIGHTS = (0.2, 0.16, 0.2, 0.12, 0.08, 0.08, 0.1, 0.01, 0.05)
NAMES = {"screen_view": 60, "page_view": 800, "tap": 120, "click": 150, "custom": 80, "network": 200, "error": 300}
APPS = (("ios", "com.example.shop"), ("android", "com.example.shop.android"), ("web", "shop.example.com"))
CODES = ("invalid_timestamp", "missing", "too_long", "wrong_type")

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Stream:
    """The events of one environment of a project: how many on all days together, and from how many devices."""

    project_id: str
    environment: str
    events: int
    devices: int


def streams(events: int) -> tuple[Stream, ...]:
    """Several projects, of which the production of the largest has exactly about `events`."""
    return (
        Stream("kx_proj_large", "production", events, max(events // 60, 1)),
        Stream("kx_proj_large", "staging", events // 33, max(events // 3000, 1)),
        Stream("kx_proj_middle", "production", events // 7, max(events // 400, 1)),
        Stream("kx_proj_small", "production", events // 50, max(events // 2000, 1)),
    )


class Report:
    """Takes what the lake says and says nothing."""

    def info(self, event: str, **members: Any) -> None:
        pass

    warning = error = info


def fill(lake: Path, events: int, days: int, end_us: int, seed: int = 1) -> int:
    """Writes the days before `end_us` (microseconds since 1970) into a new lake; returns how many events they are."""
    random = np.random.default_rng(seed)
    tables = open_tables(lake, LOG_ID, 1_000_000, Report(), create=True)
    chosen = streams(events)
    devices = [_texts(random, stream.devices) for stream in chosen]
    first = end_us // DAY_US - days
    carried: dict[int, list[pa.Table]] = {}
    written = 0
    for day in range(first, end_us // DAY_US + 1):
        for stream, known in zip(chosen, devices, strict=True):
            for at, rows in _split(_day_rows(random, stream, known, day, day - first, days), end_us):
                carried.setdefault(at, []).append(rows)
        written += _write(tables["events"], day, carried.pop(day, []), day == end_us // DAY_US)
        _write(tables["rejected"], day, [_rejections(random, stream, day, days) for stream in chosen], False)
    for table in tables.values():
        table.checkpoint()
    return written


def _texts(random: np.random.Generator, count: int) -> pa.Array:
    """Distinct texts of 36 characters, as the SDKs' identifiers are."""
    digits = random.integers(0, 16, (count, 36), np.uint8)
    letters = np.frombuffer(b"0123456789abcdef", np.uint8)[digits]
    letters[:, [8, 13, 18, 23]] = ord("-")
    offsets = np.arange(0, (count + 1) * 36, 36, dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), count, [None, pa.py_buffer(offsets), pa.py_buffer(letters.tobytes())])


def _day_rows(
    random: np.random.Generator, stream: Stream, devices: pa.Array, day: int, age: int, days: int
) -> pa.Table:
    sessions = max(1, stream.events // days // EVENTS_PER_SESSION)
    lengths = random.geometric(1 / EVENTS_PER_SESSION, sessions)
    owner = np.repeat(np.arange(sessions), lengths)
    # The population grows over the days, and within it a few devices are much busier than most.
    present = int(len(devices) * (0.3 + 0.7 * (age + 1) / (days + 1)))
    device = (present * random.random(sessions) ** 2.5).astype(np.int64)
    timestamp = _timestamps(random, lengths, owner, day)
    received = timestamp + (random.exponential(4e6, len(owner))).astype(np.int64)
    late = random.random(len(owner)) < LATE_SHARE
    received[late] += (random.exponential(6 * 3.6e9, int(late.sum()))).astype(np.int64)
    return _table(random, stream, devices, device, owner, timestamp, received)


def _timestamps(random: np.random.Generator, lengths: Numbers, owner: Numbers, day: int) -> Numbers:
    # Two nights' worth of quiet: half of the sessions begin around 20 o'clock.
    evening = random.random(len(lengths)) < 0.5
    hour = np.where(evening, random.normal(20, 2, len(lengths)), random.uniform(6, 24, len(lengths))) % 24
    starts = day * DAY_US + (hour * 3.6e9).astype(np.int64)
    gaps = random.exponential(GAP_S * 1e6, len(owner)).astype(np.int64)
    gaps[random.random(len(owner)) < PAUSE_SHARE] += int(PAUSE_S * 1e6)
    walked = np.cumsum(gaps)
    begins = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    times: Numbers = starts[owner] + walked - walked[begins][owner]
    return times


def _table(
    random: np.random.Generator,
    stream: Stream,
    devices: pa.Array,
    device: Numbers,
    owner: Numbers,
    timestamp: Numbers,
    received: Numbers,
) -> pa.Table:
    count = len(owner)
    kind = random.choice(len(TYPES), count, p=TYPE_WEIGHTS)
    app = device % len(APPS)
    sessions = _texts(random, len(device))
    columns = {
        "project_id": _constant(stream.project_id, count),
        "environment": _constant(stream.environment, count),
        "bundle_id": pa.array([bundle for _, bundle in APPS]).take(pa.array(app[owner])),
        "platform": pa.array([platform for platform, _ in APPS]).take(pa.array(app[owner])),
        "event_type": pa.array(TYPES).take(pa.array(kind)),
        "event_name": _names(random, kind),
        "device_id": devices.take(pa.array(device[owner])),
        "session_id": sessions.take(pa.array(owner)),
        "timestamp": _instants(timestamp),
        "client_timestamp": _instants(timestamp),
        "sent_at": _instants(received),
        "received_at": _instants(received),
        "clock_rule": _constant("within_tolerance", count),
        "event_id": _texts(random, count),
        "identity": _identities(random, count),
        "properties": _properties(random, count),
        "log_partition": pa.array(np.zeros(count, np.int32)),
        "log_offset": pa.array(received),
        "log_index": pa.array(np.zeros(count, np.int32)),
    }
    return pa.Table.from_arrays([columns[name] for name in EVENTS.file_schema.names], schema=EVENTS.file_schema)


def _constant(text: str, count: int) -> pa.Array:
    return pa.array([text]).take(pa.array(np.zeros(count, np.int64)))


def _names(random: np.random.Generator, kind: Numbers) -> pa.Array:
    texts: list[str] = []
    places = np.zeros(len(kind), np.int64)
    for number, event_type in enumerate(TYPES):
        of_type = np.flatnonzero(kind == number)
        distinct = NAMES.get(event_type, 1)
        # The n-th name is about 1/n as common as the first.
        places[of_type] = len(texts) + (distinct ** random.random(len(of_type))).astype(np.int64) - 1
        texts += [_name(event_type, n) for n in range(distinct)]
    return pa.array(texts).take(pa.array(places))


def _name(event_type: str, number: int) -> str:
    return f"/products/{number}?from=list" if event_type == "page_view" else f"{event_type}_{number}"


def _instants(microseconds: Numbers) -> pa.Array:
    return pa.array(microseconds).cast(pa.timestamp("us", "UTC"))


def _identities(random: np.random.Generator, count: int) -> pa.Array:
    offsets = np.arange(0, (count + 1) * 16, 16, dtype=np.int32)
    return pa.Array.from_buffers(
        pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(random.bytes(16 * count))]
    )


def _properties(random: np.random.Generator, count: int) -> pa.Array:
    template = '{{"app_version":"4.{}.{}","country":"DE","referrer":"https://google.com","load_ms":{},"screen":"Home"}}'
    texts = pa.array([template.format(n % 9, n % 4, 40 + n) for n in range(2400)])
    return texts.take(pa.array(random.integers(0, len(texts), count)))


def _split(rows: pa.Table, end_us: int) -> Iterator[tuple[int, pa.Table]]:
    timestamp = rows.column("timestamp").cast(pa.int64()).to_numpy()
    day = timestamp // DAY_US
    for number in np.unique(day):
        # What would only have come after the end has not come.
        chosen = (day == number) & (timestamp < end_us)
        yield int(number), rows.filter(pa.array(chosen))


def _write(table: LakeTable, day: int, parts: list[pa.Table], fresh: bool) -> int:
    if not parts or not sum(part.num_rows for part in parts):
        return 0
    rows = pa.concat_tables(parts)
    rows = rows.sort_by([(name, "ascending") for name in ("project_id", "environment", "received_at")])
    pieces = LAST_DAY_FILES if fresh else -(-rows.num_rows // FILE_ROWS_MAX)
    files = [_file(table, day, rows, n, pieces, FRESH if fresh else MERGED) for n in range(pieces)]
    table.commit("WRITE", day * DAY_US, [file for file in files if file.rows])
    return int(rows.num_rows)


def _file(table: LakeTable, day: int, rows: pa.Table, number: int, pieces: int, style: FileStyle) -> TableFile:
    date = str(np.datetime64(day, "D"))
    # Every so-manyth row: each file has a bit of every project, as files of loads do.
    part = rows.take(pa.array(np.arange(number, rows.num_rows, pieces)))
    return write_file(table.store, f"date={date}/{table.version + 1:012d}-{number}.parquet", date, part, style)


def _rejections(random: np.random.Generator, stream: Stream, day: int, days: int) -> pa.Table:
    count = int(stream.events / days * REJECTED_SHARE)
    received = _instants(day * DAY_US + random.integers(0, DAY_US, count))
    app = pa.array(random.integers(0, len(APPS), count))
    columns = {
        "project_id": _constant(stream.project_id, count),
        "environment": _constant(stream.environment, count),
        "bundle_id": pa.array([bundle for _, bundle in APPS]).take(app),
        "platform": pa.array([platform for platform, _ in APPS]).take(app),
        "sent_at": received,
        "received_at": received,
        "field": _constant("timestamp", count),
        "code": pa.array(CODES).take(pa.array(random.integers(0, len(CODES), count))),
        "message": _constant("Made up.", count),
        "event": _properties(random, count),
        "log_partition": pa.array(np.zeros(count, np.int32)),
        "log_offset": pa.array(np.arange(count)),
        "log_index": pa.array(np.zeros(count, np.int32)),
    }
    return pa.Table.from_arrays([columns[name] for name in REJECTED.file_schema.names], schema=REJECTED.file_schema)


TABLES_WRITTEN: tuple[Table, ...] = (EVENTS, REJECTED)
