"""The rows that a watcher sees: what fits in a line, and the id by which the whole event can be asked for."""

import re
from collections.abc import Callable
from typing import NamedTuple

from msgspec import Struct

from kixo.console.feed.filter import AnyEvent, describe
from kixo.loader.requests import PlacedFrame, Request, decode_frame
from kixo.log import Frame
from kixo.stored import JudgedEvent, RejectedEvent
from kixo.tail import offending_value, shorten
from kixo.timestamp import format_us

_PLACE = re.compile("[0-9]{1,9}:[0-9]{1,18}:[0-9]{1,9}")
TEXT_LENGTH_MAX = 200
REASON_LENGTH_MAX = 400
VALUE_LENGTH_MAX = 80


class Place(NamedTuple):
    """Where an event stands: partition of the log, offset of its request, and number in the request's batch, from 0."""

    partition: int
    offset: int
    number: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}:{self.number}"


def parse_place(text: str) -> Place:
    """The place that a row's id names; raises `ValueError`."""
    if _PLACE.fullmatch(text) is None:
        raise ValueError(f"not a place: {text[:64]!r}")
    return Place(*map(int, text.split(":")))


class Reason(Struct, frozen=True, omit_defaults=True):
    """Why something was not taken: the stable code, the sentence, the member that is wrong, and its value."""

    code: str
    message: str
    field: str | None = None
    value: str | None = None


class Row(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event, or a refused request, as a line. Members that nobody can know are None. `at` is when it arrived.

    `status` is the HTTP status of a refusal, and `reason` its error; an id with a letter is not a place.
    """

    id: str
    at: str
    outcome: str
    project: str | None = None
    environment: str | None = None
    platform: str | None = None
    bundle: str | None = None
    type: str | None = None
    name: str | None = None
    device: str | None = None
    reason: Reason | None = None
    status: int | None = None


def open_request(partition: int, frame: Frame) -> Request:
    """The request of a frame; one that nobody can read, which ingest never writes, has a rejected event saying so."""
    try:
        return decode_frame(PlacedFrame(partition, frame))
    except (ValueError, RecursionError) as error:
        message = f"{frame.accepted + frame.rejected} events of frame {frame.offset} cannot be read: {error}."
        broken = RejectedEvent(0, None, "unreadable_frame", message, "")
        return Request(partition, frame.offset, frame.received_at_us, "?", "?", "?", "?", None, True, 0, [], [broken])


def place_of(request: Request, number: int) -> Place:
    """The place of the event at `number` in `Request.events` and, after those, `Request.rejected`."""
    if number >= len(request.events):
        return Place(request.partition, request.offset, request.rejected[number - len(request.events)].index)
    event = request.events[number]
    index = event.index if isinstance(event, JudgedEvent) else number
    return Place(request.partition, request.offset, index)


def events_of(request: Request, wanted: Callable[[AnyEvent], bool]) -> list[tuple[Place, AnyEvent]]:
    """The wanted events of a request with their places, in the order in which they were sent."""
    every: list[AnyEvent] = [*request.events, *request.rejected]
    found = [(place_of(request, number), event) for number, event in enumerate(every) if wanted(event)]
    return sorted(found, key=lambda each: each[0]) if request.judged else found


def row_of(request: Request, place: Place, event: AnyEvent) -> Row:
    """An event as a row."""
    described = describe(event)
    return Row(
        id=str(place),
        at=format_us(request.received_at_us),
        outcome="rejected" if isinstance(event, RejectedEvent) else "accepted",
        project=request.project_id,
        environment=request.environment,
        platform=request.platform,
        bundle=shorten(request.bundle_id, TEXT_LENGTH_MAX),
        type=_short(described.type),
        name=_short(described.name),
        device=_short(described.device),
        reason=_reason(event) if isinstance(event, RejectedEvent) else None,
    )


def _reason(event: RejectedEvent) -> Reason:
    value = offending_value(event.field, event.event)
    shown = None if value is None else shorten(value, VALUE_LENGTH_MAX)
    return Reason(event.code, shorten(event.message, REASON_LENGTH_MAX), event.field, shown)


def _short(text: str | None) -> str | None:
    return None if text is None else shorten(text, TEXT_LENGTH_MAX)
