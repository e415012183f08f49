"""What the Overview page reads: several questions answered in one pass over the events.

Each figure equals that of the question it stands for, which tests hold; a page of single questions would read the
events eight times. `part` says which figures a row has; all other columns are null.

traffic      counts of the span by time and type, by type and name, and in all; and of the span before
visits       devices and sessions by time, in all, and of the span before; apps
rejections   counts by reason, in all, and of the span before
"""

from kixo.query.questions.counts import ROWS_DEFAULT, TYPES_SHOWN
from kixo.query.questions.scope import Scope, events_in, rejected_in, time_of
from kixo.query.questions.visits import SESSION_FIGURES, sessions_with


def traffic(scope: Scope) -> str:
    """Events of the span, and how many there were in the span before.

    Parts `time` (time, event_type, events), `name` (event_type, event_name, events; the first `ROWS_DEFAULT` of page
    views, of screen views, and of all others), and with events alone `total` and `previous`.
    """
    return f"""\
WITH counted AS MATERIALIZED (
  SELECT
    {time_of("epoch_us(timestamp)", scope.span.bucket_us)} AS time,
    event_type,
    event_name,
    count(*) AS events
  FROM events
  WHERE {events_in(scope)}
  GROUP BY GROUPING SETS ((time, event_type), (event_type, event_name))
), ranked AS (
  SELECT event_type, row_number() OVER (ORDER BY sum(events) DESC, event_type) AS rank
  FROM counted
  WHERE time IS NOT NULL
  GROUP BY event_type
), shown AS (
  SELECT time, CASE WHEN rank <= {TYPES_SHOWN} THEN event_type END AS event_type, sum(events)::BIGINT AS events
  FROM counted JOIN ranked USING (event_type)
  WHERE time IS NOT NULL
  GROUP BY ALL
), names AS (
  SELECT event_type, event_name, events
  FROM counted
  WHERE time IS NULL
  QUALIFY row_number() OVER (
    PARTITION BY CASE WHEN event_type IN ('page_view', 'screen_view') THEN event_type END
    ORDER BY events DESC, event_type, event_name
  ) <= {ROWS_DEFAULT}
)
SELECT 'time' AS part, time, event_type, NULL AS event_name, events FROM shown
UNION ALL
SELECT 'name', NULL, event_type, event_name, events FROM names
UNION ALL
SELECT 'total', NULL, NULL, NULL, coalesce(sum(events), 0)::BIGINT FROM counted WHERE time IS NOT NULL
UNION ALL
SELECT 'previous', NULL, NULL, NULL, count(*) FROM events
WHERE {events_in(scope, scope.span.previous)}
ORDER BY part, time, events DESC, event_type, event_name"""


def visits(scope: Scope) -> str:
    """Devices, sessions and apps of the span, and the first two of the span before.

    Parts `devices_at` (time, devices), `sessions_at` (time and the figures of sessions), `app` (platform, bundle_id,
    events, devices), and without a time `devices`, `sessions`, `devices_before` and `sessions_before`.
    """
    span, previous = scope.span, scope.span.previous
    time = time_of("begins", span.bucket_us)
    in_span = f"begins >= {span.from_us} AND begins < {span.to_us}"
    before = f"begins >= {previous.from_us} AND begins < {previous.to_us}"
    return f"""\
WITH {sessions_with(scope, (previous.from_us, span.from_us, span.to_us))}
SELECT 'devices_at' AS part, {time} AS time, count(DISTINCT device) AS devices
FROM bins WHERE segment = 2 GROUP BY ALL
UNION ALL BY NAME
SELECT 'devices' AS part, count(DISTINCT device) AS devices FROM bins WHERE segment = 2
UNION ALL BY NAME
SELECT 'devices_before' AS part, count(DISTINCT device) AS devices FROM bins WHERE segment = 1
UNION ALL BY NAME
SELECT 'sessions_at' AS part, {time} AS time, {SESSION_FIGURES}
FROM sessions WHERE {in_span} GROUP BY ALL
UNION ALL BY NAME
SELECT 'sessions' AS part, {SESSION_FIGURES} FROM sessions WHERE {in_span}
UNION ALL BY NAME
SELECT 'sessions_before' AS part, {SESSION_FIGURES} FROM sessions WHERE {before}
UNION ALL BY NAME
(
  SELECT 'app' AS part, platform, bundle_id, sum(events)::BIGINT AS events, count(DISTINCT device) AS devices
  FROM bins
  WHERE segment = 2
  GROUP BY ALL
  ORDER BY events DESC, platform, bundle_id
  LIMIT {ROWS_DEFAULT}
)"""


def rejections(scope: Scope) -> str:
    """Parts `reason` (code, field, events), the first `ROWS_DEFAULT`, and `total` and `previous` (events)."""
    return f"""\
(
  SELECT 'reason' AS part, code, field, count(*) AS events, max(received_at) AS latest
  FROM rejected
  WHERE {rejected_in(scope)}
  GROUP BY ALL
  ORDER BY events DESC, code, field
  LIMIT {ROWS_DEFAULT}
)
UNION ALL BY NAME
SELECT 'total' AS part, count(*) AS events FROM rejected WHERE {rejected_in(scope)}
UNION ALL BY NAME
SELECT 'previous' AS part, count(*) AS events FROM rejected WHERE {rejected_in(scope, scope.span.previous)}"""
