"""`/api/events`: events as they are kept, newest first, page by page; and those that were rejected.

The order is by time, then by place in the log, which no two events share. A cursor names the last event of a page, so
that what arrives meanwhile moves nothing.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from kixo.console.api.answering import ANSWER_TYPE, query_refusal, until_gone
from kixo.console.api.queries import wait_for
from kixo.console.api.visibility import parse_after
from kixo.console.context import Console, console_of
from kixo.errors import InvalidRequest, QueryFailed
from kixo.lake.schema import EVENTS, PARTITION_COLUMN, REJECTED, Table
from kixo.query.answer import Answer
from kixo.query.selection import day_condition, instant
from kixo.query.views import quote
from kixo.timestamp import clamp_us, parse_us

PATH = "/api/events"
LIMIT, LIMIT_MAX = 100, 1000


class Outcome(NamedTuple):
    """Where the events of an outcome are: the table, its time, its JSON text, and the filters with their SQL."""

    table: Table
    time: str
    text: str
    filters: dict[str, str]


_COMMON = {"project": "project_id", "environment": "environment", "platform": "platform"}
OUTCOMES = {
    "accepted": Outcome(
        EVENTS,
        "timestamp",
        "properties",
        {**_COMMON, "type": "event_type", "name": "event_name", "device": "device_id"},
    ),
    "rejected": Outcome(
        REJECTED,
        "received_at",
        "event",
        {
            **_COMMON,
            "type": "event->>'$.event_type'",
            "name": "event->>'$.event_name'",
            "device": "event->>'$.device_id'",
        },
    ),
}
FILTERS = tuple(OUTCOMES["accepted"].filters)


class Wanted(Struct, frozen=True, kw_only=True):
    """What is asked for: times in microseconds, filters by name, and the cursor's last event."""

    outcome: Outcome
    filters: dict[str, str]
    since_us: int | None
    until_us: int | None
    limit: int
    before: tuple[int, int, int, int] | None


def routes() -> list[BaseRoute]:
    """The route of events."""
    return [Route(PATH, show)]


async def show(request: Request) -> Response:
    """One page of events."""
    wanted, after = read_wanted(request), parse_after(request.query_params.getlist("after"))
    console, sql = console_of(request), select(wanted)

    async def page() -> Answer:
        await wait_for(console, after)
        return await _first_rows(console, sql, wanted.limit)

    try:
        answer = await until_gone(request, page())
    except QueryFailed as error:
        return query_refusal(error, sql)
    return Response(_encode(wanted, answer), media_type=ANSWER_TYPE)


async def _first_rows(console: Console, sql: str, limit: int) -> Answer:
    return await console.pool.table(sql, rows_max=limit)


def read_wanted(request: Request) -> Wanted:
    """What the parameters of the address ask for; raises `InvalidRequest`."""
    found = request.query_params
    name = found.get("outcome", "accepted")
    if name not in OUTCOMES:
        raise InvalidRequest(f"`outcome` is none that is kept. Send one of {', '.join(OUTCOMES)}.", field="outcome")
    return Wanted(
        outcome=OUTCOMES[name],
        filters={name: found[name] for name in FILTERS if name in found},
        since_us=_instant(request, "since"),
        until_us=_instant(request, "until"),
        limit=_limit(found.get("limit")),
        before=_decode_cursor(found.get("cursor")),
    )


def select(wanted: Wanted) -> str:
    """The query for a page, and one event more."""
    outcome = wanted.outcome
    columns = [f"epoch_us({outcome.time})", "log_partition", "log_offset", "log_index"]
    conditions = [f"{outcome.filters[name]} = {quote(value)}" for name, value in wanted.filters.items()]
    conditions += _span(outcome, wanted)
    if wanted.before is not None:
        conditions.append(f"({', '.join(columns)}) < ({', '.join(map(str, wanted.before))})")
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    order = ", ".join(f"{column} DESC" for column in (outcome.time, *columns[1:]))
    shown = ", ".join(column.name for column in outcome.table.columns if column.name != PARTITION_COLUMN)
    return f"SELECT {shown} FROM {outcome.table.name}{where} ORDER BY {order} LIMIT {wanted.limit + 1}"


def _span(outcome: Outcome, wanted: Wanted) -> list[str]:
    """The conditions on time. A cursor bounds it too, so that the files of later days stay unopened."""
    ends = [] if wanted.until_us is None else [f"{outcome.time} < {instant(wanted.until_us)}"]
    last = wanted.until_us
    if wanted.before is not None:
        ends.append(f"{outcome.time} <= {instant(wanted.before[0])}")
        last = wanted.before[0] if last is None else min(last, wanted.before[0])
    begins = [] if wanted.since_us is None else [f"{outcome.time} >= {instant(wanted.since_us)}"]
    return [*begins, *ends, *day_condition(wanted.since_us, last)]


def _encode(wanted: Wanted, answer: Answer) -> bytes:
    rows = answer.dicts()[: wanted.limit]
    more = answer.truncated or len(answer.rows) > wanted.limit
    for row in rows:
        row[wanted.outcome.text] = Raw(row[wanted.outcome.text].encode())
    return msgspec.json.encode({"events": rows, "next": _cursor(wanted, rows) if more and rows else None})


def _cursor(wanted: Wanted, rows: Sequence[dict[str, Any]]) -> str:
    last = rows[-1]
    place = (parse_us(last[wanted.outcome.time]), last["log_partition"], last["log_offset"], last["log_index"])
    return base64.urlsafe_b64encode(".".join(map(str, place)).encode()).decode().rstrip("=")


def _decode_cursor(text: str | None) -> tuple[int, int, int, int] | None:
    if text is None:
        return None
    try:
        parts = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii").split(".")
        time_us, partition, offset, index = map(int, parts)
    except (ValueError, binascii.Error):
        raise _no_cursor() from None
    if not all(-(2**63) <= number < 2**63 for number in (time_us, partition, offset, index)):
        raise _no_cursor()
    return clamp_us(time_us), partition, offset, index


def _no_cursor() -> InvalidRequest:
    return InvalidRequest("`cursor` is none that was given out. Send `next` of the page before.", field="cursor")


def _instant(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        return parse_us(text)
    except ValueError:
        raise InvalidRequest(
            f"`{name}` is {text[:64]!r}, not ISO 8601. Send a time such as 2026-04-08T12:00:00Z.", field=name
        ) from None


def _limit(text: str | None) -> int:
    if text is None:
        return LIMIT
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= LIMIT_MAX):
        raise InvalidRequest(f"`limit` is no number of 1 to {LIMIT_MAX}. Send such a one.", field="limit")
    return int(text)
