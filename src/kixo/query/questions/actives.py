"""Retention by first day or week, and daily, weekly and monthly actives. Days are UTC days, weeks begin on Monday."""

from kixo.query.questions.question import Parameter, Question, Values
from kixo.query.questions.scope import Scope, events_in
from kixo.query.questions.span import SPAN_DAYS_MAX, Span
from kixo.timestamp import DAY_US

WEEKLY_DAYS, MONTHLY_DAYS = 7, 30
LOOK_BACK_DAYS_DEFAULT = 90
# 1970-01-01 was a Thursday: three days into its week.
MONDAY_OFFSET = 3
_DAY = f"epoch_us(timestamp) // {DAY_US}"


def _retention(scope: Scope, values: Values) -> str:
    span, days = scope.span, {"day": 1, "week": 7}[values["period"]]
    offset = 0 if days == 1 else MONDAY_OFFSET
    read = Span(max(span.from_us - values["look_back"] * DAY_US, 0), span.to_us)
    width_us = days * DAY_US
    period = f"({_DAY} + {offset}) // {days}"
    return f"""\
WITH present AS (
  SELECT device_id, {period} AS period, epoch_us(min(timestamp)) AS begins
  FROM events
  WHERE {events_in(scope, read)}
  GROUP BY ALL
), first AS (
  SELECT device_id, min(period) AS cohort
  FROM present
  GROUP BY device_id
  HAVING min(begins) >= {span.from_us}
), counted AS (
  SELECT cohort, period - cohort AS periods_later, count(*) AS devices
  FROM first JOIN present USING (device_id)
  GROUP BY ALL
)
SELECT
  DATE '1970-01-01' + (cohort * {days} - {offset})::INTEGER AS cohort,
  periods_later,
  devices,
  devices / first(devices) OVER (PARTITION BY counted.cohort ORDER BY periods_later) AS of_cohort,
  -- Whether the whole period lies before the end of the span.
  (counted.cohort + periods_later + 1) * {width_us} - {offset * DAY_US} <= {span.to_us} AS is_over
FROM counted
WHERE periods_later <= {values["periods"]}
ORDER BY cohort, periods_later"""


def _actives(scope: Scope, _values: Values) -> str:
    first, end = scope.span.from_us // DAY_US, -(-scope.span.to_us // DAY_US)
    read = Span(max(first - MONTHLY_DAYS + 1, 0) * DAY_US, scope.span.to_us)
    return f"""\
WITH present AS (
  SELECT hash(device_id) AS device, {_DAY} AS day
  FROM events
  WHERE {events_in(scope, read)}
  GROUP BY ALL
), spaced AS (
  SELECT day, lead(day, 1, {end + MONTHLY_DAYS}) OVER (PARTITION BY device ORDER BY day) AS next_day
  FROM present
), changes AS (
  -- A device counts from a day that it was active on until the next one, but no longer than the days of the window.
  SELECT day, count(*) AS daily, count(*) AS weekly, count(*) AS monthly FROM spaced GROUP BY day
  UNION ALL
  SELECT least(next_day, day + {WEEKLY_DAYS}) AS day, 0, -count(*), 0 FROM spaced GROUP BY ALL
  UNION ALL
  SELECT least(next_day, day + {MONTHLY_DAYS}) AS day, 0, 0, -count(*) FROM spaced GROUP BY ALL
  UNION ALL
  SELECT unnest(range({first}, {end})), 0, 0, 0
), summed AS (
  SELECT day, sum(daily) AS daily, sum(weekly) AS weekly, sum(monthly) AS monthly FROM changes GROUP BY day
), running AS (
  SELECT
    day,
    daily::BIGINT AS daily,
    (sum(weekly) OVER (ORDER BY day))::BIGINT AS weekly,
    (sum(monthly) OVER (ORDER BY day))::BIGINT AS monthly
  FROM summed
)
SELECT
  DATE '1970-01-01' + day::INTEGER AS day,
  daily,
  weekly,
  monthly,
  daily / nullif(monthly, 0) AS stickiness
FROM running
WHERE day >= {first} AND day < {end}
ORDER BY day"""


RETENTION = Question(
    "retention",
    "Retention",
    "How many of the devices that were first seen in a day or week came back in those after it.",
    (
        Parameter("period", "Period", "What a cohort is.", "choice", "day", choices=("day", "week")),
        Parameter("periods", "Periods", "How many days or weeks are followed.", "integer", "14", 1, 90, "periods"),
        Parameter(
            "look_back",
            "Look back",
            "A device is new where it sent nothing in so many days before the span.",
            "integer",
            str(LOOK_BACK_DAYS_DEFAULT),
            0,
            SPAN_DAYS_MAX,
            "days",
        ),
    ),
    _retention,
)
ACTIVES = Question(
    "actives",
    "Daily, weekly and monthly actives",
    "Devices active on a day, in the 7 and in the 30 days that end with it, and daily as a share of monthly.",
    (),
    _actives,
)
