"""Questions that count events: over time, by name, by app, and what was rejected."""

from kixo.query.questions.question import Parameter, Question, Values
from kixo.query.questions.scope import Scope, events_in, rejected_in, time_of
from kixo.query.questions.span import Span
from kixo.timestamp import DAY_US

# Types beyond these are counted together: clients can send as many as they like, and a chart cannot show them.
TYPES_SHOWN = 8
ROWS_DEFAULT, ROWS_MAX = 10, 1000
VERSIONS_DAYS = 1

_ROWS = Parameter("rows", "Rows", "How many at most.", "integer", str(ROWS_DEFAULT), 1, ROWS_MAX)


def _events_over_time(scope: Scope, _values: Values) -> str:
    time = time_of("epoch_us(timestamp)", scope.span.bucket_us)
    return f"""\
WITH counted AS (
  SELECT {time} AS time, event_type, count(*) AS events
  FROM events
  WHERE {events_in(scope)}
  GROUP BY ALL
), ranked AS (
  SELECT event_type, row_number() OVER (ORDER BY sum(events) DESC, event_type) AS rank
  FROM counted
  GROUP BY event_type
)
-- The types beyond the {TYPES_SHOWN} most frequent are counted together, as NULL.
SELECT time, CASE WHEN rank <= {TYPES_SHOWN} THEN event_type END AS event_type, sum(events)::BIGINT AS events
FROM counted JOIN ranked USING (event_type)
GROUP BY ALL
ORDER BY time, event_type"""


def _active_devices(scope: Scope, _values: Values) -> str:
    return f"""\
SELECT {time_of("epoch_us(timestamp)", scope.span.bucket_us)} AS time, count(DISTINCT device_id) AS devices
FROM events
WHERE {events_in(scope)}
GROUP BY ALL
ORDER BY time"""


def _top_events(scope: Scope, values: Values) -> str:
    return f"""\
SELECT event_type, event_name, count(*) AS events, count(DISTINCT device_id) AS devices
FROM events
WHERE {events_in(scope)}
  AND event_type NOT IN ('page_view', 'screen_view')
GROUP BY ALL
ORDER BY events DESC, event_type, event_name
LIMIT {values["rows"]}"""


def _top_pages(scope: Scope, values: Values) -> str:
    return _top_views(scope, "page_view", "page", values["rows"])


def _top_screens(scope: Scope, values: Values) -> str:
    return _top_views(scope, "screen_view", "screen", values["rows"])


def _top_views(scope: Scope, event_type: str, column: str, rows: int) -> str:
    return f"""\
SELECT event_name AS {column}, count(*) AS events, count(DISTINCT device_id) AS devices
FROM events
WHERE {events_in(scope)}
  AND event_type = '{event_type}'
GROUP BY ALL
ORDER BY events DESC, {column}
LIMIT {rows}"""


def _top_apps(scope: Scope, values: Values) -> str:
    return f"""\
SELECT platform, bundle_id, count(*) AS events, count(DISTINCT device_id) AS devices
FROM events
WHERE {events_in(scope)}
GROUP BY ALL
ORDER BY events DESC, platform, bundle_id
LIMIT {values["rows"]}"""


def last_day(span: Span) -> Span:
    """The last day of a span, all of a shorter one: reading properties costs more than all other columns together."""
    return Span(max(span.from_us, span.to_us - VERSIONS_DAYS * DAY_US), span.to_us)


def _app_versions(scope: Scope, values: Values) -> str:
    return f"""\
SELECT
  platform,
  bundle_id,
  coalesce(properties->>'$.app_version', properties->>'$.version') AS version,
  count(*) AS events,
  count(DISTINCT device_id) AS devices
FROM events
-- The last 24 hours of the span.
WHERE {events_in(scope, last_day(scope.span))}
GROUP BY ALL
HAVING version IS NOT NULL
ORDER BY events DESC, platform, bundle_id, version
LIMIT {values["rows"]}"""


def _rejections(scope: Scope, values: Values) -> str:
    return f"""\
SELECT code, field, count(*) AS events, max(received_at) AS latest
FROM rejected
WHERE {rejected_in(scope)}
GROUP BY ALL
ORDER BY events DESC, code, field
LIMIT {values["rows"]}"""


EVENTS_OVER_TIME = Question(
    "events_over_time",
    "Events over time",
    "Events by type and by minutes, hours or days, as the span is long.",
    (),
    _events_over_time,
)
ACTIVE_DEVICES = Question(
    "active_devices", "Active devices", "Devices that sent an event, by minutes, hours or days.", (), _active_devices
)
TOP_EVENTS = Question(
    "top_events",
    "Top events",
    "The most frequent events by type and name; page and screen views have questions of their own.",
    (_ROWS,),
    _top_events,
)
TOP_PAGES = Question("top_pages", "Top pages", "The pages with the most views.", (_ROWS,), _top_pages)
TOP_SCREENS = Question("top_screens", "Top screens", "The screens with the most views.", (_ROWS,), _top_screens)
TOP_APPS = Question("top_apps", "Top apps", "The apps with the most events, and their devices.", (_ROWS,), _top_apps)
APP_VERSIONS = Question(
    "app_versions",
    "App versions",
    "Versions by events in the last 24 hours of the span, where properties have an `app_version` or a `version`.",
    (_ROWS,),
    _app_versions,
)
REJECTIONS = Question(
    "rejections",
    "Rejections by reason",
    "Events that were not taken, by reason and by the member that was wrong.",
    (_ROWS,),
    _rejections,
)
