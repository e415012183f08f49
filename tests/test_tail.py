import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kixo.cli.tail import tail as tail_command
from kixo.errors import BadArgument, DataFolderError
from kixo.log import Frame
from kixo.log.folder import ensure_log
from kixo.log.reader import LocalLogReader
from kixo.log.segment import pack_frame
from kixo.log.writer import LocalLogWriter
from kixo.stored import AS_SENT, JUDGED, JudgedBatch, JudgedEvent, RejectedEvent, encode_judged
from kixo.tail import Accepted, Rejected, arrivals, follow, is_wanted, line, shorten

RECEIVED_US = 1_775_649_600_000_000


def sent(*names: str, project: str = "kx_proj_a", **members: Any) -> bytes:
    """An AS_SENT payload with an event of each name; its key is blanked out as ingest does it."""
    batch = [
        {
            "event_type": "tap",
            "event_name": name,
            "device_id": "d_1",
            "session_id": "s_1",
            "timestamp": "2026-04-08T12:00:00+02:00",
            **members,
        }
        for name in names
    ]
    envelope = {"project_id": project, "api_key": " " * 14, "bundle_id": "com.example.app", "platform": "ios"}
    return json.dumps({**envelope, "batch": batch}).encode()


def judged(*rejected: RejectedEvent, project: str = "kx_proj_a") -> bytes:
    """A JUDGED payload with an accepted event at index 1 and those that were rejected."""
    accepted = JudgedEvent(1, "tap", "Good", "d_1", "s_1", "2026-04-08", '{"a": 1e999}', "e_1")
    return encode_judged(
        JudgedBatch(project, "staging", "com.example.app", "web", "2026-04-08", [accepted], list(rejected))
    )


LATE = RejectedEvent(
    0, "timestamp", "invalid_timestamp", "no instant", '{"timestamp": "yesterday", "event_type": "tap"}'
)


class Log:
    """A log with one or more partitions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ensure_log(folder)
        self._writers: dict[int, LocalLogWriter] = {}

    def append(self, payload: bytes, kind: int = AS_SENT, partition: int = 0, at_us: int = RECEIVED_US) -> None:
        if partition not in self._writers:
            self._writers[partition] = LocalLogWriter(
                self.folder,
                partition,
                segment_bytes=1024,
                free_bytes_min=0,
                now_us=lambda: RECEIVED_US,
                report=lambda sentence, size: None,
            )
        writer = self._writers[partition]
        writer.commit(pack_frame(writer.next_offset(), at_us, kind, 1, 0, [payload]))

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path / "log")
    yield made
    made.close()


@pytest.fixture
def reader(log: Log) -> Iterator[LocalLogReader]:
    opened = LocalLogReader(log.folder, lambda sentence, size: None)
    yield opened
    opened.close()


class Ended(Exception):
    """Nothing more is to come."""


def end() -> None:
    raise Ended


def in_turn(*steps: Callable[[], None]) -> Callable[[], None]:
    """A `wait` that does something else each time."""
    left = iter(steps)

    def wait() -> None:
        next(left)()

    return wait


def followed(reader: LocalLogReader, positions: dict[int, int], wait: Callable[[], None] = end) -> list[str]:
    """The names of events that come until `wait` ends it."""
    names: list[str] = []
    with pytest.raises(Ended):
        for arrival in follow(reader, positions, wait):
            assert isinstance(arrival, Accepted)
            names.append(arrival.event_name)
    return names


class TestFollow:
    def test_what_is_in_the_log_comes_in_order_from_the_start(self, log: Log, reader: LocalLogReader) -> None:
        for number in range(20):
            log.append(sent(f"n{number}"))
        assert followed(reader, {}) == [f"n{number}" for number in range(20)]

    def test_only_what_is_new_comes_from_the_end(self, log: Log, reader: LocalLogReader) -> None:
        log.append(sent("old"))
        wait = in_turn(lambda: log.append(sent("new", "newer")), end)
        assert followed(reader, {0: reader.end_position(0)}, wait) == ["new", "newer"]

    def test_partitions_are_merged_by_time_and_new_ones_are_found(self, log: Log, reader: LocalLogReader) -> None:
        log.append(sent("second"), partition=0, at_us=2)
        log.append(sent("first"), partition=1, at_us=1)
        wait = in_turn(lambda: log.append(sent("third"), partition=7), end)
        assert followed(reader, {}, wait) == ["first", "second", "third"]

    def test_segments_may_go_while_it_reads(self, log: Log, reader: LocalLogReader) -> None:
        for number in range(20):
            log.append(sent(f"n{number}"))
        follower = follow(reader, {}, end)
        assert len(list(islice(follower, 20))) == 20
        for number in range(20, 40):
            log.append(sent(f"n{number}"))
        other = LocalLogReader(log.folder, lambda sentence, size: None)
        assert other.release(0, 35) > 5
        other.close()
        names = [arrival.event_name for arrival in islice(follower, 5) if isinstance(arrival, Accepted)]
        assert names[-1] in {f"n{number}" for number in range(20, 40)}


def frames(log: Log, reader: LocalLogReader, payload: bytes, kind: int) -> list[Accepted | Rejected]:
    log.append(payload, kind)
    (frame,) = reader.read(0, 0, 1024 * 1024)
    return arrivals(frame)


class TestArrivals:
    def test_a_judged_frame_has_its_accepted_and_rejected_events_in_the_order_sent(
        self, log: Log, reader: LocalLogReader
    ) -> None:
        first, second = frames(log, reader, judged(LATE), JUDGED)
        assert isinstance(first, Rejected)
        assert (first.code, first.field, first.value) == ("invalid_timestamp", "timestamp", '"yesterday"')
        assert isinstance(second, Accepted)
        assert (second.environment, second.event_id) == ("staging", "e_1")

    @pytest.mark.parametrize(
        ("field", "event", "value"),
        [
            (None, "[1]", "[1]"),
            ("event_name", "{}", None),
            ("event_name", '{"event_name": 5}', "5"),
            ("event_name", "not json", "not json"),
            ("properties", '{"properties": ' + "[" * 5000 + "]" * 5000 + "}", None),
        ],
    )
    def test_the_offending_value(self, field: str | None, event: str, value: str | None) -> None:
        rejected = RejectedEvent(0, field, "code", "message", event)
        frame = LogFrame(judged(rejected))
        found = arrivals(frame.frame)[0]
        assert isinstance(found, Rejected)
        assert found.value == (value if value is not None or field == "event_name" else event)
        assert len(line(found)) < 500

    def test_a_frame_that_cannot_be_read_is_seen_and_ends_nothing(self, log: Log, reader: LocalLogReader) -> None:
        log.append(b"{")
        log.append(sent("after"))
        first, second = islice(follow(reader, {}, end), 2)
        assert isinstance(first, Rejected)
        assert first.code == "unreadable_frame"
        assert isinstance(second, Accepted)

    def test_json_is_one_line_whatever_was_sent(self) -> None:
        payload = sent("n").replace(b'"session_id"', b'"properties": {\r\n "a" : 1e999,\n "b": "\\u0000"},"session_id"')
        (arrival,) = arrivals(LogFrame(payload, AS_SENT).frame)
        text = msgspec.json.encode(arrival)
        assert b"\n" not in text
        assert b'"properties":{"a":1e999,"b":"\\u0000"}' in text.replace(b", ", b",").replace(b": ", b":")
        assert json.loads(text)["outcome"] == "accepted"

    def test_no_key_is_ever_in_it(self) -> None:
        (arrival,) = arrivals(LogFrame(sent("n"), AS_SENT).frame)
        assert b"api_key" not in msgspec.json.encode(arrival)

    def test_wanted(self) -> None:
        rejected, accepted = arrivals(LogFrame(judged(LATE)).frame)
        assert is_wanted(accepted, None, False)
        assert not is_wanted(accepted, None, True)
        assert is_wanted(rejected, "kx_proj_a", True)
        assert not is_wanted(rejected, "kx_proj_b", True)


class LogFrame:
    """A frame with a payload, JUDGED if not said otherwise."""

    def __init__(self, payload: bytes, kind: int = JUDGED) -> None:
        self.frame = Frame(0, RECEIVED_US, kind, 1, 1, payload)


class TestLines:
    def test_an_accepted_event(self) -> None:
        (arrival,) = arrivals(LogFrame(sent("Pay"), AS_SENT).frame)
        assert line(arrival) == "2026-04-08T12:00:00.000000Z kx_proj_a ios tap Pay device=d_1"

    def test_a_rejected_event(self) -> None:
        arrival = arrivals(LogFrame(judged(LATE)).frame)[0]
        assert line(arrival) == (
            '2026-04-08T12:00:00.000000Z kx_proj_a web REJECTED invalid_timestamp timestamp: no instant ← "yesterday"'
        )

    def test_a_value_that_the_message_quotes_is_not_repeated(self) -> None:
        quoted = RejectedEvent(0, "timestamp", "invalid_timestamp", '`timestamp` is "yesterday".', LATE.event)
        assert "←" not in line(arrivals(LogFrame(judged(quoted)).frame)[0])

    def test_long_texts_are_cut(self) -> None:
        assert shorten("x" * 60) == "x" * 60
        assert shorten("x" * 61) == "x" * 59 + "…"
        (arrival,) = arrivals(LogFrame(sent("x" * 2048), AS_SENT).frame)
        assert len(line(arrival)) < 200


class TestCommand:
    def test_lines_of_a_project(self, log: Log, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        log.append(sent("Mine"))
        log.append(sent("Other", project="kx_proj_b"))
        log.append(sent("A\x1b[2Jline\nbreak"))
        tail_command(data_dir=str(tmp_path), from_start=True, project="kx_proj_a", limit=2)
        first, second = capsys.readouterr().out.splitlines()
        assert "Mine" in first
        assert r"A\x1b[2Jline\x0abreak" in second

    def test_json_of_rejected_events(self, log: Log, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        log.append(judged(LATE), JUDGED)
        tail_command(data_dir=str(tmp_path), from_start=True, rejected=True, json=True, limit=1)
        found = json.loads(capsys.readouterr().out)
        assert (found["outcome"], found["code"], found["event"]) == ("rejected", "invalid_timestamp", LATE.event)

    def test_a_limit_of_nothing_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(BadArgument, match="--limit is 0"):
            tail_command(data_dir=str(tmp_path), limit=0)

    def test_there_is_nothing_to_follow_before_the_first_start(self, tmp_path: Path) -> None:
        with pytest.raises(DataFolderError, match="There is no log in"):
            tail_command(data_dir=str(tmp_path))
