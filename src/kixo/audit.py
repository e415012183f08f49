"""The audit: received = stored + duplicate + rejected, recomputed from the log and the lake, per project.

What is compared, while the server may be running:

1. each row of the ledger `loads` adds up, and no two loads of a partition overlap;
2. for each load and project, the ledger's counts are the numbers of rows of `events` and of `rejected`;
3. no identity is in `events` twice;
4. for each load whose frames are all still in the log, the ledger's `received` is what the frames say;
5. every frame below the position is in some load. Frames beyond it are *pending*, which is no fault.

Each table is looked at in one snapshot, up to the lowest of the three positions: loads that are under way and come
later change nothing below it.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import msgspec

from kixo.lake.local import lake_at
from kixo.lake.read import TableView, open_table
from kixo.lake.schema import TABLES
from kixo.lake.store import LakeStore
from kixo.log import Frame, LogReader
from kixo.query import QueryCaps, QueryEngine
from kixo.query.account import lake_differences, place, project_totals, read_rows
from kixo.query.files import table_files
from kixo.query.ledger import Bounds, partitions, received_since
from kixo.stored import decode_owner

# How often snapshots are taken anew to meet the three tables between two loads; the position covers the rest.
SNAPSHOTS_MAX = 20
READ_BYTES_MAX = 8 * 1024 * 1024
# Enough to see the head of a frame, and so how much more of it to read.
HEAD_BYTES = 4096

Load = tuple[int, int, int]
"""Partition, first offset, and the position after the last."""


class ProjectAccount(msgspec.Struct, frozen=True):
    """A project's events: received and duplicate by the ledger, stored and rejected by the rows, pending by the log.

    `project_id` is empty for frames of the log that cannot be read.
    """

    project_id: str
    received: int
    stored: int
    duplicate: int
    rejected: int
    pending: int


class AuditReport(msgspec.Struct, frozen=True):
    """The accounts of all projects, and a sentence for each difference."""

    log_id: str
    projects: list[ProjectAccount]
    differences: list[str]


@dataclass(frozen=True)
class LogCount:
    """What the frames say: events by load and project, those in no load, and those beyond the position."""

    received: Counter[tuple[Load, str]] = field(default_factory=Counter)
    in_no_load: Counter[tuple[int, str]] = field(default_factory=Counter)
    pending: Counter[str] = field(default_factory=Counter)


def audit(lake: LakeStore | Path, reader: LogReader, caps: QueryCaps, damage: list[str]) -> AuditReport:
    """Compares the log with the lake; what comes to the log meanwhile is left out.

    `damage` is the list that gets the reader's reports, as sentences. Raises `DataFolderError` or `QueryFailed`.
    """
    views = _snapshot(lake, reader)
    # After the snapshot, so that all of its loads lie before the ends.
    ends = {number: reader.end_position(number) for number in reader.partitions()}
    with QueryEngine(lambda table: _paths(views[table]), caps, way=table_files(lake)) as engine:
        bounds = _bounds(engine, reader, views)
        loads = _loads_in_log(engine, bounds, reader)
        log = _count_log(reader, bounds.positions, sorted({load for load, _ in loads}), ends)
        projects = _accounts(project_totals(engine, bounds), log.pending)
        rows = sum(project.stored for project in projects)
        differences = list(
            chain(lake_differences(engine, bounds, rows, caps.memory_bytes_max), _log_differences(log, loads, reader))
        )
    # The log is read from its start more than once, and damage is reported each time.
    found = dict.fromkeys([*damage, *differences])
    return AuditReport(reader.log_id, projects, list(found))


def _snapshot(lake: LakeStore | Path, reader: LogReader) -> dict[str, TableView | None]:
    """A view of each table by name, None for one that was not made yet; between two loads where that can be had."""
    for _ in range(SNAPSHOTS_MAX):
        views = {table.name: _open(lake, table.name) for table in TABLES}
        if all(len(set(_positions(views, reader.log_id, number))) == 1 for number in reader.partitions()):
            break
    return views


def _open(lake: LakeStore | Path, table: str) -> TableView | None:
    return open_table(lake, table) if lake_at(lake).inside(table).is_table() else None


def _paths(view: TableView | None) -> Sequence[str]:
    return () if view is None else view.paths


def _positions(views: Mapping[str, TableView | None], log_id: str, partition: int) -> list[int]:
    return [0 if view is None else view.position(log_id, partition) for view in views.values()]


def _bounds(engine: QueryEngine, reader: LogReader, views: Mapping[str, TableView | None]) -> Bounds:
    named = {int(row["log_partition"]) for row in read_rows(engine, partitions())}
    numbers = sorted(named.union(reader.partitions()))
    return Bounds(reader.log_id, {number: min(_positions(views, reader.log_id, number)) for number in numbers})


def _oldest(reader: LogReader) -> dict[int, int]:
    """The offset of the oldest frame of each partition that has any."""
    heads = {number: reader.read(number, 0, HEAD_BYTES) for number in reader.partitions()}
    return {number: frames[0].offset for number, frames in heads.items() if frames}


def _loads_in_log(engine: QueryEngine, bounds: Bounds, reader: LogReader) -> dict[tuple[Load, str], int]:
    """What the ledger says was received, of the loads whose frames may still be in the log."""
    return {
        ((row["log_partition"], row["first_offset"], row["end_offset"]), row["project_id"]): row["received"]
        for row in read_rows(engine, received_since(bounds, _oldest(reader)))
    }


def _count_log(
    reader: LogReader, positions: Mapping[int, int], loads: Sequence[Load], ends: Mapping[int, int]
) -> LogCount:
    count = LogCount()
    for partition, end in ends.items():
        for frame in _frames(reader, partition, end):
            _count_frame(count, partition, frame, positions.get(partition, 0), loads)
    return count


def _frames(reader: LogReader, partition: int, end: int) -> Iterator[Frame]:
    """The frames of a partition before `end`; later ones would keep the audit from ending.

    Not by their time: the clock may have been set back since they came.
    """
    position = 0
    while position < end and (frames := reader.read(partition, position, READ_BYTES_MAX)):
        yield from (frame for frame in frames if frame.offset < end)
        position = frames[-1].offset + 1


def _count_frame(count: LogCount, partition: int, frame: Frame, position: int, loads: Sequence[Load]) -> None:
    events = frame.accepted + frame.rejected
    project = _owner(frame)
    load = _load_of(loads, partition, frame.offset)
    if frame.offset >= position:
        count.pending[project] += events
    elif load is not None:
        count.received[load, project] += events
    elif events:
        count.in_no_load[partition, project] += events


def _owner(frame: Frame) -> str:
    """The project of a frame; empty, as in the ledger, where it cannot be read."""
    try:
        return decode_owner(frame.payload).project_id
    except (ValueError, RecursionError):
        return ""


def _load_of(loads: Sequence[Load], partition: int, offset: int) -> Load | None:
    """The load, of the sorted ones, that an offset lies in."""
    before = bisect_right(loads, (partition, offset, 1 << 63))
    load = loads[before - 1] if before else None
    return load if load is not None and load[0] == partition and offset < load[2] else None


def _log_differences(log: LogCount, loads: Mapping[tuple[Load, str], int], reader: LogReader) -> Iterator[str]:
    """Differences between the ledger and the frames, for loads that are whole in the log after the count too."""
    oldest = _oldest(reader)
    for load, project in sorted(loads.keys() | log.received.keys()):
        partition, first, _ = load
        said, found = loads.get((load, project), 0), log.received[load, project]
        if said != found and partition in oldest and first >= oldest[partition]:
            yield f"The log has {found} events of {project} in {place(*load)}; the ledger says {said} received."
    for (partition, project), events in sorted(log.in_no_load.items()):
        if partition in oldest:
            yield f"{events} events of {project} in partition {partition} of the log were passed over by every load."


def _accounts(totals: Mapping[str, Mapping[str, int]], pending: Mapping[str, int]) -> list[ProjectAccount]:
    return [
        _account(project, totals.get(project, {}), pending.get(project, 0))
        for project in sorted(totals.keys() | pending.keys())
    ]


def _account(project: str, total: Mapping[str, int], pending: int) -> ProjectAccount:
    received, stored = total.get("received", 0), total.get("stored", 0)
    return ProjectAccount(project, received, stored, total.get("duplicate", 0), total.get("rejected", 0), pending)
