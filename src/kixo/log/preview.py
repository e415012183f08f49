"""Looking at a local log while it is written, without a sync and without a say in anything.

The loader's reader syncs a segment before it trusts it (`kixo.log.reader`). A preview must not: who only looks should
not cost the disk anything. It reads no further than the writer has said that it is durable (`kixo.log.durable`), so a
frame whose sync is still under way, or failed, is not there yet. That holds as far as the kernel's page cache is
believed: what is shown is a preview, and nothing may be stored because of it.

Each read is bounded. Where more has come than the bound, the oldest of it is passed over and its bytes are counted.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from kixo.log import Frame, segment
from kixo.log.durable import durable_bytes
from kixo.log.folder import partitions, segments
from kixo.log.segment import HEADER_BYTES, FrameHead

FIND_BYTES = 1024 * 1024


class Stretch(NamedTuple):
    """A piece of a partition: its bytes, the heads of the frames in them, and how many bytes were passed over.

    `proved`: the bytes are payloads only, which somebody has checked already.
    """

    partition: int
    data: bytes
    heads: list[FrameHead]
    skipped_bytes: int
    proved: bool = False

    def frame(self, head: FrameHead) -> Frame | None:
        """The frame of one of the heads, None where its checksum is not right."""
        if self.proved:
            return Frame(*head[:5], self.data[head.start : head.end])
        return segment.verify(self.data, head)


class Preview(Protocol):
    """The looking end of a log. Not safe for several threads. Methods raise `OSError` and `DataFolderError`."""

    def partitions(self) -> list[int]:
        """The numbers of the partitions that exist now, in order."""
        ...

    def newest(self, partition: int, bytes_max: int) -> list[Stretch]:
        """The end of a partition, at most about `bytes_max`; `read` goes on behind it."""
        ...

    def read(self, partition: int, bytes_max: int) -> list[Stretch]:
        """What has become durable since the last read; of more than the bound its end."""
        ...

    def find(self, partition: int, offset: int) -> Frame | None:
        """The frame at an offset, None where it is not there or not any more."""
        ...

    def close(self) -> None:
        """Lets go of what is open for looking."""
        ...


class _Span(NamedTuple):
    """Bytes of a segment that are durable and not read yet."""

    path: Path
    start: int
    end: int


class LogPreview:
    """The looking end of the log in `folder`. Not safe for several threads.

    Segments that are released meanwhile are passed over. Methods raise `OSError`, and `DataFolderError` where a newer
    Kixo wrote the log.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places: dict[int, _Span] = {}

    def partitions(self) -> list[int]:
        """The numbers of the partitions that exist now, in order."""
        return partitions(self._folder)

    def newest(self, partition: int, bytes_max: int) -> list[Stretch]:
        """About the last `bytes_max` of a partition; `read` goes on behind them."""
        self._places.pop(partition, None)
        return [stretch._replace(skipped_bytes=0) for stretch in self.read(partition, bytes_max)]

    def read(self, partition: int, bytes_max: int) -> list[Stretch]:
        """What has become durable since the last read, the first time from the start; of more than the bound its end.

        A read has one stretch for each segment that it touches, in order.
        """
        spans = self._unread(partition)
        if not spans:
            return []
        # Never back: what the writer says of a segment that it made just now is not yet known of the one before.
        self._places[partition] = spans[-1]._replace(end=max(spans[-1].start, spans[-1].end))
        kept, skipped = _last(spans, bytes_max)
        stretches = [self._stretch(partition, span) for span in kept]
        return [stretches[0]._replace(skipped_bytes=skipped), *stretches[1:]] if stretches else []

    def find(self, partition: int, offset: int) -> Frame | None:
        """The frame at an offset, None where it is not there or not any more. Reads at most one segment."""
        spans = [span for span in self._spans(partition) if segment.base_offset(span.path) <= offset]
        if not spans:
            return None
        with suppress(FileNotFoundError), spans[-1].path.open("rb", buffering=0) as file:
            return _find(file.fileno(), spans[-1], offset)
        return None

    def close(self) -> None:
        """Nothing is open between two looks."""

    def _spans(self, partition: int) -> list[_Span]:
        """The durable part of each segment. Of an older one that is all: what is not durable is cut off at once."""
        folder = self._folder / str(partition)
        paths = segments(folder)
        older = [_Span(path, HEADER_BYTES, _size(path)) for path in paths[:-1]]
        newest = [_Span(path, HEADER_BYTES, durable_bytes(folder, segment.base_offset(path))) for path in paths[-1:]]
        return older + newest

    def _unread(self, partition: int) -> list[_Span]:
        place = self._places.get(partition)
        if place is None:
            return self._spans(partition)
        spans = [span for span in self._spans(partition) if span.path >= place.path]
        return [span._replace(start=max(span.start, place.end)) if span.path == place.path else span for span in spans]

    def _stretch(self, partition: int, span: _Span) -> Stretch:
        with suppress(FileNotFoundError), span.path.open("rb", buffering=0) as file:
            data = os.pread(file.fileno(), span.end - span.start, span.start)
            return Stretch(partition, data, list(segment.heads(data, 0)), 0)
        return Stretch(partition, b"", [], 0)


def _find(file: int, span: _Span, offset: int) -> Frame | None:
    start, size = span.start, FIND_BYTES
    while start < span.end:
        data = os.pread(file, min(size, span.end - start), start)
        passed = 0
        for head in segment.heads(data, 0):
            if head.offset >= offset:
                return segment.verify(data, head) if head.offset == offset else None
            passed = head.end
        if not passed and size >= span.end - start:
            return None
        # A frame that is longer than one read is read whole.
        start, size = start + passed, FIND_BYTES if passed else 2 * size
    return None


def _last(spans: list[_Span], bytes_max: int) -> tuple[list[_Span], int]:
    """The ends of the spans, of `bytes_max` together, and how many bytes are left out before them."""
    kept: list[_Span] = []
    skipped = 0
    for span in reversed(spans):
        size = max(0, span.end - span.start)
        taken = min(size, bytes_max)
        bytes_max -= taken
        skipped += size - taken
        if taken:
            kept.append(span._replace(start=span.end - taken))
    return kept[::-1], skipped


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0
