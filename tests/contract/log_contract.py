"""What every form of the log promises to ingest, which appends, and to those who read."""

import asyncio
from collections.abc import Sequence
from contextlib import closing

import pytest

from kixo.log import Buffers, Frame, Position
from kixo.log.opening import ensure_log, open_appender, open_log_reader, read_log_id
from kixo.settings import MIB, Settings
from kixo.stored import AS_SENT, JUDGED

Sent = tuple[str, Frame]
"""A project, and its frame; the offset does not count."""


def frame(payload: bytes, *, at_us: int = 1, kind: int = AS_SENT, accepted: int = 1, rejected: int = 0) -> Frame:
    return Frame(0, at_us, kind, accepted, rejected, payload)


def append(settings: Settings, sent: Sequence[Sent]) -> list[Position]:
    """Appends all of them in one turn of an event loop."""

    async def run() -> list[Position]:
        with closing(open_appender(settings, 0, lambda *_: None, told_nothing)) as appender:
            waiting = [
                appender.submit(project, each.received_at_us, each.kind, each.accepted, each.rejected, [each.payload])
                for project, each in sent
            ]
            return list(await asyncio.gather(*waiting))

    return asyncio.run(run())


def told_nothing(sentence: str, size: int) -> None:
    pytest.fail(f"{sentence}: {size}")


def read_all(settings: Settings, bytes_max: int = 2**40) -> dict[Position, Frame]:
    """Every frame by its position, read in as many steps as it takes."""
    found: dict[Position, Frame] = {}
    with closing(open_log_reader(settings, told_nothing)) as reader:
        for partition in reader.partitions():
            position = 0
            while frames := reader.read(partition, position, bytes_max):
                found |= {Position(partition, each.offset): each for each in frames}
                position = frames[-1].offset + 1
    return found


class LogContract:
    """Subclassed for each form, which gives the fixture `settings`: those of a log that nobody has used."""

    @pytest.fixture
    def settings(self) -> Settings:
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def log_id(self, settings: Settings) -> str:
        return ensure_log(settings)

    def test_a_log_keeps_its_id(self, settings: Settings, log_id: str) -> None:
        assert len(bytes.fromhex(log_id)) == 16
        assert ensure_log(settings) == read_log_id(settings) == log_id
        with closing(open_log_reader(settings, told_nothing)) as reader:
            assert reader.log_id == log_id

    def test_a_frame_is_read_as_it_was_appended_at_the_position_that_was_returned(self, settings: Settings) -> None:
        sent = [
            ("kx_proj_a", frame(b'{"n":1}', at_us=1_700_000_000_000_001)),
            ("kx_proj_b", frame(b'{"n":2}', kind=JUDGED, accepted=0, rejected=1000)),
            ("kx_proj_\u00e9", frame(b"\xf0\x9f\x8d\x89" * 10, accepted=1000, rejected=7, kind=JUDGED)),
        ]
        positions = append(settings, sent)
        expected = {
            position: each._replace(offset=position.offset) for position, (_, each) in zip(positions, sent, strict=True)
        }
        assert read_all(settings) == expected

    def test_a_payload_in_pieces_is_read_as_one(self, settings: Settings) -> None:
        async def run() -> Position:
            with closing(open_appender(settings, 0, lambda *_: None, told_nothing)) as appender:
                pieces: Buffers = [memoryview(b"one "), b"two ", memoryview(b"three")]
                return await appender.submit("kx_proj_a", 1, AS_SENT, 1, 0, pieces)

        position = asyncio.run(run())
        assert read_all(settings)[position].payload == b"one two three"

    def test_the_frames_of_a_project_stand_in_one_partition_in_the_order_of_their_submission(
        self, settings: Settings
    ) -> None:
        sent = [(f"kx_proj_{number % 7}", frame(b"%d" % number)) for number in range(300)]
        positions = append(settings, sent)
        for project in range(7):
            of_project = positions[project::7]
            assert len({position.partition for position in of_project}) == 1
            assert of_project == sorted(set(of_project))

    def test_reading_in_small_steps_gives_the_same(self, settings: Settings) -> None:
        append(settings, [("kx_proj_a", frame(b"x" * size)) for size in range(1, 200)])
        whole = read_all(settings)
        assert len(whole) == 199
        assert read_all(settings, bytes_max=1) == read_all(settings, bytes_max=500) == whole

    def test_a_reader_sees_what_is_appended_after_it_has_read_all(self, settings: Settings) -> None:
        (first,) = append(settings, [("kx_proj_a", frame(b"first"))])
        with closing(open_log_reader(settings, told_nothing)) as reader:
            partition = first.partition
            assert [each.payload for each in reader.read(partition, first.offset, MIB)] == [b"first"]
            end = reader.end_position(partition)
            assert end > first.offset
            assert reader.read(partition, end, MIB) == []
            (second,) = append(settings, [("kx_proj_a", frame(b"second"))])
            assert second.partition != partition or second.offset >= end
            found = [each.payload for each in reader.read(second.partition, second.offset, MIB)]
            assert found == [b"second"]

    def test_a_position_between_frames_gives_those_after_it_and_an_earlier_one_is_read_again(
        self, settings: Settings
    ) -> None:
        positions = append(settings, [("kx_proj_a", frame(b"%d" % number)) for number in range(10)])
        with closing(open_log_reader(settings, told_nothing)) as reader:
            for start in (7, 2, 9, 0):
                frames = reader.read(positions[start].partition, positions[start].offset, MIB)
                assert [each.offset for each in frames] == [position.offset for position in positions[start:]]

    def test_the_backlog_falls_to_nothing_at_the_end(self, settings: Settings) -> None:
        positions = append(settings, [("kx_proj_a", frame(b"x" * 100)) for _ in range(20)])
        partition = positions[0].partition
        with closing(open_log_reader(settings, told_nothing)) as reader:
            frames = reader.read(partition, 0, 1000)
            position = frames[-1].offset + 1
            assert 0 < len(frames) < 20
            assert reader.backlog_bytes(partition, position) >= 100 * (20 - len(frames))
            while frames := reader.read(partition, position, 1000):
                position = frames[-1].offset + 1
            assert reader.backlog_bytes(partition, position) == 0

    def test_what_was_not_read_survives_the_release_of_what_was(self, settings: Settings) -> None:
        positions = append(settings, [("kx_proj_a", frame(b"%d" % number)) for number in range(10)])
        with closing(open_log_reader(settings, told_nothing)) as reader:
            reader.release(positions[5].partition, positions[5].offset)
        assert set(positions[5:]) <= set(read_all(settings))

    def test_the_largest_frame_that_a_body_can_become_is_kept(self, settings: Settings) -> None:
        payload = b'{"event":"' + b'\\"' * settings.body_bytes_max + b'"}'
        (position,) = append(settings, [("kx_proj_a", frame(payload, kind=JUDGED))])
        assert read_all(settings)[position].payload == payload

    def test_an_appender_that_can_store_says_so(self, settings: Settings) -> None:
        async def run() -> tuple[str | None, str]:
            with closing(open_appender(settings, 0, lambda *_: None, told_nothing)) as appender:
                await appender.submit("kx_proj_a", 1, AS_SENT, 1, 0, [b"{}"])
                return appender.reason(), appender.durability

        assert asyncio.run(run()) == (None, self.durability)

    durability = ""

    def test_closing_ends_what_waits(self, settings: Settings) -> None:
        async def run() -> Position:
            appender = open_appender(settings, 0, lambda *_: None, told_nothing)
            waiting = appender.submit("kx_proj_a", 1, AS_SENT, 1, 0, [b"last"])
            appender.close()
            return await waiting

        position = asyncio.run(run())
        assert read_all(settings)[position].payload == b"last"

    def test_each_commit_and_its_bytes_are_told_of(self, settings: Settings) -> None:
        told: list[tuple[int, object]] = []

        async def run() -> None:
            with closing(open_appender(settings, 0, lambda *each: told.append(each), told_nothing)) as appender:
                await appender.submit("kx_proj_a", 1, AS_SENT, 1, 0, [b"x" * 1000])

        asyncio.run(run())
        ((size, failure),) = told
        assert 1000 <= size < 2000
        assert failure is None
