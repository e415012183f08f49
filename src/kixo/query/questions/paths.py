"""Paths: what happens in sessions after an event.

Followed is the first event of the chosen kind that each session_id of a device has within the span, for the most recent
of these up to a bound. A path ends with its session: where nothing happens for 30 minutes, or a day beyond the span.
"""

from kixo.query.questions.question import Parameter, Question, Values, name_parameter, type_parameter
from kixo.query.questions.scope import Scope, events_in
from kixo.query.questions.span import Span
from kixo.query.questions.step import Step
from kixo.query.questions.visits import FOLLOWED_US
from kixo.query.views import IDLE_US

LENGTH_MAX = 8
FOLLOWED_DEFAULT, FOLLOWED_MAX = 100_000, 1_000_000
_SESSION = "hash(platform, bundle_id, device_id, session_id)"
# Events at the same instant follow each other as the client sent them, as far as that is known.
_PLACE = "{'moment': epoch_us(timestamp), 'partition': log_partition, 'offset': log_offset, 'index': log_index}"


def _paths(scope: Scope, values: Values) -> str:
    start = Step(values["event_type"], values["event_name"] or None)
    of_views = "event_type IN ('page_view', 'screen_view')" if values["of"] == "views" else "true"
    read = Span(scope.span.from_us, scope.span.to_us + FOLLOWED_US)
    return f"""\
WITH starts AS MATERIALIZED (
  SELECT {_SESSION} AS session, min({_PLACE}) AS place
  FROM events
  WHERE {events_in(scope)}
  AND {start.condition}
  GROUP BY session
  ORDER BY place DESC, session
  LIMIT {values["followed"]}
), following AS (
  SELECT session, event.place AS place, event_type, event_name, event.place > starts.place AS is_after
  FROM starts JOIN (
    SELECT {_SESSION} AS session, {_PLACE} AS place, event_type, event_name
    FROM events
    WHERE {events_in(scope, read)}
  ) AS event USING (session)
  WHERE event.place >= starts.place
), spaced AS (
  SELECT *, place.moment - lag(place.moment) OVER (PARTITION BY session ORDER BY place) AS pause FROM following
), within AS (
  SELECT *, count(*) FILTER (pause >= {IDLE_US}) OVER (PARTITION BY session ORDER BY place) AS pauses FROM spaced
), steps AS (
  SELECT session, place, event_type || ': ' || event_name AS step
  FROM within
  WHERE is_after AND pauses = 0 AND {of_views}
  QUALIFY row_number() OVER (PARTITION BY session ORDER BY place) <= {values["length"]}
), walked AS (
  SELECT session, list(step ORDER BY place) AS path FROM steps GROUP BY session
)
-- A session that ends with the event itself has the empty path.
SELECT
  coalesce(path, []) AS path,
  count(*) AS sessions,
  count(*) / sum(count(*)) OVER () AS share
FROM starts LEFT JOIN walked USING (session)
GROUP BY ALL
ORDER BY sessions DESC, path
LIMIT {values["rows"]}"""


PATHS = Question(
    "paths",
    "Paths after an event",
    "What sessions do next after an event, the most frequent paths first.",
    (
        type_parameter("event_type", "Type", "The type of the event that paths begin after.", "session_start"),
        name_parameter("event_name", "Name", "Its name; empty for any."),
        Parameter("of", "Path of", "What a path is made of.", "choice", "all events", choices=("all events", "views")),
        Parameter("length", "Length", "How many events a path has at most.", "integer", "3", 1, LENGTH_MAX, "events"),
        Parameter("rows", "Rows", "How many paths at most.", "integer", "20", 1, 1000),
        Parameter(
            "followed",
            "Followed",
            "How many sessions are looked at, the most recent ones.",
            "integer",
            str(FOLLOWED_DEFAULT),
            1,
            FOLLOWED_MAX,
            "sessions",
        ),
    ),
    _paths,
)
