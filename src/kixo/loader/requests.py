"""Frames of the log, decoded.

The events of a request stay the structs that `kixo.stored` defines; `Request` puts the two kinds of payload into one
shape. A frame that cannot be decoded cannot be, since ingest wrote it. Should there be one all the same, it must
neither stop the loader nor be lost: see `kixo.loader.quarantine`.
"""

from typing import NamedTuple

from msgspec import Struct

from kixo.event import ENVIRONMENT_DEFAULT
from kixo.log import Frame
from kixo.stored import AS_SENT, JUDGED, JudgedEvent, RejectedEvent, SentEvent, decode_judged, decode_sent

ABSENT, EMPTY = b"null", b"{}"


class PlacedFrame(NamedTuple):
    """A frame and the log partition it stands in."""

    partition: int
    frame: Frame


class Request(Struct, gc=False):
    """One request.

    `count` is how many accepted events it has; they are in `events` until they have become columns (`drop_events`).
    `judged`: these are `JudgedEvent`s, whose places in the batch are in `indexes`; others stand in order, from 0.
    """

    partition: int
    offset: int
    received_at_us: int
    project_id: str
    environment: str
    bundle_id: str
    platform: str
    sent_at: str | None
    judged: bool
    count: int
    events: list[SentEvent] | list[JudgedEvent]
    rejected: list[RejectedEvent]
    indexes: list[int] | None = None

    def drop_events(self) -> None:
        """Lets go of the events, which take a hundred times the memory of the rest."""
        if self.judged:
            self.indexes = [event.index for event in self.events]  # type: ignore[union-attr]
        self.events = []


def decode_frame(placed: PlacedFrame) -> Request:
    """The request in a frame.

    Raises `ValueError` (of which `msgspec.DecodeError` is one) where it is not what it has to be.
    """
    partition, frame = placed
    if frame.kind == AS_SENT:
        return _sent(partition, frame)
    if frame.kind == JUDGED:
        return _judged(partition, frame)
    raise ValueError(f"frame kind {frame.kind} is not one we know")


def stored_properties(event: SentEvent | JudgedEvent) -> bytes:
    """The JSON that the table holds; `kixo.loader.pieces` does the same to a column."""
    properties = event.properties
    text = properties.encode() if isinstance(properties, str) else bytes(properties)
    return EMPTY if text == ABSENT else text


def _sent(partition: int, frame: Frame) -> Request:
    batch = decode_sent(frame.payload)
    return Request(
        partition,
        frame.offset,
        frame.received_at_us,
        batch.project_id,
        batch.environment or ENVIRONMENT_DEFAULT,
        batch.bundle_id,
        batch.platform,
        batch.sent_at,
        False,
        len(batch.batch),
        batch.batch,
        [],
    )


def _judged(partition: int, frame: Frame) -> Request:
    batch = decode_judged(frame.payload)
    return Request(
        partition,
        frame.offset,
        frame.received_at_us,
        batch.project_id,
        batch.environment,
        batch.bundle_id,
        batch.platform,
        batch.sent_at,
        True,
        len(batch.events),
        batch.events,
        batch.rejected,
    )
