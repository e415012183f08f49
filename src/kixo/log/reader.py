"""Reading a local log.

The reader syncs a segment itself before it trusts what it sees. Otherwise it could hand on frames that a power cut
then takes back, and new frames would get offsets that the tables have passed already.
"""

import os
from bisect import bisect_right
from contextlib import suppress
from pathlib import Path

from kixo.files import sync_folder
from kixo.log import Frame, segment
from kixo.log.folder import Report, partitions, read_log_id, segments
from kixo.log.segment import Damage


class LocalLogReader:
    """The reading end of the log in `folder`; see `kixo.log.LogReader`. Not safe for several threads."""

    def __init__(self, folder: Path, report: Report) -> None:
        self._folder = folder
        self._report = report
        self._log_id = read_log_id(folder)
        self._cursors: dict[int, _Cursor] = {}

    @property
    def log_id(self) -> str:
        """The name of this log for good, 32 hexadecimal digits."""
        return self._log_id

    def close(self) -> None:
        """Closes the segments that are open."""
        for cursor in self._cursors.values():
            cursor.close()
        self._cursors.clear()

    def partitions(self) -> list[int]:
        """The numbers of the partitions, in order."""
        return partitions(self._folder)

    def end_position(self, partition: int) -> int:
        """The position after the newest frame."""
        paths = segments(self._folder / str(partition))
        if not paths:
            return 0
        end = segment.base_offset(paths[-1])
        for found, _ in segment.scan(paths[-1].read_bytes(), segment.HEADER_BYTES):
            if isinstance(found, Frame):
                end = found.offset + 1
        return end

    def read(self, partition: int, position: int, bytes_max: int) -> list[Frame]:
        """Durable frames from `position` on, in order; at least one if there is any."""
        cursor = self._cursors.get(partition)
        if cursor is None or cursor.position != position:
            if cursor is not None:
                cursor.close()
            cursor = self._cursors[partition] = _Cursor(self._folder / str(partition), position, self._report)
        return cursor.read(bytes_max)

    def backlog_bytes(self, partition: int, position: int) -> int:
        """Bytes at or after `position`, exact where `read` has got there and else to the segment."""
        cursor = self._cursors.get(partition)
        start = cursor.place if cursor is not None and cursor.position == position else None
        total = 0
        for path, following in _with_following(segments(self._folder / str(partition))):
            if following is not None and segment.base_offset(following) <= position:
                continue
            size = _size(path)
            skipped = start[1] if start is not None and start[0] == path else segment.HEADER_BYTES
            if start is None or segment.base_offset(path) >= segment.base_offset(start[0]):
                total += max(size - skipped, 0)
        return total

    def release(self, partition: int, position: int) -> int:
        """Deletes the segments that end before `position`. The newest whole one stays: it carries the next offset."""
        folder = self._folder / str(partition)
        paths = [path for path in segments(folder) if segment.base_offset(path) <= position]
        kept = next((path for path in reversed(paths) if _is_begun(path)), None)
        gone = [path for path in paths if kept is not None and path < kept]
        if gone:
            # Its writer may have made it just now: a power cut must not take its name and leave the others deleted.
            sync_folder(folder)
        for path in gone:
            path.unlink(missing_ok=True)
        return len(gone)


def _is_begun(path: Path) -> bool:
    """Whether a segment's header is whole: one that is torn is removed when its writer starts again."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        return segment.unpack_header(file.read(segment.HEADER_BYTES)) is not None
    return False


def _with_following(paths: list[Path]) -> list[tuple[Path, Path | None]]:
    return list(zip(paths, [*paths[1:], None], strict=True)) if paths else []


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


class _Cursor:
    """A place in a partition: the open segment, the byte in it, and the position that stands there."""

    def __init__(self, folder: Path, position: int, report: Report) -> None:
        self._folder = folder
        self._report = report
        self.position = position
        self._path = folder
        self._file = -1
        self._byte = 0

    @property
    def place(self) -> tuple[Path, int] | None:
        """The segment and the byte that is read next, None before the first read."""
        return (self._path, self._byte) if self._file >= 0 else None

    def close(self) -> None:
        """Closes the segment."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def read(self, bytes_max: int) -> list[Frame]:
        """Frames from here on; the place moves past them."""
        while True:
            try:
                return self._read_on(bytes_max)
            except FileNotFoundError:
                # The loader released the segment between listing and opening it: go on at the next one.
                self.close()

    def _read_on(self, bytes_max: int) -> list[Frame]:
        # Listed once, for a disk that failed for long leaves many segments: what is older than the newest stays so.
        paths = segments(self._folder)
        if not self._settle(paths):
            return []
        while True:
            newest = self._path == paths[-1]
            before = self._byte
            frames = self._read_segment(bytes_max, newest)
            if frames or (newest and self._byte == before):
                return frames
            if self._byte == before:
                self._go_to(paths[bisect_right(paths, self._path)])

    def _settle(self, paths: list[Path]) -> bool:
        """Opens the segment that holds the position, unless one is open; False where there is none yet."""
        if not paths:
            return False
        if self._file < 0:
            older = [path for path in paths if segment.base_offset(path) <= self.position]
            self._go_to(older[-1] if older else paths[0])
        elif self._path not in paths:
            self.close()
            return self._settle(paths)
        return True

    def _go_to(self, path: Path) -> None:
        self.close()
        self._path, self._byte = path, segment.HEADER_BYTES
        self._file = os.open(path, os.O_RDONLY)
        header = os.pread(self._file, segment.HEADER_BYTES, 0)
        if len(header) == segment.HEADER_BYTES and segment.unpack_header(header) is None:
            self._report(f"passed over the damaged header of {self._folder.name}/{path.name}", len(header))

    def _read_segment(self, bytes_max: int, newest: bool) -> list[Frame]:
        size = os.fstat(self._file).st_size
        if size <= self._byte:
            return []
        os.fdatasync(self._file)
        data = os.pread(self._file, min(bytes_max, size - self._byte), self._byte)
        wanted = segment.frame_bytes(data, 0)
        if wanted is not None and len(data) < wanted <= size - self._byte:
            data = os.pread(self._file, wanted, self._byte)
        whole = self._byte + len(data) == size
        return self._take(data, whole, newest) if data else []

    def _take(self, data: bytes, whole: bool, newest: bool) -> list[Frame]:
        """The frames of `data`, which starts at the place and ends with the segment if `whole`."""
        frames: list[Frame] = []
        taken = 0
        for found, end in segment.scan(data, 0):
            if isinstance(found, Damage):
                self._report(f"skipped damaged bytes of {self._folder.name}/{self._path.name}", found.end - found.start)
            elif found.offset >= self.position:
                frames.append(found)
                self.position = found.offset + 1
            taken = end
        if whole and not newest and taken < len(data):
            self._report(f"skipped the torn end of {self._folder.name}/{self._path.name}", len(data) - taken)
            taken = len(data)
        elif taken == 0 and not whole:
            # Damage longer than one read: look at the rest of the segment at once.
            rest = os.pread(self._file, os.fstat(self._file).st_size - self._byte, self._byte)
            return self._take(rest, True, newest)
        self._byte += taken
        return frames
