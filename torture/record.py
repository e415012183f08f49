"""What the shim wrote down: every change that a server made below a folder, in one order over all its processes."""

from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import NamedTuple

_ENTRY = Struct("<IIQqqIII")
_LENGTH_BYTES = 4

CREATED, WROTE, TRUNCATED, SYNCED, RENAMED = "c", "w", "t", "s", "r"
LINKED, UNLINKED, MADE_FOLDER, REMOVED_FOLDER = "l", "u", "m", "d"
SENT = "a"


class Entry(NamedTuple):
    """One change. `inode` is the file's, or of an answer the client's port; `place` an offset or a new length.

    `path` and `other` are absolute. A `WROTE` entry has the bytes as `data`, a `SENT` one the first of an answer.
    `end` is the length of the record with this entry, in bytes.
    """

    kind: str
    inode: int
    place: int
    path: str
    other: str
    data: bytes
    end: int


def read_record(folder: Path) -> list[Entry]:
    """The record in `folder`, oldest first."""
    return list(_entries(_file(folder).read_bytes()))


def record_bytes(folder: Path) -> int:
    """How long the record is now: what happens from now on comes after that."""
    return _file(folder).stat().st_size


def _file(folder: Path) -> Path:
    return folder / "record"


def _entries(data: bytes) -> Iterator[Entry]:
    start = 0
    while start < len(data):
        length, kind, inode, place, _, path_bytes, other_bytes, _ = _ENTRY.unpack_from(data, start)
        path = start + _ENTRY.size
        other = path + path_bytes
        content = other + other_bytes
        start += _LENGTH_BYTES + length
        names = data[path:other].decode(), data[other:content].decode()
        yield Entry(chr(kind), inode, place, *names, data[content:start], start)
