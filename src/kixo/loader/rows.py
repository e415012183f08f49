"""Pieces of a load to rows of the events table.

What is the same for all events of a request is worked out once per request and repeated.
"""

from collections.abc import Callable
from itertools import chain
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kixo import clock
from kixo.lake.schema import EVENTS
from kixo.loader.columns import fixed_column, instant_column, named_column, repeated_column, text_column
from kixo.loader.identities import Identities, split
from kixo.loader.instants import parse_column
from kixo.loader.pieces import Piece, TellUnreadable, cut_nothing
from kixo.loader.requests import Request
from kixo.timestamp import DAY_US

Counts = NDArray[np.int64]
Columns = dict[str, pa.Array | pa.ChunkedArray]


class Rules(NamedTuple):
    """The settings that rows depend on, in microseconds, and who is told of a time that could not be read."""

    tolerance_us: int
    horizon_us: int
    tell_unreadable: TellUnreadable


class EventRows(NamedTuple):
    """The rows of a load, in the order of its `requests`, of which each has `counts` rows.

    `table` has the columns of the events table but for `date`; `day` is that date in days since 1970.
    """

    requests: list[Request]
    counts: Counts
    table: pa.Table
    day: NDArray[np.int64]
    identities: Identities


def event_rows(pieces: list[Piece], rules: Rules) -> EventRows:
    """The rows of all accepted events in the pieces."""
    pieces = pieces or [cut_nothing()]
    requests = list(chain.from_iterable([piece.requests for piece in pieces]))
    counts = np.array([request.count for request in requests], np.int64)
    identities = np.concatenate([piece.identities for piece in pieces])
    client_us = np.concatenate([piece.client_us for piece in pieces])
    times, day = _times(requests, counts, client_us, rules)
    columns = {
        **_request_columns(requests, counts),
        **{name: pa.chunked_array([p.columns[name] for p in pieces], pa.string()) for name in pieces[0].columns},
        **times,
        "identity": fixed_column(identities),
    }
    return EventRows(requests, counts, _table(columns), day, split(identities))


def _request_columns(requests: list[Request], counts: Counts) -> Columns:
    return {
        "project_id": repeated_column([request.project_id for request in requests], counts),
        "environment": repeated_column([request.environment for request in requests], counts),
        "bundle_id": repeated_column([request.bundle_id for request in requests], counts),
        "platform": repeated_column([request.platform for request in requests], counts),
        "log_partition": pa.array(np.repeat(np.array([request.partition for request in requests], np.int32), counts)),
        "log_offset": pa.array(np.repeat(np.array([request.offset for request in requests], np.int64), counts)),
        "log_index": pa.array(_indexes(requests, counts)),
    }


def _indexes(requests: list[Request], counts: Counts) -> NDArray[np.int32]:
    ends = np.cumsum(counts)
    indexes = (np.arange(counts.sum()) - np.repeat(ends - counts, counts)).astype(np.int32)
    judged = [(end, request.indexes) for end, request in zip(ends.tolist(), requests, strict=True) if request.indexes]
    for end, places in judged:
        indexes[end - len(places) : end] = places
    return indexes


def _times(
    requests: list[Request], counts: Counts, client_us: NDArray[np.int64], rules: Rules
) -> tuple[Columns, NDArray[np.int64]]:
    received = np.array([request.received_at_us for request in requests], np.int64)
    sent, has_sent = sent_at(requests, rules.tell_unreadable)
    per_request = clock.shifts(sent, has_sent, received, rules.tolerance_us)
    received = np.repeat(received, counts)
    shift = clock.Shifts(np.repeat(per_request.shift_us, counts), np.repeat(per_request.rule, counts))
    timestamp, rule = clock.apply_shifts(client_us, shift, received)
    columns = {
        "timestamp": instant_column(timestamp),
        "client_timestamp": instant_column(client_us),
        "sent_at": instant_column(np.repeat(sent, counts), np.repeat(~has_sent, counts)),
        "received_at": instant_column(received),
        "clock_rule": named_column(rule, clock.RULES),
    }
    return columns, np.where(timestamp < received - rules.horizon_us, 0, timestamp // DAY_US)


def sent_at(requests: list[Request], tell_unreadable: TellUnreadable) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """When each request was sent, in microseconds since 1970, and whether it says so."""
    has_sent = np.array([request.sent_at is not None for request in requests], np.bool_)
    sent = np.zeros(len(requests), np.int64)
    if has_sent.any():
        saying = [request for request in requests if request.sent_at is not None]
        sent[has_sent] = parse_column(
            text_column([str(request.sent_at) for request in saying]), _told(saying, tell_unreadable)
        )
    return sent, has_sent


def _told(requests: list[Request], tell_unreadable: TellUnreadable) -> Callable[[int], int]:
    def received_at_us(place: int) -> int:
        # An unreadable `sent_at` counts as that of a clock that is right.
        tell_unreadable(str(requests[place].sent_at))
        return requests[place].received_at_us

    return received_at_us


def _table(columns: Columns) -> pa.Table:
    fields = [pa.field(f.name, columns[f.name].type, f.nullable) for f in EVENTS.file_schema]
    return pa.Table.from_arrays([columns[field.name] for field in fields], schema=pa.schema(fields))
