import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import CommitProperties, Transaction, write_deltalake

from kixo.audit import AuditReport, audit
from kixo.cli.audit import audit as audit_command
from kixo.errors import AuditFailed, DataFolderError
from kixo.lake.read import application
from kixo.lake.schema import EVENTS, LOADS, REJECTED, Table
from kixo.log.folder import ensure_log
from kixo.log.reader import LocalLogReader
from kixo.log.segment import pack_frame
from kixo.log.writer import LocalLogWriter
from kixo.query import QueryCaps
from kixo.query.ledger import copy_passes
from kixo.stored import AS_SENT
from tests.test_query import NOON, event

CAPS = QueryCaps(memory_bytes_max=128 * 1024 * 1024, seconds_max=60.0)
AGES_US = 10**15
A, B = "kx_proj_a", "kx_proj_b"


@dataclass(frozen=True)
class Request:
    """A request in the log, and what the loader makes of it."""

    project: str
    stored: int = 0
    duplicate: int = 0
    rejected: int = 0

    @property
    def received(self) -> int:
        return self.stored + self.duplicate + self.rejected


class WatchedReader(LocalLogReader):
    """A reader of a log to which something happens as soon as its end was looked at."""

    meanwhile: Callable[[], None]

    def end_position(self, partition: int) -> int:
        end = super().end_position(partition)
        self.meanwhile()
        return end


@dataclass
class World:
    """A log of one or more partitions and a lake, filled as the server and its loader fill them."""

    folder: Path
    segment_bytes: int = 1024
    writers: dict[int, LocalLogWriter] = field(default_factory=dict)
    loaded: dict[int, int] = field(default_factory=dict)
    next_identity: int = 1

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def lake(self) -> Path:
        return self.folder / "lake"

    @property
    def log_id(self) -> str:
        return ensure_log(self.log)

    def receive(self, requests: Sequence[Request], partition: int = 0, at_us: int = AGES_US) -> None:
        """Requests come in and are in the log."""
        writer = self._writer(partition)
        for request in requests:
            payload = json.dumps({"project_id": request.project, "padding": "x" * 200}).encode()
            accepted = request.stored + request.duplicate
            frame = pack_frame(writer.next_offset(), at_us, AS_SENT, accepted, request.rejected, [payload])
            writer.commit(frame)

    def load(
        self,
        requests: Sequence[Request],
        partition: int = 0,
        *,
        tables: Sequence[Table] = (EVENTS, REJECTED, LOADS),
        twist: Callable[[dict[str, Any]], dict[str, Any]] = lambda row: row,
    ) -> None:
        """The next requests of a partition are loaded into those tables; `twist` spoils their rows."""
        first = self.loaded.get(partition, 0)
        end = first + len(requests)
        rows: dict[str, list[dict[str, Any]]] = {"events": [], "rejected": [], "loads": []}
        for offset, request in enumerate(requests, first):
            where = {"project_id": request.project, "log_partition": partition, "log_offset": offset}
            rows["events"] += [event(self._identity(), **where) for _ in range(request.stored)]
            rows["rejected"] += [rejection(**where) for _ in range(request.rejected)]
        for project in dict.fromkeys(request.project for request in requests):
            mine = [request for request in requests if request.project == project]
            rows["loads"].append(self._ledger(project, mine, partition, first, end))
        for table in tables:
            self._commit(table, [twist(row) for row in rows[table.name]], partition, end)
        self.loaded[partition] = end

    def receive_and_load(self, requests: Sequence[Request], partition: int = 0, **options: Any) -> None:
        self.receive(requests, partition)
        self.load(requests, partition, **options)

    def _ledger(self, project: str, mine: list[Request], partition: int, first: int, end: int) -> dict[str, Any]:
        return {
            "date": NOON.date(),
            "loaded_at": NOON,
            "log_id": self.log_id,
            "log_partition": partition,
            "first_offset": first,
            "end_offset": end,
            "project_id": project,
            "received": sum(request.received for request in mine),
            "stored": sum(request.stored for request in mine),
            "duplicate": sum(request.duplicate for request in mine),
            "rejected": sum(request.rejected for request in mine),
        }

    def _commit(self, table: Table, rows: list[dict[str, Any]], partition: int, end: int) -> None:
        position = Transaction(application(self.log_id, partition), end)
        write_deltalake(
            self.lake / table.name,
            pa.Table.from_pylist(rows, table.schema),
            mode="append",
            partition_by="date",
            commit_properties=CommitProperties(app_transactions=[position]),
        )

    def _identity(self) -> int:
        self.next_identity += 1
        return self.next_identity

    def _writer(self, partition: int) -> LocalLogWriter:
        ensure_log(self.log)
        if partition not in self.writers:
            self.writers[partition] = LocalLogWriter(
                self.log,
                partition,
                segment_bytes=self.segment_bytes,
                free_bytes_min=0,
                now_us=lambda: AGES_US,
                report=lambda sentence, size: None,
            )
        return self.writers[partition]

    def close(self) -> None:
        for writer in self.writers.values():
            writer.close()
        self.writers.clear()

    def report(self, *, caps: QueryCaps = CAPS, meanwhile: Callable[[], None] = lambda: None) -> AuditReport:
        """`meanwhile` happens just after the audit has looked where the log ends."""
        damage: list[str] = []
        reader = WatchedReader(self.log, lambda sentence, size: damage.append(sentence))
        reader.meanwhile = meanwhile
        try:
            return audit(self.lake, reader, caps, damage)
        finally:
            reader.close()

    def differences(self) -> str:
        return "\n".join(self.report().differences)


def rejection(**members: Any) -> dict[str, Any]:
    return {
        "date": NOON.date(),
        "environment": "production",
        "bundle_id": "com.example.app",
        "platform": "ios",
        "sent_at": None,
        "received_at": NOON,
        "field": "timestamp",
        "code": "invalid_timestamp",
        "message": "no",
        "event": "{}",
        "log_index": 0,
        **members,
    }


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "data")
    made.folder.mkdir()
    yield made
    made.close()


SOME = [Request(A, 3, 1, 2), Request(B, 1), Request(A, 0, 4), Request(A, 0, 0, 1)]


def test_an_empty_log_and_no_lake_agree(world: World) -> None:
    ensure_log(world.log)
    report = world.report()
    assert (report.projects, report.differences) == ([], [])
    assert report.log_id == world.log_id


def test_without_a_log_there_is_nothing_to_audit(world: World) -> None:
    with pytest.raises(DataFolderError):
        world.report()


def test_every_event_is_stored_a_duplicate_or_rejected(world: World) -> None:
    for _ in range(3):
        world.receive_and_load(SOME)
        world.receive_and_load(SOME, partition=1)
    report = world.report()
    assert report.differences == []
    figures = [(p.project_id, p.received, p.stored, p.duplicate, p.rejected, p.pending) for p in report.projects]
    assert figures == [(A, 66, 18, 30, 18, 0), (B, 6, 6, 0, 0, 0)]


def test_what_is_not_loaded_yet_is_pending_and_no_difference(world: World) -> None:
    world.receive(SOME)
    assert world.report().differences == []
    world.load(SOME)
    world.receive([Request(A, 5), Request("kx_proj_new", 2, rejected=1)])
    report = world.report()
    assert report.differences == []
    assert [(p.project_id, p.received, p.pending) for p in report.projects] == [
        (A, 11, 5),
        (B, 1, 0),
        ("kx_proj_new", 0, 3),
    ]


def test_frames_that_come_during_the_audit_are_left_out(world: World) -> None:
    world.receive([Request(A, 1)])
    report = world.report(meanwhile=lambda: world.receive([Request(A, 7)] * 50))
    assert [project.pending for project in report.projects] == [1]


def test_what_was_received_before_the_clock_was_set_back_is_counted(world: World) -> None:
    world.receive(SOME, at_us=2 * AGES_US)
    world.load(SOME)
    world.receive([Request(A, 7)], at_us=2 * AGES_US)
    world.receive([Request(A, 2)])
    report = world.report()
    assert report.differences == []
    assert [(p.project_id, p.received, p.pending) for p in report.projects] == [(A, 11, 9), (B, 1, 0)]


@pytest.mark.parametrize("tables", [[EVENTS], [REJECTED], [LOADS], [EVENTS, REJECTED], [REJECTED, LOADS]])
def test_a_load_under_way_is_not_a_difference(world: World, tables: list[Table]) -> None:
    world.receive_and_load(SOME)
    world.receive(SOME)
    world.load(SOME, tables=tables)
    report = world.report()
    assert report.differences == []
    assert [(p.received, p.stored, p.pending) for p in report.projects] == [(11, 3, 11), (1, 1, 1)]


def test_segments_that_were_released_are_not_missed(world: World) -> None:
    for _ in range(5):
        world.receive_and_load(SOME)
    reader = LocalLogReader(world.log, lambda sentence, size: None)
    assert reader.release(0, 14) > 0
    reader.close()
    report = world.report()
    assert report.differences == []
    assert report.projects[0].received == 55


def test_a_lost_row_is_a_difference(world: World) -> None:
    world.receive_and_load(SOME)
    spoiled = replace(SOME[0], stored=2)
    world.receive(SOME)
    world.load(
        [spoiled, *SOME[1:]],
        twist=lambda row: row | {"received": 11, "stored": 3} if "received" in row and row["project_id"] == A else row,
    )
    assert (
        world.differences() == f"`events` has 2 rows of {A} in partition 0, offsets 4 to 7; the ledger says 3 stored."
    )


def test_a_lost_rejection_is_a_difference(world: World) -> None:
    world.receive(SOME)
    world.load(SOME, twist=lambda row: row | {"project_id": B} if "code" in row else row)
    assert world.report().differences == [
        f"`rejected` has 0 rows of {A} in partition 0, offsets 0 to 3; the ledger says 3 rejected.",
        f"`rejected` has 3 rows of {B} in partition 0, offsets 0 to 3; the ledger says 0 rejected.",
    ]


def test_rows_in_no_load_are_a_difference(world: World) -> None:
    world.receive_and_load(SOME)
    world.receive(SOME)
    world.load(
        SOME,
        twist=lambda row: (
            row | {"received": 0, "stored": 0, "duplicate": 0, "rejected": 0, "first_offset": 99, "end_offset": 99}
            if "received" in row
            else row
        ),
    )
    found = world.differences()
    assert f"3 rows of `events` of {A} in partition 0 from offset 4 on belong to no load" in found
    assert f"11 events of {A} in partition 0 of the log were passed over by every load." in found


def test_an_identity_twice_is_a_difference(world: World) -> None:
    world.receive_and_load(
        [Request(A, 2), Request(B, 2)],
        twist=lambda row: row | {"identity": b"\x01" * 16} if row.get("log_offset") == 0 and "identity" in row else row,
    )
    assert world.differences() == f"`events` has 2 rows of {A} with the one identity {'01' * 16}."


def test_a_ledger_that_does_not_add_up_is_a_difference(world: World) -> None:
    world.receive([Request(A, 2, 1)])
    world.load([Request(A, 2, 1)], twist=lambda row: row | {"received": 4} if "received" in row else row)
    found = world.differences()
    assert f"The ledger does not add up for {A} in partition 0, offsets 0 to 0: 4 received, but 2 stored" in found
    assert f"The log has 3 events of {A} in partition 0, offsets 0 to 0; the ledger says 4 received." in found


def test_overlapping_loads_are_a_difference(world: World) -> None:
    world.receive_and_load(SOME)
    world.loaded[0] = 2
    world.receive_and_load([Request(A, 1), Request(A, 1)])
    assert "partition 0, offsets 2 to 3 begins before 4, where another load ends." in world.differences()


def test_events_that_the_loader_passed_over_are_a_difference(world: World) -> None:
    world.receive([*SOME, Request(A, 9)])
    world.load(SOME)
    world.loaded[0] = 5
    world.receive_and_load([Request(B, 1)])
    assert world.differences() == f"9 events of {A} in partition 0 of the log were passed over by every load."


def test_a_damaged_segment_is_a_difference(world: World) -> None:
    world.receive_and_load(SOME)
    world.close()
    (segment,) = (world.log / "0").glob("*.log")
    data = bytearray(segment.read_bytes())
    data[150] ^= 1
    segment.write_bytes(data)
    found = world.differences()
    assert "skipped damaged bytes" in found
    assert found.count("skipped damaged bytes") == 1


def test_a_frame_that_cannot_be_read_is_a_difference_as_soon_as_it_was_passed(world: World) -> None:
    world.receive([Request(A, 1)])
    writer = world.writers[0]
    writer.commit(pack_frame(writer.next_offset(), AGES_US, AS_SENT, 3, 1, [b'{"project\xff']))
    report = world.report()
    assert report.differences == []
    assert [(p.project_id, p.pending) for p in report.projects] == [("", 4), (A, 1)]
    world.load(
        [Request(A, 1), Request("", 0)],
        twist=lambda row: row | {"received": 4} if "received" in row and not row["project_id"] else row,
    )
    (difference,) = world.report().differences
    assert "4 received, but 0 stored, 0 duplicate and 0 rejected" in difference


def test_rows_of_an_older_log_count_as_well(world: World) -> None:
    world.receive_and_load(SOME)
    world.receive_and_load(SOME, partition=1)
    world.close()
    world.log.rename(world.folder / "old")
    world.loaded.clear()
    world.receive_and_load([Request(A, 1), Request(A, 1)])
    report = world.report()
    assert report.differences == []
    assert [(p.project_id, p.received, p.stored) for p in report.projects] == [(A, 24, 8), (B, 2, 2)]


def test_identities_are_compared_in_passes_where_memory_is_short(world: World) -> None:
    assert copy_passes(1_000_000, 64 * 1024 * 1024) == 5
    assert copy_passes(0, 64 * 1024 * 1024) == 1
    rows = 1_000_000
    world.receive([Request(A, 1000)] * (rows // 1000))
    world.load([Request(A, 1000)] * (rows // 1000))
    report = world.report(caps=QueryCaps(64 * 1024 * 1024, 60.0))
    assert report.differences == []
    assert report.projects[0].stored == rows


class TestCommand:
    def test_a_lake_that_agrees(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        world.receive_and_load(SOME)
        audit_command(data_dir=str(world.folder))
        assert "Every event that was loaded is stored, a duplicate or rejected; 0 are yet" in capsys.readouterr().out

    def test_a_difference_is_told_and_raised(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        world.receive_and_load(SOME)
        world.loaded[0] = 2
        world.receive_and_load([Request(A, 1), Request(A, 1)])
        with pytest.raises(AuditFailed) as caught:
            audit_command(data_dir=str(world.folder))
        assert caught.value.exit_code == 3
        assert "DIFFERENCE The ledger counts offsets twice" in capsys.readouterr().out
        with pytest.raises(AuditFailed):
            audit_command(data_dir=str(world.folder), json=True)
        report = json.loads(capsys.readouterr().out)
        assert set(report) == {"log_id", "projects", "differences"}
        assert len(report["differences"]) == int(caught.value.message.split()[-2])
