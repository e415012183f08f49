"""The views a query sees: the tables of the lake as they are, and what follows from them.

How to keep a query cheap: `date` is the folder a file lies in, so a condition on it leaves whole files unopened.
Conditions on `project_id` and `timestamp` are held against the minimum and maximum of each row group. Conditions on
the other columns are looked at row by row.

`properties` and `event` are JSON text, and always well-formed: `properties->>'$.plan'` works on every row. A number
that no double can hold is infinite once it is cast to DOUBLE, and kept to the last digit as text. A cast of one value
that is no number fails the query; `try_cast(properties->>'$.price' AS DOUBLE)` gives NULL there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kixo.lake import schema
from kixo.lake.schema import PARTITION_COLUMN, TABLES, Table

# A session ends when nothing happened for this long: the contract, part 7.
IDLE_US = 30 * 60 * 1_000_000


@dataclass(frozen=True)
class View:
    """A view that is computed: its name, what a row is, its columns with a sentence each, and its SQL."""

    name: str
    sentence: str
    columns: tuple[tuple[str, str], ...]
    sql: str


APPS = View(
    "apps",
    "One row per app: a (platform, bundle_id) of a project of which at least one event was stored.",
    (
        ("project_id", "The project."),
        ("platform", "ios, android or web."),
        ("bundle_id", "The app's bundle identifier."),
        ("first_seen", "When the first of its events arrived, by the server's clock."),
        ("last_seen", "When the latest of its events arrived, by the server's clock."),
        ("events", "How many events are stored, of all environments."),
        ("devices", "How many devices sent them, exactly."),
    ),
    """
    SELECT
        project_id,
        platform,
        bundle_id,
        min(received_at) AS first_seen,
        max(received_at) AS last_seen,
        count(*) AS events,
        count(DISTINCT device_id) AS devices
    FROM events
    GROUP BY project_id, platform, bundle_id
    """,
)

# Events at the same instant are peers of one window frame (RANGE, not ROWS): so they get the same session number,
# whichever of them comes first in the sort.
_SESSIONS_OF = f"""
    WITH spaced AS (
        SELECT
            project_id, environment, platform, bundle_id, device_id, session_id, event_type, timestamp,
            coalesce(epoch_us(timestamp) - epoch_us(lag(timestamp) OVER visit) >= {IDLE_US}, true) AS starts
        FROM {{events}}
        WINDOW visit AS (
            PARTITION BY project_id, environment, platform, bundle_id, device_id, session_id ORDER BY timestamp
        )
    ), numbered AS (
        SELECT *, count(*) FILTER (starts) OVER visit AS session_number
        FROM spaced
        WINDOW visit AS (
            PARTITION BY project_id, environment, platform, bundle_id, device_id, session_id ORDER BY timestamp
            RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        )
    )
    SELECT
        project_id, environment, platform, bundle_id, device_id, session_id, session_number,
        min(timestamp) AS started_at,
        max(timestamp) AS ended_at,
        (epoch_us(max(timestamp)) - epoch_us(min(timestamp))) / 1e6 AS seconds,
        count(*) AS events,
        count(*) FILTER (event_type = 'screen_view') AS screens,
        count(*) FILTER (event_type = 'page_view') AS pages,
        count(*) FILTER (event_type IN ('screen_view', 'page_view')) <= 1 AS bounce
    FROM numbered
    GROUP BY project_id, environment, platform, bundle_id, device_id, session_id, session_number
    """

SESSIONS = View(
    "sessions",
    "One row per session: the events of one session_id of a device, ended by 30 idle minutes.",
    (
        ("project_id", "The project."),
        ("environment", "production, staging or development."),
        ("platform", "ios, android or web."),
        ("bundle_id", "The app's bundle identifier."),
        ("device_id", "The device."),
        ("session_id", "The session, as the client names it."),
        ("session_number", "1 for the first session of this session_id, one more after each 30 idle minutes."),
        ("started_at", "`timestamp` of its first event."),
        ("ended_at", "`timestamp` of its last event."),
        ("seconds", "From the first event to the last, with microseconds; 0 for a single event."),
        ("events", "How many events it has."),
        ("screens", "How many of them are of type screen_view."),
        ("pages", "How many of them are of type page_view."),
        ("bounce", "Whether it saw at most one screen or page: screens + pages <= 1, whatever else happened."),
    ),
    _SESSIONS_OF.format(events="events"),
)

COMPUTED = (APPS, SESSIONS)

# Sessions know no `date`, so a condition on `started_at` alone reads a project's whole history. This reads the days
# asked for and one on either side, which only a session of more than a day can tell apart from `sessions`.
SESSIONS_BETWEEN = f"""
CREATE MACRO sessions_between(first_day, last_day) AS TABLE
    SELECT * FROM ({
    _SESSIONS_OF.format(
        events="(FROM events WHERE date BETWEEN first_day::DATE - 1 AND last_day::DATE + 1) AS events_between"
    )
})
    WHERE started_at::DATE BETWEEN first_day::DATE AND last_day::DATE
"""

SESSIONS_BETWEEN_SENTENCE = (
    "The sessions that started on those days: FROM sessions_between('2026-04-01', '2026-04-07'). Faster than sessions."
)

_TYPES = {
    schema.DAY: "DATE",
    schema.INTEGER: "INTEGER",
    schema.LONG: "BIGINT",
    schema.TEXT: "VARCHAR",
    schema.BYTES: "BLOB",
    schema.INSTANT: "TIMESTAMPTZ",
}


def create_table_view(table: Table, paths: Sequence[str]) -> str:
    """The statement that makes a view of one table of the lake, of the given Parquet files; none give an empty one."""
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    return f"CREATE VIEW {table.name} AS SELECT {columns} FROM {_rows(table, paths)}"


def create_views() -> list[str]:
    """The statements that make the computed views; those of the tables have to be there."""
    return [f"CREATE VIEW {view.name} AS {view.sql}" for view in COMPUTED] + [SESSIONS_BETWEEN]


def view_names() -> list[str]:
    """The names a query can read."""
    return [table.name for table in TABLES] + [view.name for view in COMPUTED]


def quote(text: str) -> str:
    """The text as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def _rows(table: Table, paths: Sequence[str]) -> str:
    if not paths:
        nothing = ", ".join(f'NULL::{_TYPES[column.type]} AS "{column.name}"' for column in table.columns)
        return f"(SELECT {nothing} WHERE false)"
    files = ", ".join(map(quote, paths))
    return (
        f"read_parquet([{files}], hive_partitioning = true, hive_types = {{'{PARTITION_COLUMN}': DATE}},"
        " hive_types_autocast = false)"
    )
