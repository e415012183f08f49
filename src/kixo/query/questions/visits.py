"""Sessions, and whatever else a device's presence shows, cheaply: from *bins* in place of events.

A bin is the events of one session_id of a device in one stretch of at most 30 minutes. Two events of a bin are less
than 30 minutes apart, so what ends a session lies between two bins: from the end of one to the beginning of the next. A
bin's first and last instant are therefore all that is needed of it, and there are far fewer bins than events. The edges
of the spans cut bins too, so that each bin is wholly in one span or in none.

A session belongs to the span that it begins in. Whether an event begins one is decided by the 30 minutes before it, so
these are read as well. A session is followed for `FOLLOWED_US` beyond the end of the span and counted as over then.

Sessions and devices are told apart by hashes of 64 bits, which take a quarter of the memory of their texts: of two
million sessions, two fall together in one query of ten million.
"""

from kixo.query.questions.question import Question, Values
from kixo.query.questions.scope import Scope, events_in, instant, time_of
from kixo.query.questions.span import Span
from kixo.query.views import IDLE_US
from kixo.timestamp import DAY_US

FOLLOWED_US = DAY_US


def sessions_with(scope: Scope, edges: tuple[int, ...]) -> str:
    """Common table expressions `bins` and `sessions` for the spans between `edges`, in microseconds since 1970.

    `bins` has one row per bin: session, platform, bundle_id, device, segment (n: after the n-th edge), begins, ends
    (microseconds since 1970), events, views. `sessions` has one row per session: begins, seconds, events, bounce; those
    that began before the first edge or after the last are in it too, and not to be trusted.
    """
    width = min(scope.span.bucket_us, IDLE_US)
    read = Span(max(edges[0] - IDLE_US, 0), edges[-1] + FOLLOWED_US)
    segment = " + ".join(f"(timestamp >= {instant(edge)})::TINYINT" for edge in edges)
    return f"""\
bins AS MATERIALIZED (
  SELECT
    hash(platform, bundle_id, device_id, session_id) AS session,
    epoch_us(timestamp) // {width} AS bin,
    {segment} AS segment,
    platform,
    bundle_id,
    any_value(hash(device_id)) AS device,
    epoch_us(min(timestamp)) AS begins,
    epoch_us(max(timestamp)) AS ends,
    count(*) AS events,
    count(*) FILTER (event_type IN ('page_view', 'screen_view')) AS views
  FROM events
  WHERE {events_in(scope, read)}
  GROUP BY session, bin, segment, platform, bundle_id
), marked AS (
  SELECT *, coalesce(begins - lag(ends) OVER visit >= {IDLE_US}, true) AS is_first
  FROM bins
  WINDOW visit AS (PARTITION BY session ORDER BY begins)
), numbered AS (
  SELECT *, count(*) FILTER (is_first) OVER (PARTITION BY session ORDER BY begins) AS number
  FROM marked
), sessions AS (
  SELECT
    min(begins) AS begins,
    (max(ends) - min(begins)) / 1e6 AS seconds,
    sum(events)::BIGINT AS events,
    sum(views) <= 1 AS bounce
  FROM numbered
  GROUP BY session, number
)"""


SESSION_FIGURES = """\
count(*) AS sessions,
  median(seconds) AS seconds_median,
  quantile_cont(seconds, 0.9) AS seconds_p90,
  avg(bounce::INTEGER) AS bounce_rate"""


def _sessions(scope: Scope, _values: Values) -> str:
    span = scope.span
    return f"""\
WITH {sessions_with(scope, (span.from_us, span.to_us))}
SELECT
  {time_of("begins", span.bucket_us)} AS time,
  {SESSION_FIGURES}
FROM sessions
WHERE begins >= {span.from_us} AND begins < {span.to_us}
GROUP BY ALL
ORDER BY time"""


SESSIONS_OVER_TIME = Question(
    "sessions_over_time",
    "Sessions",
    "Sessions by when they began, the median and the 90th percentile of their length, and the share that saw at most "
    "one page or screen.",
    (),
    _sessions,
)
