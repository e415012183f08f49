"""One load: takes requests from the log, makes rows of them, and commits rows and log position as one.

A load changes three tables, in this order:

    rejected   the events that were not taken
    loads      the ledger: what came in, and what became of it
    events     the events; its position is the one that counts

Each commit carries the log positions that the load ends at. A crash leaves the tables at positions
rejected >= loads >= events. The next load starts at the position of `events`; where `loads` is ahead it takes exactly
the load that the ledger tells of, and rows of `rejected` that are there are left out. What is a copy is decided by the
rows of `events` alone, so the repeated load decides as the first one did.

Files are durable before the commit that names them, and each commit before the next. Only then may the log let go.
So at every moment each event is in the log or in the tables, and never in a table twice.

Where several loaders share a log and the tables, each commit also names the positions that it builds on, so that only
one loader of a partition gets through, whoever believes it has it. One that is `Fenced` starts again from the tables.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from kixo.lake.commit import TableFile
from kixo.lake.report import Report
from kixo.lake.store import LakeStore
from kixo.lake.table import LakeTable
from kixo.loader.files import by_day, write_days
from kixo.loader.identity_shards import IdentityShards, NewRows
from kixo.loader.ledger import Counts, count, ledger_rows, rejected_rows
from kixo.loader.pieces import cut_pieces
from kixo.loader.quarantine import make_rows_of_good, set_aside
from kixo.loader.requests import PlacedFrame
from kixo.loader.rows import EventRows, Rules, event_rows
from kixo.loader.spans import Span, placed_frames

# The steps after each of which a test may stop a load.
STEPS = ("files", "rejected", "loads", "events", "index")


@dataclass(frozen=True)
class LoadTools:
    """What a load works with. `clock_us` tells the time, `new_id` names files, `step` is told each step's end."""

    tables: dict[str, LakeTable]
    index: IdentityShards
    log_id: str
    quarantine: LakeStore
    rules: Rules
    report: Report
    clock_us: Callable[[], int]
    new_id: Callable[[], str]
    step: Callable[[str], None]


class Load(NamedTuple):
    """A load that is ready to be committed. `again`: the ledger has it already."""

    spans: list[Span]
    again: bool
    rows: EventRows
    new: NewRows
    counts: Counts
    unreadable: list[PlacedFrame]

    @property
    def positions(self) -> dict[int, int]:
        """The log positions after the load, by partition."""
        return {span.partition: span.end for span in self.spans}


class LoadFiles(NamedTuple):
    """The files of a load, by table."""

    rejected: list[TableFile]
    loads: list[TableFile]
    events: list[TableFile]


def prepare(spans: list[Span], again: bool, tools: LoadTools) -> Load:
    """Makes rows of the frames and tells copies from new events. Raises `OSError`."""
    rows, unreadable = make_rows_of_good(placed_frames(spans), lambda frames: _rows(frames, tools.rules))
    for placed in unreadable:
        set_aside(tools.quarantine, tools.log_id, placed, tools.report)
    rows = rows or event_rows([], tools.rules)
    new = tools.index.find_new(rows.identities, rows.table.column("log_partition").to_numpy())
    return Load(spans, again, rows, new, count(rows.requests, rows.counts, new.mask), unreadable)


def _rows(frames: list[PlacedFrame], rules: Rules) -> EventRows:
    return event_rows(cut_pieces(frames, rules.tell_unreadable), rules)


def write_files(load: Load, tools: LoadTools) -> LoadFiles:
    """Writes the load's files, durably; they are no part of a table yet. Raises `OSError`."""
    now_us = tools.clock_us()
    partitions = [span.partition for span in load.spans]
    there = {number: tools.tables["rejected"].position(number) for number in partitions}
    rejected = rejected_rows(load.rows.requests, there, tools.rules)
    ledger = {} if load.again else ledger_rows(load.counts, load.unreadable, load.spans, tools.log_id, now_us)
    events = by_day(load.rows.table, load.rows.day, load.new.mask)
    days = (rejected, ledger, events)
    files = LoadFiles(
        *(write_days(tools.tables[name], d, tools.new_id) for name, d in zip(LoadFiles._fields, days, strict=True))
    )
    tools.step("files")
    return files


def commit(load: Load, files: LoadFiles, tools: LoadTools) -> None:
    """Commits the load to the three tables, in their order. Raises `OSError`, `CommitConflict` or `Fenced`."""
    for name in LoadFiles._fields:
        table = tools.tables[name]
        found = {number: table.position(number) for number in load.positions}
        # A table may be ahead after a crash: its position never goes back.
        ahead = {number: max(end, found[number]) for number, end in load.positions.items()}
        if ahead != found:
            expected = found if table.store.has_many_writers else None
            table.commit("WRITE", tools.clock_us(), getattr(files, name), positions=ahead, expected=expected)
        tools.step(name)
    tools.index.add(load.new, tools.tables["events"], load.positions)
    tools.step("index")
