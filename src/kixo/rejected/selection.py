"""Which rejected events are meant, as SQL over the views.

Rows of `rejected` carry no log id. A request was received before the last load of its log, so that is the log whose
last load is the first one after it.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from msgspec import Struct

from kixo.query.views import quote
from kixo.timestamp import format_us

# Where senders put the version of their app, the first that is there.
VERSIONS = ("$.properties.app_version", "$.properties.version", "$.app_version", "$.version")
# More is shown of no value.
SAMPLE_LENGTH = 200


class Place(Struct, frozen=True, order=True):
    """The place of an event for good: its log, partition, request's offset, and index in the request's batch."""

    log_id: str
    partition: int
    offset: int
    index: int


class RequestPlace(NamedTuple):
    """A request; in this order, requests are as they came. `received_at_us` is in microseconds since 1970."""

    received_at_us: int
    partition: int
    offset: int


@dataclass(frozen=True)
class Selection:
    """Rejected events received from `from_us` to before `to_us` (microseconds since 1970), with one of given values.

    An empty tuple, or None, is no condition. An empty text as a field or an app version means none.
    """

    from_us: int | None = None
    to_us: int | None = None
    project_id: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    platform: tuple[str, ...] = ()
    bundle_id: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    field: tuple[str, ...] = ()
    app_version: tuple[str, ...] = ()
    places: tuple[Place, ...] = ()


# What all events of a request have in common, and what each has of its own.
OF_REQUEST = ("project_id", "environment", "platform", "bundle_id")
OF_EVENT = ("code", "field", "app_version")
APP = (*OF_REQUEST, "app_version")


def groups(selection: Selection, replayed: Collection[Place], log_id: str, limit: int | None = None) -> str:
    """The query for the selected events by reason and app, the largest group first.

    Columns: `code`, `field`, `events`, `replayed`, those of `APP`, `first_seen`, `last_seen`, and of the latest
    `sample` (JSON text of what is wrong, cut) and `message`. `log_id` is the present log's.
    """
    return f"""{_seen(selection, log_id)}, done AS ({_done(replayed)})
        SELECT
            code,
            field,
            count(*) AS events,
            count(done.log_id) AS replayed,
            {", ".join(APP)},
            min(received_at) AS first_seen,
            max(received_at) AS last_seen,
            arg_max(left({_WRONG}, {SAMPLE_LENGTH}), received_at) AS sample,
            arg_max(message, received_at) AS message
        FROM seen LEFT JOIN done USING (log_id, log_partition, log_offset, log_index)
        WHERE chosen
        GROUP BY ALL
        ORDER BY events DESC, last_seen DESC, {", ".join(APP)}, code, field
        {"" if limit is None else f"LIMIT {limit}"}
    """


def count(selection: Selection, log_id: str) -> str:
    """The query for how many events are selected."""
    return f"{_seen(selection, log_id)} SELECT count(*) AS events FROM seen WHERE chosen"


def listed(selection: Selection, log_id: str, before: Sequence[int], limit: int) -> str:
    """The query for selected events, the latest first. `before`: the last four columns of a row; only what is earlier.

    Columns: `log_id`, `field`, `code`, `message`, `sample` (as in `groups`), `event` (cut), and `received_at_us`,
    `log_partition`, `log_offset`, `log_index`.
    """
    until_us = min([us for us in (selection.to_us, *(us + 1 for us in before[:1])) if us is not None], default=None)
    return f"""{_seen(replace(selection, to_us=until_us), log_id)}
        SELECT log_id, field, code, message, left({_WRONG}, {SAMPLE_LENGTH}) AS sample,
            left(event, {SAMPLE_LENGTH}) AS event,
            epoch_us(received_at) AS received_at_us, log_partition, log_offset, log_index
        FROM seen WHERE chosen {f"AND {_EVENT_PLACE} < ({', '.join(map(str, before))})" if before else ""}
        ORDER BY received_at DESC, log_partition DESC, log_offset DESC, log_index DESC LIMIT {limit}
    """


def over_time(selection: Selection, log_id: str, step_us: int) -> str:
    """The query for how many selected events came, by reason, in steps of time: `at_us`, `code`, `field`, `events`."""
    return f"""{_seen(selection, log_id)}
        SELECT epoch_us(received_at) // {step_us} * {step_us} AS at_us, code, field, count(*) AS events
        FROM seen WHERE chosen GROUP BY ALL ORDER BY ALL
    """


def shown_over_time(selection: Selection, step_us: int) -> str:
    """The same as people would write it, for what a selection says of requests."""
    conditions = [_one_of(name, values) for name in OF_REQUEST if (values := getattr(selection, name))]
    if selection.from_us is not None:
        conditions += [f"date >= '{format_us(selection.from_us)[:10]}'"]
        conditions += [f"received_at >= '{format_us(selection.from_us)[:19]}Z'"]
    return "\n".join(
        [
            f"SELECT time_bucket(INTERVAL '{step_us // 3_600_000_000} hours', received_at) AS moment, code, field,",
            "    count(*) AS events",
            f"FROM rejected WHERE {' AND '.join(conditions) or 'true'}",
            "GROUP BY ALL ORDER BY ALL",
        ]
    )


def requests(selection: Selection, log_id: str, after: RequestPlace | None, limit: int) -> str:
    """The query for the next requests that have selected events, as they came.

    Columns: those of `RequestPlace`, and `events` and `bytes` of all rejected ones of the request.
    """
    return f"""{_seen(selection, log_id, after)}
        SELECT epoch_us(received_at) AS received_at_us, log_partition, log_offset,
            count(*) AS events, sum(strlen(event))::BIGINT AS bytes
        FROM seen {"" if after is None else f"WHERE {_PLACE} > {tuple(after)}"}
        GROUP BY ALL HAVING bool_or(chosen) ORDER BY ALL LIMIT {limit}
    """


def rows(selection: Selection, log_id: str, places: Sequence[RequestPlace]) -> str:
    """The query for all rejected events of some requests, in order; `chosen` says which of them are selected."""
    return f"""{_seen(selection, log_id, min(places), max(places))}
        SELECT {_ROW}
        FROM seen WHERE {_PLACE} IN ({", ".join(str(tuple(place)) for place in places)})
        ORDER BY received_at, log_partition, log_offset, log_index
    """


def identities(places: Sequence[RequestPlace], wanted: Collection[bytes]) -> str:
    """The query for which of the identities events of these requests have: `log_partition`, `log_offset`, `identity`.

    `identity` is hexadecimal.
    """
    first, last = (_instant(place.received_at_us) for place in (min(places), max(places)))
    offsets = ", ".join(f"({place.partition}, {place.offset})" for place in places)
    return f"""
        SELECT log_partition, log_offset, lower(hex(identity)) AS identity FROM events
        WHERE event_id IS NULL AND received_at BETWEEN {first} AND {last}
            AND (log_partition, log_offset) IN ({offsets})
            AND lower(hex(identity)) IN ({", ".join(quote(each.hex()) for each in wanted)})
    """


_PLACE = "(epoch_us(received_at), log_partition, log_offset)"
_EVENT_PLACE = "(epoch_us(received_at), log_partition, log_offset, log_index)"
_ROW = """log_id, log_partition, log_offset, log_index, project_id, environment, bundle_id, platform,
            epoch_us(sent_at) AS sent_at_us, epoch_us(received_at) AS received_at_us,
            field, code, message, event, chosen"""
_WRONG = "CASE WHEN field IS NULL THEN event ELSE event->field END"
_VERSION = f"coalesce({', '.join(f'event->>{quote(path)}' for path in VERSIONS)})"


def _seen(
    selection: Selection, log_id: str, first: RequestPlace | None = None, last: RequestPlace | None = None
) -> str:
    """The common table expressions that the queries start with: rejected events of the requests in question."""
    conditions = [_one_of(name, values) for name in OF_REQUEST if (values := getattr(selection, name))]
    from_us = max((us for us in (selection.from_us, first and first.received_at_us) if us is not None), default=None)
    conditions += _since(from_us) + _before(selection.to_us)
    conditions += _before(None if last is None else last.received_at_us + 1)
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"""
        WITH logs AS (SELECT log_id, max(loaded_at) AS last_load FROM loads GROUP BY log_id),
        found AS (
            SELECT rejected.*, coalesce(logs.log_id, {quote(log_id)}) AS log_id, {_VERSION} AS app_version
            FROM rejected ASOF LEFT JOIN logs ON rejected.received_at <= logs.last_load {where}
        ),
        seen AS (SELECT *, {_chosen(selection)} AS chosen FROM found)
    """


def one(selection: Selection, log_id: str, received_at_us: int) -> str:
    """The query for the selected events of one instant, whole: the columns of `rows`."""
    return f"""{_seen(replace(selection, from_us=received_at_us, to_us=received_at_us + 1), log_id)}
        SELECT {_ROW} FROM seen WHERE chosen ORDER BY log_partition, log_offset, log_index
    """


def _chosen(selection: Selection) -> str:
    conditions = [_one_of(f"coalesce({name}, '')", values) for name in OF_EVENT if (values := getattr(selection, name))]
    if selection.places:
        places = ", ".join(f"({quote(p.log_id)}, {p.partition}, {p.offset}, {p.index})" for p in selection.places)
        conditions.append(f"(log_id, log_partition, log_offset, log_index) IN ({places})")
    return f"({' AND '.join(conditions)})" if conditions else "true"


def _done(replayed: Collection[Place]) -> str:
    """A table of places. As one text, which is read much faster than as many rows of SQL."""
    by_log: dict[str, list[str]] = defaultdict(list)
    for place in replayed:
        by_log[place.log_id].append(f"[{place.partition},{place.offset},{place.index}]")
    tables = [
        f"SELECT {quote(log_id)} AS log_id, k[1] AS log_partition, k[2] AS log_offset, k[3] AS log_index "
        f"FROM (SELECT unnest(from_json('[{','.join(keys)}]', '[[\"BIGINT\"]]')) AS k)"
        for log_id, keys in by_log.items()
    ]
    nothing = "SELECT '' AS log_id, 0 AS log_partition, 0 AS log_offset, 0 AS log_index WHERE false"
    return " UNION ALL ".join(tables) or nothing


def _one_of(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(map(quote, values))})"


def _since(instant_us: int | None) -> list[str]:
    return [] if instant_us is None else [f"date >= {_day(instant_us)}", f"received_at >= {_instant(instant_us)}"]


def _before(instant_us: int | None) -> list[str]:
    return [] if instant_us is None else [f"date <= {_day(instant_us)}", f"received_at < {_instant(instant_us)}"]


def _instant(microseconds: int) -> str:
    return f"make_timestamptz({microseconds})"


def _day(microseconds: int) -> str:
    return quote(format_us(microseconds)[:10]) + "::DATE"
