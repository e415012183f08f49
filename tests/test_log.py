"""The log: its format, cut and flipped at every byte, its writer on bad disks, and its reader behind both."""

import asyncio
import errno
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from kixo.errors import DataFolderError, Unavailable
from kixo.log import Frame, Position, partition_of, segment
from kixo.log import reader as log_reader
from kixo.log.folder import ensure_log, read_log_id, segments
from kixo.log.group_commit import GROUP_BYTES_MAX, INLINE_BYTES_MAX, PROJECT_BYTES_MAX, GroupCommit
from kixo.log.reader import LocalLogReader
from kixo.log.segment import Damage
from kixo.log.writer import OFFSETS_SKIPPED, LocalLogWriter

NO_FLOOR = 0
MIB = 1024 * 1024
Reports = list[tuple[str, int]]


def open_writer(
    folder: Path, reports: Reports | None = None, *, segment_bytes: int = MIB, floor: int = NO_FLOOR
) -> LocalLogWriter:
    told = [] if reports is None else reports
    return LocalLogWriter(
        folder,
        0,
        segment_bytes=segment_bytes,
        free_bytes_min=floor,
        now_us=lambda: 1_000_000,
        report=lambda sentence, size: told.append((sentence, size)),
    )


@contextmanager
def reading(folder: Path, reports: Reports | None = None) -> Iterator[LocalLogReader]:
    told = [] if reports is None else reports
    reader = LocalLogReader(folder, lambda sentence, size: told.append((sentence, size)))
    try:
        yield reader
    finally:
        reader.close()


def read_all(folder: Path, reports: Reports | None = None, bytes_max: int = MIB) -> list[Frame]:
    with reading(folder, reports) as reader:
        frames: list[Frame] = []
        while more := reader.read(0, frames[-1].offset + 1 if frames else 0, bytes_max):
            frames += more
        return frames


def append(writer: LocalLogWriter, *payloads: bytes) -> None:
    packed = [
        buffer for payload in payloads for buffer in segment.pack_frame(writer.next_offset(), 7, 0, 2, 1, [payload])
    ]
    writer.commit(packed)


def refuse_to_sync(_descriptor: int) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ensure_log(tmp_path / "log")
    return tmp_path / "log"


@given(
    st.integers(0, 2**63),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 1),
    st.integers(0, 65535),
    st.integers(0, 65535),
    st.lists(st.binary(max_size=300), min_size=1, max_size=3),
)
def test_a_frame_comes_back_as_it_was_packed(
    offset: int, received_at_us: int, kind: int, accepted: int, rejected: int, payload: list[bytes]
) -> None:
    data = b"".join(segment.pack_frame(offset, received_at_us, kind, accepted, rejected, payload))
    whole = Frame(offset, received_at_us, kind, accepted, rejected, b"".join(payload))
    assert segment.unpack_frame(data, 0) == (whole, len(data))
    assert segment.frame_offset(data) == offset
    assert segment.frame_bytes(data, 0) == len(data)


def three_frames() -> tuple[bytes, list[int]]:
    """Three packed frames, and where each ends."""
    packed = [b"".join(segment.pack_frame(n, 7, 0, 1, 0, [b'{"n":%d}' % n * 3])) for n in range(3)]
    ends = [sum(map(len, packed[: n + 1])) for n in range(3)]
    return b"".join(packed), ends


def test_cut_at_every_byte_a_log_gives_the_whole_frames_before_the_cut() -> None:
    data, ends = three_frames()
    for cut in range(len(data)):
        found = [item for item, _ in segment.scan(data[:cut], 0)]
        assert [frame.offset for frame in found if isinstance(frame, Frame)] == [
            n for n, end in enumerate(ends) if end <= cut
        ]
        assert not any(isinstance(item, Damage) for item in found)


def test_with_any_bit_flipped_a_log_gives_no_wrong_frame_and_names_the_damage() -> None:
    data, ends = three_frames()
    truth = {item for item, _ in segment.scan(data, 0)}
    for place in range(len(data)):
        for bit in range(8):
            broken = bytearray(data)
            broken[place] ^= 1 << bit
            found = [item for item, _ in segment.scan(bytes(broken), 0)]
            frames = [item for item in found if isinstance(item, Frame)]
            assert set(frames) < truth
            assert len(frames) == 2
            damaged_last = place >= ends[1]
            assert any(isinstance(item, Damage) for item in found) != damaged_last


@settings(max_examples=200)
@given(st.binary(max_size=400))
def test_bytes_that_are_no_log_give_no_frame(data: bytes) -> None:
    assert not any(isinstance(item, Frame) for item, _ in segment.scan(data, 0))


def test_frames_are_read_in_the_order_they_were_written_over_many_segments(folder: Path) -> None:
    writer = open_writer(folder, segment_bytes=300)
    for number in range(50):
        append(writer, b"%d" % number, b"%d again" % number)
    writer.close()
    assert len(segments(folder / "0")) > 10
    for bytes_max in (1, 100, 1000, MIB):
        frames = read_all(folder, bytes_max=bytes_max)
        assert [frame.offset for frame in frames] == list(range(100))
        assert frames[98].payload == b"49"


def test_reading_starts_at_any_position_and_follows_the_writer(folder: Path) -> None:
    writer = open_writer(folder)
    append(writer, b"a", b"b", b"c")
    with reading(folder) as reader:
        assert [frame.payload for frame in reader.read(0, 1, MIB)] == [b"b", b"c"]
        assert reader.read(0, 3, MIB) == []
        assert reader.backlog_bytes(0, 3) == 0
        append(writer, b"d")
        assert reader.backlog_bytes(0, 3) == segment.FRAME_HEAD_BYTES + 1
        assert [frame.payload for frame in reader.read(0, 3, MIB)] == [b"d"]
        assert reader.end_position(0) == 4
    writer.close()


def test_a_writer_goes_on_where_the_last_one_ended(folder: Path) -> None:
    for number in range(3):
        writer = open_writer(folder)
        append(writer, b"%d" % number)
        writer.close()
    offsets = [frame.offset for frame in read_all(folder)]
    assert offsets == [0, 1 + OFFSETS_SKIPPED, 2 + 2 * OFFSETS_SKIPPED]


def test_a_torn_tail_of_any_length_is_cut_off_and_reported(folder: Path) -> None:
    writer = open_writer(folder)
    append(writer, b"first", b"second")
    writer.close()
    (path,) = segments(folder / "0")
    whole = path.read_bytes()
    first_end = segment.HEADER_BYTES + segment.FRAME_HEAD_BYTES + len(b"first")
    for cut in range(segment.HEADER_BYTES, len(whole)):
        for other in segments(folder / "0"):
            other.unlink()
        path.write_bytes(whole[:cut])
        reports: Reports = []
        writer = open_writer(folder, reports)
        append(writer, b"after")
        writer.close()
        kept = [b"first"] if cut >= first_end else []
        assert [frame.payload for frame in read_all(folder)] == [*kept, b"after"]
        torn = cut - (first_end if kept else segment.HEADER_BYTES)
        assert [size for _, size in reports] == ([torn] if torn else [])


def test_a_segment_cut_in_its_header_is_removed_and_reported(folder: Path) -> None:
    writer = open_writer(folder)
    append(writer, b"gone")
    writer.close()
    (path,) = segments(folder / "0")
    for length in range(segment.HEADER_BYTES):
        path.write_bytes(segment.pack_header(segment.Header(0, 0, 0, bytes(16)))[:length])
        reports: Reports = []
        open_writer(folder, reports).close()
        assert len(reports) == 1
        assert segments(folder / "0") == []


def test_damage_in_the_middle_is_skipped_reported_and_never_cut_off(folder: Path) -> None:
    writer = open_writer(folder)
    append(writer, b"first", b"second", b"third")
    writer.close()
    (path,) = segments(folder / "0")
    data = bytearray(path.read_bytes())
    data[segment.HEADER_BYTES + segment.FRAME_HEAD_BYTES + len(b"first") + 20] ^= 1
    path.write_bytes(data)
    reports: Reports = []
    assert [frame.payload for frame in read_all(folder, reports)] == [b"first", b"third"]
    assert [size for _, size in reports] == [segment.FRAME_HEAD_BYTES + len(b"second")]
    open_writer(folder).close()
    assert path.read_bytes() == bytes(data)


def test_a_damaged_end_of_an_older_segment_is_reported_and_reading_goes_on(folder: Path) -> None:
    writer = open_writer(folder, segment_bytes=100)
    append(writer, b"a" * 100)
    append(writer, b"b")
    writer.close()
    first, _ = segments(folder / "0")
    first.write_bytes(first.read_bytes()[:-1])
    reports: Reports = []
    assert [frame.payload for frame in read_all(folder, reports)] == [b"b"]
    assert len(reports) == 1


def test_released_segments_go_but_the_newest_stays_to_carry_the_next_offset(folder: Path) -> None:
    writer = open_writer(folder, segment_bytes=100)
    for _ in range(4):
        append(writer, b"x" * 100)
    writer.close()
    with reading(folder) as reader:
        assert reader.release(0, 2) == 2
        assert reader.release(0, 4) == 1
    writer = open_writer(folder)
    assert writer.next_offset() == 4 + OFFSETS_SKIPPED
    writer.close()


def test_a_segment_that_goes_between_listing_and_opening_is_passed_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = open_writer(folder, segment_bytes=100)
    append(writer, b"x" * 100)
    append(writer, b"y" * 100)
    writer.close()
    listed = segments(folder / "0")
    listings = iter([listed])
    monkeypatch.setattr(log_reader, "segments", lambda path: next(listings, None) or segments(path))
    listed[0].unlink()
    with reading(folder) as reader:
        assert [frame.payload for frame in reader.read(0, 0, 1000)] == [b"y" * 100]


def test_a_released_segment_goes_only_when_the_name_of_the_next_is_durable(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = open_writer(folder, segment_bytes=100)
    append(writer, b"x" * 100)
    append(writer, b"y" * 100)
    writer.close()
    there: list[int] = []
    monkeypatch.setattr(log_reader, "sync_folder", lambda path: there.append(len(segments(path))))
    with reading(folder) as reader:
        assert [reader.release(0, position) for position in (0, 1, 1)] == [0, 1, 0]
    assert there == [2]


def test_a_damaged_header_is_reported_and_costs_no_frame(folder: Path) -> None:
    writer = open_writer(folder, segment_bytes=100)
    append(writer, b"x" * 100)
    append(writer, b"y" * 100)
    append(writer, b"z" * 100)
    writer.close()
    first, second, third = segments(folder / "0")
    data = bytearray(second.read_bytes())
    data[10] ^= 1
    second.write_bytes(data)
    reports: Reports = []
    assert [frame.payload[:1] for frame in read_all(folder, reports)] == [b"x", b"y", b"z"]
    assert [sentence for sentence, _ in reports] == [f"passed over the damaged header of 0/{second.name}"]
    with reading(folder) as reader:
        assert reader.release(0, 3) == 2
    assert not first.exists()
    assert segments(folder / "0") == [third]


def test_a_segment_whose_header_is_torn_releases_nothing_and_costs_no_offset(folder: Path) -> None:
    writer = open_writer(folder, segment_bytes=100)
    append(writer, b"x" * 100, b"y" * 100)
    writer.close()
    (folder / "0" / segment.file_name(2)).write_bytes(b"")
    with reading(folder) as reader:
        assert reader.release(0, 2) == 0
    writer = open_writer(folder)
    assert writer.next_offset() > 2
    writer.close()


def test_what_a_failed_commit_showed_the_reader_never_hides_a_later_frame(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = open_writer(folder)
    append(writer, b"durable")
    with reading(folder) as reader, monkeypatch.context() as patch:
        taken: list[Frame] = []

        def fail(_descriptor: int) -> None:
            patch.undo()
            taken.extend(reader.read(0, 0, MIB))
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(Unavailable):
            append(writer, b"refused")
        writer.close()
        assert [frame.payload for frame in taken] == [b"durable", b"refused"]
        writer = open_writer(folder)
        append(writer, b"acknowledged")
        writer.close()
        assert [frame.payload for frame in reader.read(0, taken[-1].offset + 1, MIB)] == [b"acknowledged"]


def test_below_the_free_space_floor_nothing_is_written(folder: Path) -> None:
    writer = open_writer(folder, floor=2**60)
    with pytest.raises(Unavailable, match="bytes free"):
        append(writer, b"no room")
    writer.close()
    assert read_all(folder) == []


def test_after_a_failed_sync_nothing_is_kept_and_the_segment_is_never_written_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = open_writer(folder)
    append(writer, b"durable")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", refuse_to_sync)
        with pytest.raises(Unavailable, match="Nothing was stored"):
            append(writer, b"refused")
    append(writer, b"later")
    writer.close()
    assert len(segments(folder / "0")) == 2
    assert [frame.payload for frame in read_all(folder)] == [b"durable", b"later"]


def test_a_disk_that_fails_for_long_leaves_one_segment_for_the_time_after(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = open_writer(folder)
    append(writer, b"durable")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", refuse_to_sync)
        patch.setattr(os, "fsync", refuse_to_sync)
        for _ in range(5):
            with pytest.raises(Unavailable, match="Nothing was stored"):
                append(writer, b"refused")
    append(writer, b"later")
    writer.close()
    assert len(segments(folder / "0")) == 2
    assert [frame.payload for frame in read_all(folder)] == [b"durable", b"later"]
    with reading(folder) as reader:
        assert reader.release(0, reader.end_position(0)) == 1


def test_what_is_written_to_a_deleted_segment_is_not_acknowledged(folder: Path) -> None:
    writer = open_writer(folder)
    append(writer, b"durable")
    segments(folder / "0")[0].unlink()
    with pytest.raises(Unavailable, match="No such file"):
        append(writer, b"refused")
    append(writer, b"later")
    writer.close()
    assert [frame.payload for frame in read_all(folder)] == [b"later"]


def test_many_empty_segments_are_listed_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for payload in (b"first", b"last"):
        writer = open_writer(folder)
        append(writer, payload)
        writer.close()
    first, last = segments(folder / "0")
    for number in range(1, 50):
        empty = first.with_name(segment.file_name(number))
        empty.write_bytes(first.read_bytes()[: segment.HEADER_BYTES])
    listings: list[Path] = []

    def list_segments(path: Path) -> list[Path]:
        listings.append(path)
        return segments(path)

    monkeypatch.setattr(log_reader, "segments", list_segments)
    with reading(folder) as reader:
        reader.read(0, 0, MIB)
        assert [frame.payload for frame in reader.read(0, 1, MIB)] == [b"last"]
        assert len(listings) == 2
        monkeypatch.undo()
        assert reader.release(0, segment.base_offset(last)) == 50


def test_a_disk_that_fills_up_in_the_middle_of_a_write_keeps_nothing_of_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = open_writer(folder)
    append(writer, b"durable")
    real = os.writev

    def short(descriptor: int, buffers: list[bytes]) -> int:
        return real(descriptor, [b"".join(buffers)[:30]])

    def full(_descriptor: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", short)
        patch.setattr(os, "write", full)
        with pytest.raises(Unavailable, match="No space left"):
            append(writer, b"refused" * 100)
    append(writer, b"later")
    writer.close()
    reports: Reports = []
    assert [frame.payload for frame in read_all(folder, reports)] == [b"durable", b"later"]
    assert reports == []


def test_short_writes_are_finished(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = open_writer(folder)
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda descriptor, buffers: real(descriptor, [b"".join(buffers)[:11]]))
    append(writer, b"whole")
    writer.close()
    assert [frame.payload for frame in read_all(folder)] == [b"whole"]


def test_a_partition_has_one_writer(folder: Path) -> None:
    writer = open_writer(folder)
    with pytest.raises(DataFolderError, match="held by another process"):
        open_writer(folder)
    writer.close()
    open_writer(folder).close()


def test_a_log_keeps_its_id_and_a_newer_one_is_refused(folder: Path) -> None:
    assert ensure_log(folder) == read_log_id(folder)
    (folder / "log.json").write_text('{"format": 99, "log_id": "00"}')
    with pytest.raises(DataFolderError, match="newer"):
        ensure_log(folder)
    (folder / "log.json").write_text("{")
    with pytest.raises(DataFolderError, match=r"log\.json is damaged"):
        ensure_log(folder)


def test_a_segment_of_a_newer_format_is_refused(folder: Path) -> None:
    data = bytearray(segment.pack_header(segment.Header(0, 0, 0, bytes(16))))
    data[8] = 99
    assert segment.unpack_header(bytes(data)) is None
    newer = bytes(data[:-8]) + xxh3_64_intdigest(bytes(data[:-8])).to_bytes(8, "little")
    with pytest.raises(DataFolderError, match="Use the newer Kixo"):
        segment.unpack_header(newer)


class Disk:
    """A log writer that fails on demand and remembers its groups."""

    partition = 3

    def __init__(self) -> None:
        self.groups: list[list[bytes]] = []
        self.failing: Exception | None = None
        self._next = 0

    def next_offset(self) -> int:
        self._next += 1
        return self._next

    def commit(self, frames: list[bytes]) -> None:
        if self.failing is not None:
            raise self.failing
        self.groups.append(frames)

    def close(self) -> None:
        self.groups.append([])


def open_commits(disk: Disk, queue_bytes_max: int = 16 * MIB) -> GroupCommit:
    return GroupCommit(disk, queue_bytes_max=queue_bytes_max, observe=lambda *_: None)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [10, INLINE_BYTES_MAX * 2])
def test_requests_of_one_turn_share_one_commit(size: int) -> None:
    async def run() -> list[list[bytes]]:
        disk = Disk()
        commits = open_commits(disk)
        await asyncio.gather(*[commits.submit(f"p{n}", 0, 0, 1, 0, [b"x" * size]) for n in range(5)])
        commits.close()
        return disk.groups

    groups = asyncio.run(run())
    assert [len(group) for group in groups] == [10, 0]


def test_the_large_requests_of_one_project_share_commits_with_others_and_do_not_hold_them_up() -> None:
    async def run() -> tuple[list[list[bytes]], list[Position]]:
        disk = Disk()
        commits = open_commits(disk)
        flood = [commits.submit("flood", 0, 0, 1, 0, [b"x" * PROJECT_BYTES_MAX]) for _ in range(3)]
        others = [commits.submit(f"other {n}", 0, 0, 1, 0, [b"small"]) for n in range(2)]
        positions = await asyncio.gather(*flood, *others)
        commits.close()
        return disk.groups, positions

    groups, positions = asyncio.run(run())
    payloads = [[len(buffer) for buffer in group[1::2]] for group in groups]
    assert payloads == [[PROJECT_BYTES_MAX, 5, 5], [PROJECT_BYTES_MAX], [PROJECT_BYTES_MAX], []]
    # Offsets rise in the order in which frames are written, whoever came first.
    assert [position.offset for position in positions] == [1, 4, 5, 2, 3]
    assert [segment.frame_offset(group[at]) for group in groups for at in range(0, len(group), 2)] == [1, 2, 3, 4, 5]


def test_a_group_has_a_bound_however_many_projects_wait() -> None:
    async def run() -> list[list[bytes]]:
        disk = Disk()
        commits = open_commits(disk, queue_bytes_max=4 * GROUP_BYTES_MAX)
        size = GROUP_BYTES_MAX // 8
        await asyncio.gather(*[commits.submit(f"p{n}", 0, 0, 1, 0, [b"x" * size]) for n in range(10)])
        commits.close()
        return disk.groups

    assert [len(group) // 2 for group in asyncio.run(run())] == [8, 2, 0]


@pytest.mark.parametrize("size", [10, INLINE_BYTES_MAX * 2])
def test_each_request_of_a_commit_is_told_its_own_position(size: int) -> None:
    async def run() -> list[Position]:
        commits = open_commits(Disk())
        positions = await asyncio.gather(*[commits.submit("p", 0, 0, 1, 0, [b"x" * size]) for _ in range(3)])
        commits.close()
        return positions

    assert asyncio.run(run()) == [Position(3, 1), Position(3, 2), Position(3, 3)]


@pytest.mark.parametrize("size", [10, INLINE_BYTES_MAX * 2])
@pytest.mark.parametrize("failure", [Unavailable("Nothing was stored."), RuntimeError("a defect")])
def test_a_failed_commit_fails_its_requests_and_the_next_one_passes(size: int, failure: Exception) -> None:
    async def run() -> None:
        disk = Disk()
        commits = open_commits(disk)
        disk.failing = failure
        with pytest.raises(Unavailable):
            await commits.submit("p", 0, 0, 1, 0, [b"x" * size])
        disk.failing = None
        await commits.submit("p", 0, 0, 1, 0, [b"x" * size])
        commits.close()

    asyncio.run(run())


def test_a_full_queue_is_refused_at_once_and_has_room_after_the_commit() -> None:
    async def run() -> None:
        commits = open_commits(Disk(), queue_bytes_max=100)
        first = commits.submit("p", 0, 0, 1, 0, [b"x" * 200])
        with pytest.raises(Unavailable, match="already wait"):
            commits.submit("p", 0, 0, 1, 0, [b"x"])
        await first
        await commits.submit("p", 0, 0, 1, 0, [b"x"])
        commits.close()

    asyncio.run(run())


def test_closing_commits_what_still_waits() -> None:
    async def run() -> list[list[bytes]]:
        disk = Disk()
        commits = open_commits(disk)
        waiting = commits.submit("p", 0, 0, 1, 0, [b"last"])
        commits.close()
        await waiting
        return disk.groups

    assert [len(group) for group in asyncio.run(run())] == [2, 0]


def test_a_project_keeps_its_partition_for_good() -> None:
    """Copies of an event meet in one partition only as long as this rule never changes."""
    projects = ("kx_proj_abc123", "kx_proj_", "kx_proj_7f3b", "\u00e9")
    assert [partition_of(project, 12) for project in projects] == [10, 9, 4, 3]
    assert [partition_of(project, 1) for project in projects] == [0, 0, 0, 0]


def test_projects_are_spread_over_all_partitions() -> None:
    found = Counter(partition_of(f"kx_proj_{number}", 12) for number in range(12_000))
    assert sorted(found) == list(range(12))
    assert min(found.values()) > 800
