"""The funnel: how many devices go through chosen steps in their order.

A run of a device begins with an event of the first step within the span, and reaches the next step with an event of it
that comes later and at most the window after the run's beginning. Of the runs that an event can belong to, the one that
began last has the most time left, so it alone is followed: each event of a step carries when the latest run that it
completes began, and when that run was at the step before. The same event may be several steps.

Of a device that reaches a step, the first event that does counts, with the time since the step before it in its run.
Events at the same instant count in the order in which the client sent them, as far as that is known.
"""

from kixo.query.questions.question import Parameter, Question, Values
from kixo.query.questions.scope import Scope, events_in
from kixo.query.questions.span import MINUTE_US, Span
from kixo.query.questions.step import Step
from kixo.query.views import quote

STEPS_MIN, STEPS_MAX = 2, 8
WINDOW_MINUTES_MAX = 90 * 24 * 60
# Log partitions are written at the same time; within one, offset and index are the order of arrival.
IN_ORDER = "timestamp, log_partition, log_offset, log_index"


def _funnel(scope: Scope, values: Values) -> str:
    steps: tuple[Step, ...] = values["steps"]
    window_us = values["window"] * MINUTE_US
    read = Span(scope.span.from_us, scope.span.to_us + window_us)
    levels = [_first_level(scope.span.to_us), *(_level(n, window_us) for n in range(2, len(steps) + 1))]
    return f"""\
WITH matching AS (
  SELECT
    hash(device_id) AS device,
    epoch_us(timestamp) AS moment,
    row_number() OVER (PARTITION BY hash(device_id) ORDER BY {IN_ORDER}) AS place,
    {_flags(steps)}
  FROM events
  WHERE {events_in(scope, read)}
  AND ({" OR ".join(dict.fromkeys(step.condition for step in steps))})
), {", ".join(levels)}, reached AS (
  {" UNION ALL ".join(_reached(n) for n in range(1, len(steps) + 1))}
), counted AS (
  SELECT step, count(*) AS devices, median(since) / 1e6 AS seconds_median FROM reached GROUP BY step
), steps(step, name) AS (
  VALUES {", ".join(f"({n}, {quote(step.text)})" for n, step in enumerate(steps, 1))}
), filled AS (
  SELECT step, name, coalesce(devices, 0) AS devices, seconds_median FROM steps LEFT JOIN counted USING (step)
)
SELECT
  step,
  name,
  devices,
  devices / nullif(first(devices) OVER walk, 0) AS of_first,
  devices / nullif(lag(devices) OVER walk, 0) AS of_previous,
  seconds_median
FROM filled
WINDOW walk AS (ORDER BY step)
ORDER BY step"""


def _flags(steps: tuple[Step, ...]) -> str:
    return ",\n    ".join(f"{step.condition} AS is_{n}" for n, step in enumerate(steps, 1))


def _first_level(to_us: int) -> str:
    return f"""\
level_1 AS (
  SELECT
    *,
    CASE WHEN is_1 AND moment < {to_us} THEN {{'began': moment, 'moment': moment}} END AS run,
    NULL::BIGINT AS since
  FROM matching
)"""


def _level(number: int, window_us: int) -> str:
    return f"""\
followed_{number} AS (
  SELECT * EXCLUDE (run, since), max(run) OVER (
    PARTITION BY device ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
  ) AS latest
  FROM level_{number - 1}
), level_{number} AS (
  SELECT
    * EXCLUDE (latest),
    CASE WHEN is_{number} AND moment - latest.began <= {window_us}
      THEN {{'began': latest.began, 'moment': moment}} END AS run,
    moment - latest.moment AS since
  FROM followed_{number}
)"""


def _reached(number: int) -> str:
    return f"""\
SELECT {number} AS step, arg_min(since, place) AS since FROM level_{number} WHERE run IS NOT NULL GROUP BY device"""


FUNNEL = Question(
    "funnel",
    "Funnel",
    "How many devices go through chosen steps in their order, and how long a step takes them.",
    (
        Parameter(
            "steps",
            "Steps",
            "One a line: a type, or a type, a colon and a name, as in `page_view: /checkout`.",
            "steps",
            "session_start\npage_view",
            STEPS_MIN,
            STEPS_MAX,
        ),
        Parameter(
            "window",
            "Window",
            "How long a device has from the first step to the last.",
            "integer",
            str(24 * 60),
            1,
            WINDOW_MINUTES_MAX,
            "minutes",
        ),
    ),
    _funnel,
)
