"""Looking at the log without a sync: it sees what is durable, nothing else, and never more than its bound."""

import errno
import os
from pathlib import Path

import pytest

from kixo.errors import Unavailable
from kixo.log import preview as log_preview
from kixo.log import segment
from kixo.log.durable import NAME, durable_bytes
from kixo.log.folder import ensure_log, segments
from kixo.log.preview import LogPreview, Stretch
from kixo.log.reader import LocalLogReader
from kixo.log.segment import FRAME_HEAD_BYTES
from tests.test_log import MIB, append, open_writer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ensure_log(tmp_path / "log")
    return tmp_path / "log"


def payloads(stretches: list[Stretch]) -> list[bytes]:
    return [stretch.data[head.start : head.end] for stretch in stretches for head in stretch.heads]


def test_a_preview_follows_the_writer_over_many_segments(folder: Path) -> None:
    writer = open_writer(folder, segment_bytes=300)
    preview = LogPreview(folder)
    seen: list[bytes] = []
    for number in range(50):
        append(writer, b"%d" % number, b"%d again" % number)
        seen += payloads(preview.read(0, MIB))
    writer.close()
    assert len(segments(folder / "0")) > 10
    assert seen == [text for number in range(50) for text in (b"%d" % number, b"%d again" % number)]
    assert preview.read(0, MIB) == []


def test_heads_say_what_the_frames_hold(folder: Path) -> None:
    writer = open_writer(folder)
    append(writer, b"first", b"second")
    writer.close()
    (stretch,) = LogPreview(folder).read(0, MIB)
    whole = [segment.verify(stretch.data, head) for head in stretch.heads]
    with_sync = LocalLogReader(folder, lambda sentence, size: None)
    assert whole == with_sync.read(0, 0, MIB)
    with_sync.close()


def test_what_is_written_and_not_synced_is_not_seen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = open_writer(folder)
    append(writer, b"durable")
    preview = LogPreview(folder)
    seen: list[bytes] = []

    def look_and_fail(_descriptor: int) -> None:
        assert b"refused" in segments(folder / "0")[-1].read_bytes()
        seen.extend(payloads(preview.read(0, MIB)))
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", look_and_fail)
        with pytest.raises(Unavailable):
            append(writer, b"refused")
    append(writer, b"after")
    seen += payloads(preview.read(0, MIB))
    writer.close()
    assert seen == [b"durable", b"after"]


def test_a_preview_syncs_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = open_writer(folder)
    append(writer, b"a")

    def complain(_descriptor: int) -> None:
        pytest.fail("a preview has synced")

    monkeypatch.setattr(os, "fdatasync", complain)
    monkeypatch.setattr(os, "fsync", complain)
    preview = LogPreview(folder)
    assert payloads(preview.newest(0, MIB)) == [b"a"]
    assert preview.find(0, 0) is not None
    writer.close()


def test_only_the_newest_is_read_of_more_than_the_bound(folder: Path) -> None:
    writer = open_writer(folder, segment_bytes=2000)
    for number in range(100):
        append(writer, b"%060d" % number)
    writer.close()
    preview = LogPreview(folder)
    stretches = preview.read(0, 1000)
    numbers = [int(payload) for payload in payloads(stretches)]
    assert numbers == list(range(100 - len(numbers), 100))
    assert 8 <= len(numbers) <= 10
    kept = sum(len(stretch.data) for stretch in stretches)
    whole = sum(path.stat().st_size - segment.HEADER_BYTES for path in segments(folder / "0"))
    assert kept == 1000
    assert stretches[0].skipped_bytes == whole - 1000


def test_newest_says_nothing_of_what_was_there_before_and_reading_goes_on_behind_it(folder: Path) -> None:
    writer = open_writer(folder, segment_bytes=500)
    for number in range(20):
        append(writer, b"%060d" % number)
    preview = LogPreview(folder)
    newest = preview.newest(0, 399)
    assert [int(payload) for payload in payloads(newest)] == [17, 18, 19]
    assert {stretch.skipped_bytes for stretch in newest} == {0}
    append(writer, b"20")
    assert payloads(preview.read(0, MIB)) == [b"20"]
    writer.close()


def test_a_partition_that_does_not_exist_yet_is_read_from_its_start(folder: Path) -> None:
    preview = LogPreview(folder)
    assert preview.partitions() == []
    assert preview.read(0, MIB) == []
    writer = open_writer(folder)
    append(writer, b"first")
    assert preview.partitions() == [0]
    assert payloads(preview.read(0, MIB)) == [b"first"]
    writer.close()


def test_segments_may_go_while_it_looks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = open_writer(folder, segment_bytes=100)
    append(writer, b"x" * 100)
    preview = LogPreview(folder)
    preview.read(0, MIB)
    append(writer, b"y" * 100)
    append(writer, b"z" * 100)
    listed = segments(folder / "0")
    monkeypatch.setattr(log_preview, "segments", lambda _: listed)
    for path in listed[:2]:
        path.unlink()
    assert payloads(preview.read(0, MIB)) == [b"z" * 100]
    assert preview.find(0, 1) is None
    writer.close()


def test_a_segment_made_between_listing_and_asking_costs_and_repeats_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = open_writer(folder, segment_bytes=100)
    append(writer, b"x" * 100)
    preview = LogPreview(folder)
    assert len(payloads(preview.read(0, MIB))) == 1
    listed = segments(folder / "0")
    append(writer, b"y" * 100)
    with monkeypatch.context() as patch:
        patch.setattr(log_preview, "segments", lambda _: listed)
        assert payloads(preview.read(0, MIB)) == []
    assert payloads(preview.read(0, MIB)) == [b"y" * 100]
    writer.close()


def test_damage_is_passed_over_and_no_damaged_frame_is_proved(folder: Path) -> None:
    writer = open_writer(folder)
    append(writer, b"first", b"second", b"third")
    writer.close()
    (path,) = segments(folder / "0")
    data = bytearray(path.read_bytes())
    second = segment.HEADER_BYTES + FRAME_HEAD_BYTES + len(b"first")
    for place, found in ((second, [b"first", b"third"]), (second + FRAME_HEAD_BYTES, [b"first", None, b"third"])):
        damaged = bytearray(data)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        (stretch,) = LogPreview(folder).read(0, MIB)
        proved = [segment.verify(stretch.data, head) for head in stretch.heads]
        assert [frame and frame.payload for frame in proved] == found


def test_any_frame_is_found_by_its_offset(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_preview, "FIND_BYTES", 64)
    writer = open_writer(folder, segment_bytes=1000)
    for number in range(30):
        append(writer, b"%d" % number * (1 + number * 7))
    preview = LogPreview(folder)
    for number in range(30):
        frame = preview.find(0, number)
        assert frame is not None
        assert frame.payload == b"%d" % number * (1 + number * 7)
    assert preview.find(0, 30) is None
    assert preview.find(1, 0) is None
    writer.close()


def test_a_writer_that_opens_again_says_what_it_found_durable(folder: Path) -> None:
    writer = open_writer(folder)
    append(writer, b"first")
    writer.close()
    (path,) = segments(folder / "0")
    path.write_bytes(path.read_bytes() + b"torn")
    (folder / "0" / NAME).unlink()
    assert durable_bytes(folder / "0", 0) == 0
    assert LogPreview(folder).read(0, MIB) == []
    open_writer(folder).close()
    assert durable_bytes(folder / "0", 0) == path.stat().st_size
    assert payloads(LogPreview(folder).read(0, MIB)) == [b"first"]


def test_what_is_said_of_one_segment_is_not_taken_for_anothers(folder: Path) -> None:
    writer = open_writer(folder)
    append(writer, b"first")
    writer.close()
    assert durable_bytes(folder / "0", 0) > 0
    assert durable_bytes(folder / "0", 1) == 0
