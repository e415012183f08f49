"""A load's events in pieces of about a thousand.

Decoding makes a Python object for every text of every event. What costs time is not to make them but to fetch them
again from main memory, once per column, after 200,000 other events went through the processor's caches. So events are
decoded and turned into columns a piece at a time, and their objects are gone before the next piece: measured, this
halves the time per event and bounds memory. Pieces hold one project where that is possible, so that sorting a load by
project is sorting its pieces.
"""

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kixo.loader.columns import json_column, optional_text_column, text_column
from kixo.loader.identities import RawIdentities, identify
from kixo.loader.instants import parse_column
from kixo.loader.requests import ABSENT, EMPTY, PlacedFrame, Request, decode_frame

PIECE_EVENTS = 1000
# With its type: Arrow takes 60 µs to find out the type of a Python string.
ABSENT_TEXT = pa.scalar("null", pa.string())

Owner = tuple[str, str]
TellUnreadable = Callable[[str], None]


class Piece(NamedTuple):
    """The events of some requests, in their order: what each event has of its own."""

    owner: Owner
    requests: list[Request]
    columns: dict[str, pa.Array]
    client_us: NDArray[np.int64]
    identities: RawIdentities


def cut_pieces(frames: Iterable[PlacedFrame], tell_unreadable: TellUnreadable) -> list[Piece]:
    """All events in the frames, clustered by project and environment; of one project, in the order of the frames.

    Raises `ValueError` where a frame is not what ingest writes.
    """
    pieces: list[Piece] = []
    waiting: dict[Owner, list[Request]] = {}
    events: dict[Owner, int] = {}
    for placed in frames:
        request = decode_frame(placed)
        owner = (request.project_id, request.environment)
        waiting.setdefault(owner, []).append(request)
        events[owner] = total = events.get(owner, 0) + request.count
        if total >= PIECE_EVENTS:
            pieces.append(_piece(owner, waiting.pop(owner), tell_unreadable))
            del events[owner]
    pieces.sort(key=_owner)
    return [*pieces, *_rest(waiting, tell_unreadable)]


def cut_nothing() -> Piece:
    """A piece of no events, with all columns."""
    return _piece(("", ""), [], lambda _: None)


def _rest(waiting: dict[Owner, list[Request]], tell_unreadable: TellUnreadable) -> list[Piece]:
    # Small projects share pieces: one each would cost more than it saves.
    pieces: list[Piece] = []
    shared: list[Request] = []
    events = 0
    for owner in sorted(waiting):
        shared += waiting[owner]
        events += sum([request.count for request in waiting[owner]])
        if events >= PIECE_EVENTS:
            pieces.append(_piece(owner, shared, tell_unreadable))
            shared, events = [], 0
    return [*pieces, _piece(("", ""), shared, tell_unreadable)] if shared else pieces


def _owner(piece: Piece) -> Owner:
    return piece.owner


def _piece(owner: Owner, requests: list[Request], tell_unreadable: TellUnreadable) -> Piece:
    events: list[Any] = list(chain.from_iterable([request.events for request in requests]))
    properties, properties_column = _properties(requests, events)
    event_ids = [event.event_id for event in events]
    columns = {
        "event_type": text_column([event.event_type for event in events]),
        "event_name": text_column([event.event_name for event in events]),
        "device_id": text_column([event.device_id for event in events]),
        "session_id": text_column([event.session_id for event in events]),
        "event_id": optional_text_column(event_ids),
        "properties": properties_column,
    }
    client_us = _client_us(requests, [event.timestamp for event in events], tell_unreadable)
    identities = identify(requests, event_ids, properties)
    for request in requests:
        request.drop_events()
    return Piece(owner, requests, columns, client_us, identities)


def _properties(requests: list[Request], events: list[Any]) -> tuple[list[Any], pa.Array]:
    parts = [event.properties for event in events]
    if True in [request.judged for request in requests]:
        parts = [part.encode() if isinstance(part, str) else part for part in parts]
    column = json_column(parts)
    if pc.any(pc.equal(column, ABSENT_TEXT)).as_py():
        parts = [EMPTY if bytes(part) == ABSENT else part for part in parts]
        column = json_column(parts)
    return parts, column


def _client_us(requests: list[Request], texts: list[str], tell_unreadable: TellUnreadable) -> NDArray[np.int64]:
    def received_at_us(place: int) -> int:
        tell_unreadable(texts[place])
        ends = np.cumsum([request.count for request in requests])
        return requests[int(np.searchsorted(ends, place, "right"))].received_at_us

    return parse_column(text_column(texts), received_at_us)
