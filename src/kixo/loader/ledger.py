"""The rows of the other two tables: what was not taken, and the ledger of each load."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kixo.lake.schema import LOADS, REJECTED
from kixo.loader.quarantine import owner
from kixo.loader.requests import PlacedFrame, Request
from kixo.loader.rows import Rules, sent_at
from kixo.loader.spans import Span
from kixo.timestamp import DAY_US

Day = int


class Counts(NamedTuple):
    """What came of the events of a load, by partition and project; all four of one length as `owners`."""

    owners: list[tuple[int, str]]
    received: NDArray[np.int64]
    stored: NDArray[np.int64]
    rejected: NDArray[np.int64]

    @property
    def duplicate(self) -> NDArray[np.int64]:
        """Copies: what was accepted and is not stored."""
        return self.received - self.stored - self.rejected


def count(requests: list[Request], counts: NDArray[np.int64], new: NDArray[np.bool_]) -> Counts:
    """Counts a load. `counts` gives the accepted events of each request, `new` which of all of them are stored."""
    keys = [(request.partition, request.project_id) for request in requests]
    owners = list(dict.fromkeys(keys))
    places = {owner: place for place, owner in enumerate(owners)}
    codes = np.array([places[key] for key in keys], np.int64)
    ends = np.concatenate([[0], np.cumsum(new)])[np.cumsum(counts)]
    stored = np.diff(ends, prepend=0)
    rejected = np.array([len(request.rejected) for request in requests], np.int64)
    sums = [_sum(codes, values, len(owners)) for values in (counts + rejected, stored, rejected)]
    return Counts(owners, *sums)


def _sum(codes: NDArray[np.int64], values: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    return np.bincount(codes, weights=values, minlength=length).astype(np.int64)


def ledger_rows(
    counts: Counts, bad: list[PlacedFrame], spans: list[Span], log_id: str, loaded_at_us: int
) -> dict[Day, pa.Table]:
    """The rows of `loads` for one load, by day."""
    ranges = {span.partition: (span.start, span.end) for span in spans}
    lines = [
        (partition, *ranges[partition], project, *map(int, numbers))
        for (partition, project), *numbers in zip(
            counts.owners, counts.received, counts.stored, counts.duplicate, counts.rejected, strict=True
        )
    ]
    lines += [
        (
            placed.partition,
            *ranges[placed.partition],
            owner(placed),
            placed.frame.accepted + placed.frame.rejected,
            0,
            0,
            0,
        )
        for placed in bad
    ]
    columns = [[loaded_at_us] * len(lines), [log_id] * len(lines), *map(list, zip(*lines, strict=True))]
    return {
        loaded_at_us // DAY_US: pa.Table.from_arrays(
            list(map(_array, LOADS.file_schema, columns)), schema=LOADS.file_schema
        )
    }


def rejected_rows(requests: list[Request], positions: Mapping[int, int], rules: Rules) -> dict[Day, pa.Table]:
    """The rows of `rejected` for one load, by day, but for those before the table's own `positions`."""
    requests = [request for request in requests if request.rejected and request.offset >= positions[request.partition]]
    days: dict[Day, list[Request]] = {}
    for request in requests:
        days.setdefault(request.received_at_us // DAY_US, []).append(request)
    return {day: _rejected(some, rules) for day, some in days.items()}


def _rejected(requests: list[Request], rules: Rules) -> pa.Table:
    sent, has_sent = sent_at(requests, rules.tell_unreadable)
    lines = [
        (
            request.project_id,
            request.environment,
            request.bundle_id,
            request.platform,
            sent_us if says else None,
            request.received_at_us,
            event.field,
            event.code,
            event.message,
            event.event,
            request.partition,
            request.offset,
            event.index,
        )
        for request, sent_us, says in zip(requests, sent.tolist(), has_sent.tolist(), strict=True)
        for event in request.rejected
    ]
    columns = map(list, zip(*lines, strict=True))
    return pa.Table.from_arrays(list(map(_array, REJECTED.file_schema, columns)), schema=REJECTED.file_schema)


def _array(field: pa.Field, values: Any) -> pa.Array:
    if pa.types.is_timestamp(field.type):
        return pa.array(values, pa.int64()).cast(field.type)
    return pa.array(values, field.type)
