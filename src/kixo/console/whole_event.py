"""One event, whole: what was sent, what the tables hold of it, and what became of it.

As long as its request is in the log, the rows are made of it by the loader's own rules, so they are there before the
loader has come to it; the tables are asked only whether the event is stored, or another of which it is a copy. When the
log has let go of the request, the tables say all there is.
"""

from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from msgspec import Raw, Struct, json

from kixo.console.feed.outcome import ReadLoads
from kixo.console.feed.row import Place, open_request
from kixo.depth import at_any_depth
from kixo.loader.requests import PlacedFrame, Request
from kixo.log import Frame
from kixo.log.preview import Preview
from kixo.query.views import quote
from kixo.stored import AS_SENT, JudgedEvent, RejectedEvent
from kixo.timestamp import DAY_US, format_us

Ask = Callable[[str], Awaitable[list[dict[str, Any]]]]
"""Answers a query with rows by column; raises `QueryFailed`."""


class _Batch(Struct, gc=False):
    batch: list[Raw]


# As deep as ingest could just go; see `kixo.stored`.
_decode_batch = at_any_depth(json.Decoder(_Batch).decode)


class LogEvent(Struct, frozen=True):
    """What the log says of an event: its JSON as sent, and its row, or why it was rejected.

    `row` has the columns of the events table, instants as texts and the identity in hexadecimal; of a rejected event
    those of its request.
    """

    sent: str
    row: dict[str, Any]
    rejected: RejectedEvent | None


@dataclass(frozen=True)
class WholeEvent:
    """An event with what became of it.

    `outcome`: accepted (the tables do not have it yet), stored, duplicate, rejected, or gone (neither the log nor the
    tables have it). `copy_of` is the place of the event that a duplicate repeats.
    """

    place: Place
    outcome: str
    sent: str | None
    row: dict[str, Any]
    rejected: RejectedEvent | None
    copy_of: Place | None


def read_log_event(
    open_log: Callable[[], Preview], place: Place, tolerance_us: int, horizon_us: int
) -> LogEvent | None:
    """The event at a place of the log, None where it is not there, or not any more. Raises `OSError`."""
    with closing(open_log()) as log:
        frame = log.find(place.partition, place.offset)
    if frame is None:
        return None
    request = open_request(place.partition, frame)
    rejected = next((event for event in request.rejected if event.index == place.number), None)
    if rejected is not None:
        return LogEvent(rejected.event, _request_row(request), rejected)
    found = _row(PlacedFrame(place.partition, frame), place, tolerance_us, horizon_us)
    return None if found is None else LogEvent(_as_sent(frame, request, place.number), found, None)


def _row(placed: PlacedFrame, place: Place, tolerance_us: int, horizon_us: int) -> dict[str, Any] | None:
    # Here, so that a console nobody has asked for an event does without Arrow, and its memory.
    from kixo.loader.pieces import cut_pieces
    from kixo.loader.rows import Rules, event_rows

    rules = Rules(tolerance_us, horizon_us, lambda _: None)
    rows = event_rows(cut_pieces([placed], rules.tell_unreadable), rules)
    places = rows.table.column("log_index").to_pylist()
    if place.number not in places:
        return None
    number = places.index(place.number)
    day = format_us(int(rows.day[number]) * DAY_US)[:10]
    return {"date": day, **{name: _value(rows.table.column(name), number) for name in rows.table.column_names}}


def _value(column: Any, number: int) -> Any:
    """A value of a column of Arrow, with instants to the microsecond and of any year."""
    if str(column.type).startswith("timestamp"):
        microseconds = column[number].cast("int64").as_py()
        return None if microseconds is None else format_us(microseconds)
    value = column[number].as_py()
    return value.hex() if isinstance(value, bytes) else value


def _request_row(request: Request) -> dict[str, Any]:
    return {
        "project_id": request.project_id,
        "environment": request.environment,
        "bundle_id": request.bundle_id,
        "platform": request.platform,
        "sent_at": request.sent_at,
        "received_at": format_us(request.received_at_us),
        "log_partition": request.partition,
        "log_offset": request.offset,
    }


def _as_sent(frame: Frame, request: Request, number: int) -> str:
    """The event's JSON: letter by letter, or where it was kept in members, those."""
    if frame.kind == AS_SENT:
        return bytes(_decode_batch(frame.payload).batch[number]).decode()
    event = next(event for event in request.events if isinstance(event, JudgedEvent) and event.index == number)
    members = {name: getattr(event, name) for name in event.__struct_fields__ if name != "index"}
    members["properties"] = Raw(event.properties.encode())
    return json.encode({name: value for name, value in members.items() if value is not None}).decode()


async def whole_event(place: Place, found: LogEvent | None, read_loads: ReadLoads, ask: Ask) -> WholeEvent:
    """The event with what became of it. Raises `OSError` and `QueryFailed`."""
    loads = read_loads(None)
    if found is None:
        return await _of_tables(place, ask)
    if found.rejected is not None:
        return WholeEvent(place, "rejected", found.sent, found.row, found.rejected, None)
    if loads is None or place.offset >= loads.positions.get(place.partition, 0):
        return WholeEvent(place, "accepted", found.sent, found.row, None, None)
    kept = await _kept(found.row, ask)
    if kept is None:
        return WholeEvent(place, "accepted", found.sent, found.row, None, None)
    outcome, copy_of = ("stored", None) if kept == place else ("duplicate", kept)
    return WholeEvent(place, outcome, found.sent, found.row, None, copy_of)


async def _kept(row: dict[str, Any], ask: Ask) -> Place | None:
    """The place of the event in the table that has this identity: it itself, or another."""
    owner = f"project_id = {quote(row['project_id'])} AND environment = {quote(row['environment'])}"
    select = f"SELECT log_partition, log_offset, log_index FROM events WHERE {owner}"
    identity = f"identity = unhex('{row['identity']}')"
    # Where it is not a copy, the files of one day are enough.
    for where in (f"{identity} AND date = {quote(row['date'])}", identity):
        rows = await ask(f"{select} AND {where}")
        if rows:
            return Place(rows[0]["log_partition"], rows[0]["log_offset"], rows[0]["log_index"])
    return None


async def _of_tables(place: Place, ask: Ask) -> WholeEvent:
    where = f"WHERE log_partition = {place.partition} AND log_offset = {place.offset} AND log_index = {place.number}"
    for row in await ask(f"SELECT * FROM events {where}"):
        return WholeEvent(place, "stored", None, row, None, None)
    for row in await ask(f"SELECT * FROM rejected {where}"):
        why = RejectedEvent(place.number, row["field"], row["code"], row["message"], row["event"])
        return WholeEvent(place, "rejected", row["event"], row, why, None)
    return WholeEvent(place, "gone", None, {}, None, None)
