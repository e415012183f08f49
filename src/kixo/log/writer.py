"""Writing a local log: frames are appended and synced, then acknowledged.

The file system's promises that this relies on: `fdatasync` makes a file's bytes and length durable, `fsync` of a
folder makes its names durable.

What has once been visible in a segment may be cut off, never overwritten, so a reader that is ahead of the sync is
safe; so each opening begins a new segment. After any failure the segment is cut back to what was durable and closed
for good: after a failed sync the kernel may call pages clean that never reached the disk, so the file proves nothing
any more.
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path

from kixo.errors import DataFolderError, Unavailable
from kixo.files import make_folder, sync_folder, try_lock
from kixo.log import Buffers, Frame, segment
from kixo.log.durable import DurableMark
from kixo.log.folder import Report, read_log_id, segments
from kixo.log.segment import Header

RETRY_AFTER_S = 5
LOCK = "writer.lock"
# What one `writev` takes on every system, and the size below which a copy is cheaper than many pieces.
WRITEV_BUFFERS_MAX = 1024
JOIN_BYTES_MAX = 64 * 1024
# More offsets than a queue of requests can hold. There is room for 8 million million openings.
OFFSETS_SKIPPED = 1 << 20


class PartitionHeld(DataFolderError):
    """Another process writes the partition."""


class LocalLogWriter:
    """The writing end of one partition; see `kixo.log.LogWriter`. Not safe for several threads."""

    def __init__(
        self,
        folder: Path,
        partition: int,
        *,
        segment_bytes: int,
        free_bytes_min: int,
        now_us: Callable[[], int],
        report: Report,
    ) -> None:
        self._folder = folder / str(partition)
        self.partition = partition
        self._log_id = bytes.fromhex(read_log_id(folder))
        self._segment_bytes = segment_bytes
        self._free_bytes_min = free_bytes_min
        self._now_us = now_us
        self._report = report
        self._path = self._folder
        self._file = -1
        self._size = 0
        self._base = 0
        self._unsynced: Path | None = None
        make_folder(self._folder)
        self._lock = _lock(self._folder)
        self._mark = DurableMark(self._folder)
        self._next = self._recover()

    def close(self) -> None:
        """Closes the segment and lets go of the partition."""
        self._close_segment()
        self._mark.close()
        os.close(self._lock)

    def next_offset(self) -> int:
        """Takes the next offset. One that is taken and never committed leaves a gap, which is allowed."""
        offset = self._next
        self._next = offset + 1
        return offset

    def commit(self, frames: Buffers) -> None:
        """Appends the frames and syncs them; raises `Unavailable`, and then none of them is kept."""
        size = sum(map(len, frames))
        self._check_space(size)
        try:
            if self._file < 0 or self._size >= self._segment_bytes:
                self._open_segment(frames[0])
            _write_all(self._file, frames, size)
            os.fdatasync(self._file)
            _require_name(self._file)
        except OSError as error:
            self._abandon_segment()
            raise _unavailable(error) from error
        self._size += size
        self._mark.set(self._base, self._size)

    def _abandon_segment(self) -> None:
        """Takes back what was written since the last sync, so that a refused request is not stored after all."""
        if self._file < 0:
            return
        try:
            os.ftruncate(self._file, self._size)
            if self._size == 0:
                self._path.unlink()
        except OSError as error:
            self._report(f"could not cut back {self._path.name}: {error.strerror}", 0)
        self._close_segment()

    def reason(self) -> str | None:
        """Why nothing can be stored now, in a sentence, found out by storing something; None where it can."""
        try:
            self._check_space(0)
            _write_and_sync(self._folder / f"probe.{os.getpid()}")
        except Unavailable as error:
            return error.message
        except OSError as error:
            return f"The log's disk cannot be written: {error.strerror}. Mend it; clients repeat until then."
        return None

    def _check_space(self, size: int) -> None:
        """Raises `Unavailable` where `size` more bytes would leave less free space than the floor."""
        try:
            disk = os.statvfs(self._folder)
        except OSError as error:
            raise _unavailable(error) from error
        free = disk.f_bavail * disk.f_frsize
        if free < self._free_bytes_min + size:
            raise Unavailable(
                f"Nothing was stored: the log's disk has {free} bytes free and must keep {self._free_bytes_min}. "
                "Repeat the request later.",
                retry_after_s=RETRY_AFTER_S,
            )

    def _open_segment(self, first: bytes | memoryview) -> None:
        self._close_segment()
        again, self._unsynced = self._unsynced, None
        base = segment.frame_offset(first) if again is None else segment.base_offset(again)
        self._path, self._base = again or self._folder / segment.file_name(base), base
        how = os.O_CREAT | os.O_EXCL if again is None else 0
        header = segment.pack_header(Header(self.partition, base, self._now_us(), self._log_id))
        self._file, self._size = os.open(self._path, os.O_RDWR | how, 0o600), 0 if again is None else len(header)
        # Until its header is whole nobody counts on a segment; from then on it stays, since the loader may have
        # released those before it, and its name carries the next offset.
        _write_all(self._file, [header], len(header))
        self._size = len(header)
        # Where it cannot be synced, its header is written again for the next commit: no frame was visible in it, and
        # a disk that fails for long does not make a segment of every try.
        self._unsynced = self._path
        os.fsync(self._file)
        sync_folder(self._folder)
        self._unsynced = None

    def _close_segment(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _recover(self) -> int:
        """Cuts the torn tail of the newest segment and gives the next offset.

        That offset lies beyond all that a failed commit may have used before its frames were cut back: the loader
        may have seen them, and would take new frames with their offsets for ones it has read.
        """
        floor = 0
        for path in reversed(segments(self._folder)):
            data = path.read_bytes()
            last, end = -1, segment.HEADER_BYTES
            for found, found_end in segment.scan(data, segment.HEADER_BYTES):
                end = found_end
                if isinstance(found, Frame):
                    last = found.offset
            floor = max(floor, last + 1 + OFFSETS_SKIPPED, segment.base_offset(path) + OFFSETS_SKIPPED)
            if segment.unpack_header(data) is not None or last >= 0:
                self._settle(path, end, len(data))
                return floor
            self._report(f"removed the segment {path.name}, which was cut short when it was made", len(data))
            path.unlink()
            sync_folder(self._folder)
        return floor

    def _settle(self, path: Path, end: int, length: int) -> None:
        """Leaves the newest segment whole and durable; what comes next goes into another."""
        file = os.open(path, os.O_RDWR)
        try:
            if end < length:
                self._report(f"cut a torn tail off {path.name}", length - end)
                os.ftruncate(file, end)
            # What a killed process wrote without syncing is in the file: make it durable before anything follows it.
            os.fsync(file)
        finally:
            os.close(file)
        self._mark.set(segment.base_offset(path), end)


def _lock(folder: Path) -> int:
    lock = try_lock(folder / LOCK)
    if lock is None:
        raise PartitionHeld(
            f"The log partition {folder} is held by another process.", "Stop the other Kixo server first."
        )
    return lock


def _write_and_sync(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, b"ready?")
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
        path.unlink(missing_ok=True)


def _require_name(file: int) -> None:
    """Raises `OSError` for a file that was deleted while it was written: nobody will ever read it."""
    if os.fstat(file).st_nlink == 0:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _write_all(file: int, buffers: Buffers, size: int) -> None:
    """Writes many small buffers as one, and few large ones as they are."""
    if len(buffers) > WRITEV_BUFFERS_MAX or size < JOIN_BYTES_MAX:
        buffers = [b"".join(buffers)]
    written = os.writev(file, buffers)
    if written < size:
        _write_rest(file, memoryview(b"".join(buffers))[written:])


def _write_rest(file: int, data: memoryview) -> None:
    while data:
        written = os.write(file, data)
        if written == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        data = data[written:]


def _unavailable(error: OSError) -> Unavailable:
    return Unavailable(
        f"Nothing was stored: the log cannot be written ({os.strerror(error.errno or errno.EIO)}). "
        "Repeat the request later.",
        retry_after_s=RETRY_AFTER_S,
    )
