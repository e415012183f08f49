"""Small files that one process writes through its memory and others read: records of what just happened, counts of use.

They lie under `run/` and survive a process that is killed, because the memory is the kernel's. Nothing depends on them:
one that is missing, short or of another layout is made anew, and a reader takes such a one for empty.

A file begins with a header of its own that names kind, version and geometry. It is made under another name and put into
place whole, so no reader sees half of one. Blocks are claimed before they are written: a full disk would answer a write
to mapped memory with SIGBUS.
"""

import mmap
import os
from pathlib import Path


def open_mapped(path: Path, header: bytes, size: int, *, sparse: bool = False) -> mmap.mmap:
    """Maps the file of that header and size, which is made if need be; raises `OSError`.

    The blocks of a `sparse` one are claimed by the caller.
    """
    descriptor = _open_whole(path, header, size)
    try:
        if not sparse:
            os.posix_fallocate(descriptor, 0, size)
        return mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)


def _open_whole(path: Path, header: bytes, size: int) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return _make(path, header, size)
    if os.fstat(descriptor).st_size == size and os.pread(descriptor, len(header), 0) == header:
        return descriptor
    os.close(descriptor)
    return _make(path, header, size)


def _make(path: Path, header: bytes, size: int) -> int:
    """A new file in place of whatever is there; who has mapped the old one keeps that."""
    path.parent.mkdir(exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, size)
        os.pwrite(descriptor, header, 0)
        fresh.replace(path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_to_read(path: Path, header: bytes, size: int) -> int | None:
    """A descriptor for `os.pread`, or None where there is no such file of that header and size; raises `OSError`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    if os.fstat(descriptor).st_size == size and os.pread(descriptor, len(header), 0) == header:
        return descriptor
    os.close(descriptor)
    return None
