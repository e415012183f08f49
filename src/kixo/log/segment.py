"""The segment file: the one place that knows its bytes.

A segment is a header followed by frames, all numbers little-endian:

    header  "KIXOSEG\\n"  version u32  partition u32  base offset u64  created µs i64  log id 16 bytes  checksum u64
    frame   "KXFR"  payload length u32  checksum u64  offset u64  received µs i64  accepted u16  rejected u16
            kind u8  3 zero bytes  payload

A checksum is XXH3-64: of the header's other bytes; of a frame's payload, seeded with the XXH3-64 of the other bytes
of its head. So every bit of a frame is covered, and a frame proves itself wherever it stands in the file.

The header has this form in every version, so that an older Kixo knows a newer segment from a torn one.

What can be wrong with a segment, and what follows:

- *Torn tail*: bytes at the end that are no frame, with no valid frame after them. A crash cut a write short. Nobody was
  told that it was stored; the writer cuts it off when it opens the partition next.
- *Damage*: bytes that are no frame, with a valid frame (or another segment) after them. A disk changed what was
  durable. It is skipped and reported, never read.
"""

from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from xxhash import xxh3_64, xxh3_64_intdigest

from kixo.errors import DataFolderError
from kixo.log import Buffers, Frame

VERSION = 1
SUFFIX = ".log"

_HEADER = Struct("<8sIIQq16s")
_CHECKSUM = Struct("<Q")
_HEADER_MAGIC = b"KIXOSEG\n"
HEADER_BYTES = _HEADER.size + _CHECKSUM.size

_LENGTH = Struct("<I")
_FRAME_START = Struct("<4sIQ")
_FRAME_REST = Struct("<QqHHB3x")
_FRAME_MAGIC = b"KXFR"
_FRAME_HEAD = Struct("<4sIQQqHHB3x")
FRAME_HEAD_BYTES = _FRAME_HEAD.size


class Header(NamedTuple):
    """What a segment says about itself. `created_us` is in microseconds since 1970."""

    partition: int
    base_offset: int
    created_us: int
    log_id: bytes


class Damage(NamedTuple):
    """Bytes of a segment, from `start` to `end`, that are not a frame although frames follow."""

    start: int
    end: int


class FrameHead(NamedTuple):
    """What a frame's head says of it, and where its payload lies; nobody has looked at a checksum."""

    offset: int
    received_at_us: int
    kind: int
    accepted: int
    rejected: int
    start: int
    end: int


def file_name(base_offset: int) -> str:
    """The name of the segment whose first frame has `base_offset`; names sort as offsets do."""
    return f"{base_offset:020d}{SUFFIX}"


def base_offset(path: Path) -> int:
    """The offset in a segment's file name."""
    return int(path.stem)


def pack_header(header: Header) -> bytes:
    """The bytes of a segment's header."""
    data = _HEADER.pack(_HEADER_MAGIC, VERSION, *header)
    return data + _CHECKSUM.pack(xxh3_64_intdigest(data))


def unpack_header(data: bytes) -> Header | None:
    """The header at the start of `data`, None where it is torn; a newer version raises `DataFolderError`."""
    if len(data) < HEADER_BYTES:
        return None
    (checksum,) = _CHECKSUM.unpack_from(data, _HEADER.size)
    magic, version, *rest = _HEADER.unpack_from(data)
    if magic != _HEADER_MAGIC or checksum != xxh3_64_intdigest(data[: _HEADER.size]):
        return None
    if version > VERSION:
        raise DataFolderError(
            f"A segment of the log has format {version}, and this Kixo knows formats up to {VERSION}.",
            "Use the newer Kixo that wrote it.",
        )
    return Header(*rest)


def pack_frame(
    offset: int, received_at_us: int, kind: int, accepted: int, rejected: int, payload: Buffers
) -> list[bytes | memoryview]:
    """The bytes of one frame, its head first and then the payload as it came."""
    rest = _FRAME_REST.pack(offset, received_at_us, accepted, rejected, kind)
    length = sum(map(len, payload))
    head = _FRAME_START.pack(_FRAME_MAGIC, length, _checksum(length, rest, payload)) + rest
    return [head, *payload]


def _checksum(length: int, rest: bytes, payload: Buffers) -> int:
    seed = xxh3_64_intdigest(rest, length)
    if len(payload) == 1:
        return xxh3_64_intdigest(payload[0], seed)
    digest = xxh3_64(seed=seed)
    for piece in payload:
        digest.update(piece)
    return digest.intdigest()


def unpack_frame(data: bytes, start: int) -> tuple[Frame, int] | None:
    """The frame at `start` and where it ends, or None where there is no whole, valid frame."""
    body = start + FRAME_HEAD_BYTES
    if body > len(data):
        return None
    magic, length, checksum = _FRAME_START.unpack_from(data, start)
    end = body + length
    if magic != _FRAME_MAGIC or end > len(data):
        return None
    rest = data[start + _FRAME_START.size : body]
    payload = data[body:end]
    if checksum != _checksum(length, rest, (payload,)):
        return None
    offset, received_at_us, accepted, rejected, kind = _FRAME_REST.unpack(rest)
    return Frame(offset, received_at_us, kind, accepted, rejected, payload), end


def frame_offset(head: bytes | memoryview) -> int:
    """The offset in a packed frame's head."""
    return int(_FRAME_REST.unpack_from(head, _FRAME_START.size)[0])


def frame_bytes(data: bytes, start: int) -> int | None:
    """How long the frame at `start` says that it is, None where no frame head is there."""
    if start + FRAME_HEAD_BYTES > len(data) or data[start : start + 4] != _FRAME_MAGIC:
        return None
    (length,) = _LENGTH.unpack_from(data, start + 4)
    return FRAME_HEAD_BYTES + int(length)


def scan(data: bytes, start: int) -> Iterator[tuple[Frame | Damage, int]]:
    """Frames and damage from `start` on, each with where it ends; a torn tail is not yielded."""
    while start < len(data):
        found = unpack_frame(data, start)
        if found is None:
            resumed = _next_frame(data, start + 1)
            if resumed is None:
                return
            yield Damage(start, resumed), resumed
            start = resumed
        else:
            yield found
            start = found[1]


def heads(data: bytes, start: int) -> Iterator[FrameHead]:
    """The heads of the whole frames from `start` on, for readers that want few of many payloads.

    Only where no frame head stands is the next frame looked for by its checksum; `verify` proves a single frame.
    """
    unpack, length_max = _FRAME_HEAD.unpack_from, len(data)
    while start + FRAME_HEAD_BYTES <= length_max:
        magic, length, _, offset, received_at_us, accepted, rejected, kind = unpack(data, start)
        if magic != _FRAME_MAGIC:
            resumed = _next_frame(data, start + 1)
            if resumed is None:
                return
            start = resumed
            continue
        body = start + FRAME_HEAD_BYTES
        start = body + length
        if start > length_max:
            return
        yield FrameHead(offset, received_at_us, kind, accepted, rejected, body, start)


def verify(data: bytes, head: FrameHead) -> Frame | None:
    """The frame of a head that `heads` gave, None where its checksum is not right."""
    found = unpack_frame(data, head.start - FRAME_HEAD_BYTES)
    return None if found is None else found[0]


def _next_frame(data: bytes, start: int) -> int | None:
    """Where the next valid frame begins, at or after `start`."""
    while (start := data.find(_FRAME_MAGIC, start)) >= 0:
        if unpack_frame(data, start) is not None:
            return start
        start += 1
    return None
