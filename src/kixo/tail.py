"""Following the log: each event that arrives, accepted or rejected, as one record.

The log is read directly, so an event shows as soon as it is durable, before it is in the tables. What is shown here
can therefore be a copy, which the tables will not hold twice.
"""

from collections.abc import Callable, Iterator

import msgspec
from msgspec import Raw, Struct

from kixo.event import ENVIRONMENT_DEFAULT
from kixo.log import Frame, LogReader
from kixo.stored import (
    AS_SENT,
    JudgedBatch,
    JudgedEvent,
    RejectedEvent,
    SentBatch,
    SentEvent,
    decode_judged,
    decode_sent,
)
from kixo.timestamp import format_us

READ_BYTES_MAX = 4 * 1024 * 1024

_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode


class Accepted(Struct, frozen=True, kw_only=True, tag_field="outcome", tag="accepted"):
    """An event that was taken. Times are ISO 8601; `timestamp` and `sent_at` are the device's, as sent."""

    received_at: str
    project_id: str
    environment: str
    platform: str
    bundle_id: str
    event_type: str
    event_name: str
    device_id: str
    session_id: str
    timestamp: str
    sent_at: str | None
    event_id: str | None
    properties: Raw


class Rejected(Struct, frozen=True, kw_only=True, tag_field="outcome", tag="rejected"):
    """An event that was not taken: the member that is wrong, why, and the event's JSON text as sent."""

    received_at: str
    project_id: str
    environment: str
    platform: str
    bundle_id: str
    field: str | None
    code: str
    message: str
    sent_at: str | None
    event: str

    @property
    def value(self) -> str | None:
        """The JSON text of what is wrong, None where that is missing."""
        return offending_value(self.field, self.event)


def offending_value(field: str | None, event: str) -> str | None:
    """The JSON text of the member of an event that is wrong: None where it is missing, the event's where it is that."""
    if field is None:
        return event
    try:
        found = _decode_members(event.encode()).get(field)
    except (ValueError, RecursionError):
        return event
    return None if found is None else bytes(found).decode()


Arrival = Accepted | Rejected


class Envelope(Struct, frozen=True):
    """What all events of a request have in common."""

    received_at: str
    project_id: str
    environment: str
    platform: str
    bundle_id: str
    sent_at: str | None


def follow(reader: LogReader, positions: dict[int, int], wait: Callable[[], None]) -> Iterator[Arrival]:
    """Events from `positions` on, by partition, for ever; a partition that is not named is read from its start.

    `wait` is called whenever there is nothing new. Segments that go meanwhile are passed over.
    """
    positions = dict(positions)
    while True:
        frames = list(read_new(reader, positions))
        for frame in sorted(frames, key=lambda frame: frame.received_at_us):
            yield from arrivals(frame)
        if not frames:
            wait()


def read_new(reader: LogReader, positions: dict[int, int]) -> Iterator[Frame]:
    """The next few frames of each partition; `positions` moves past them."""
    for partition in reader.partitions():
        position = positions.setdefault(partition, 0)
        frames = reader.read(partition, position, READ_BYTES_MAX)
        yield from frames
        if frames:
            positions[partition] = frames[-1].offset + 1


def arrivals(frame: Frame) -> list[Arrival]:
    """The events of one frame, in the order in which they were sent."""
    received_at = format_us(frame.received_at_us)
    try:
        if frame.kind == AS_SENT:
            return list(_sent(decode_sent(frame.payload), received_at))
        return list(_judged(decode_judged(frame.payload), received_at))
    except (ValueError, RecursionError) as error:
        return [_unreadable(frame, received_at, error)]


def _unreadable(frame: Frame, received_at: str, error: Exception) -> Rejected:
    """Ingest writes no such frame. Should there be one, its events cannot be told apart, and it must be seen."""
    envelope = Envelope(received_at, "?", "?", "?", "?", None)
    message = f"{frame.accepted + frame.rejected} events of frame {frame.offset} cannot be read: {error}."
    return _rejected(envelope, RejectedEvent(0, None, "unreadable_frame", message, ""))


def _sent(batch: SentBatch, received_at: str) -> Iterator[Arrival]:
    environment = batch.environment or ENVIRONMENT_DEFAULT
    envelope = Envelope(received_at, batch.project_id, environment, batch.platform, batch.bundle_id, batch.sent_at)
    for event in batch.batch:
        yield _accepted(envelope, event, event.properties)


def _judged(batch: JudgedBatch, received_at: str) -> Iterator[Arrival]:
    envelope = Envelope(
        received_at, batch.project_id, batch.environment, batch.platform, batch.bundle_id, batch.sent_at
    )
    found: list[JudgedEvent | RejectedEvent] = [*batch.events, *batch.rejected]
    for event in sorted(found, key=lambda event: event.index):
        if isinstance(event, RejectedEvent):
            yield _rejected(envelope, event)
        else:
            yield _accepted(envelope, event, Raw(event.properties.encode()))


def _accepted(envelope: Envelope, event: SentEvent | JudgedEvent, properties: Raw) -> Accepted:
    return Accepted(
        **msgspec.structs.asdict(envelope),
        event_type=event.event_type,
        event_name=event.event_name,
        device_id=event.device_id,
        session_id=event.session_id,
        timestamp=event.timestamp,
        event_id=event.event_id,
        properties=_on_one_line(properties),
    )


def _rejected(envelope: Envelope, event: RejectedEvent) -> Rejected:
    return Rejected(
        **msgspec.structs.asdict(envelope),
        field=event.field,
        code=event.code,
        message=event.message,
        event=event.event,
    )


def _on_one_line(json: Raw) -> Raw:
    """JSON as sent may be spread over lines; what it says stays to the last digit."""
    return Raw(msgspec.json.format(bytes(json), indent=-1)) if b"\n" in bytes(json) or b"\r" in bytes(json) else json


def is_wanted(arrival: Arrival, project: str | None, rejected_only: bool) -> bool:
    """Whether an event is of the project (None: of any), and rejected if only those are wanted."""
    if project is not None and arrival.project_id != project:
        return False
    return isinstance(arrival, Rejected) or not rejected_only


def line(arrival: Arrival) -> str:
    """An event as one line for people; control characters are still in it."""
    head = f"{arrival.received_at} {arrival.project_id} {arrival.platform}"
    if isinstance(arrival, Accepted):
        return f"{head} {arrival.event_type} {shorten(arrival.event_name)} device={shorten(arrival.device_id, 32)}"
    field = "" if arrival.field is None else f" {arrival.field}"
    value = arrival.value
    shown = "" if value is None or value in arrival.message else f" ← {shorten(value)}"
    return f"{head} REJECTED {arrival.code}{field}: {shorten(arrival.message, 160)}{shown}"


def shorten(text: str, length_max: int = 60) -> str:
    """The text, cut to `length_max` characters with an ellipsis as the last."""
    return text if len(text) <= length_max else text[: length_max - 1] + "…"
