"""What a query process and its owner say to each other.

The owner writes requests to the process's standard input, one JSON object a line, each after the end of the last
answer. The end of that input is the end of the process. The process writes frames to its standard output:

    frame   kind 1 byte   payload length u32, little-endian   payload

    R  ready: all is loaded, a request can come
    D  a piece of the answer
    E  the answer is whole
    F  there is no answer, or no more of it: JSON with code, message, next step and position

After E the process can be asked again, after F too, unless the failure is one of `FATAL`: what a query left in memory
when that ran out is nobody's to guess. A process that ends with `OVERRUN_STATUS` had a query that could not be stopped.
"""

import struct
from typing import BinaryIO, NamedTuple

from msgspec import Struct, json

from kixo.errors import (
    OperatorError,
    QueryFailed,
    QueryLost,
    QueryStopped,
    QueryTooLarge,
    QueryTooLong,
)

READY = b"R"
DATA = b"D"
END = b"E"
FAILURE = b"F"

HEAD = struct.Struct("<cI")
PIECE_BYTES = 64 * 1024
PAYLOAD_BYTES_MAX = PIECE_BYTES
# DuckDB's messages may quote all of a query. A character takes up to 6 bytes as JSON.
MESSAGE_LENGTH_MAX = 8 * 1024
OVERRUN_STATUS = 75
# The form of an answer that is not one of the formats of `kixo.query.write`.
ANSWER = "answer"

_ERRORS = {error.code: error for error in (QueryFailed, QueryTooLong, QueryTooLarge, QueryStopped, QueryLost)}
FATAL = (QueryTooLong, QueryTooLarge)


class ProtocolFault(Exception):
    """The process said something that is not of the protocol, or ended in the middle of it."""


class Request(Struct, frozen=True):
    """A query: its text, the form of its answer, and its caps. Rows and bytes bound an answer, and no other form."""

    sql: str
    format: str
    memory_bytes_max: int
    seconds_max: float
    threads: int
    rows_max: int
    bytes_max: int


class Failure(Struct, frozen=True):
    """Why there is no answer."""

    code: str
    message: str
    next_step: str
    position: int | None

    def error(self) -> QueryFailed:
        """As what the owner raises."""
        return _ERRORS.get(self.code, QueryFailed)(self.message, self.next_step, self.position)


class FrameHead(NamedTuple):
    """What stands before a payload: its kind, and its length in bytes."""

    kind: bytes
    length: int


def encode_failure(error: OperatorError) -> bytes:
    """What an error is for the owner, as a payload; of a message beyond all bounds, the beginning."""
    position = error.position if isinstance(error, QueryFailed) else None
    code = error.code if isinstance(error, QueryFailed) else QueryFailed.code
    return json.encode(Failure(code, error.message[:MESSAGE_LENGTH_MAX], error.next_step, position))


def encode_request(request: Request) -> bytes:
    """A request as its line."""
    return json.encode(request) + b"\n"


def decode_request(line: bytes) -> Request:
    """A request from its line."""
    return json.decode(line, type=Request)


def decode_failure(payload: bytes) -> Failure:
    """A failure from its payload."""
    return json.decode(payload, type=Failure)


def decode_head(data: bytes) -> FrameHead:
    """The head of a frame from its bytes; raises `ProtocolFault`."""
    head = FrameHead(*HEAD.unpack(data))
    if head.kind not in {READY, DATA, END, FAILURE} or head.length > PAYLOAD_BYTES_MAX:
        raise ProtocolFault(f"a query process sent {data!r}")
    return head


def write_frame(sink: BinaryIO, kind: bytes, payload: bytes | memoryview = b"") -> None:
    """Writes a frame; raises `OSError` where the owner is gone."""
    sink.write(HEAD.pack(kind, len(payload)))
    sink.write(payload)
    sink.flush()
