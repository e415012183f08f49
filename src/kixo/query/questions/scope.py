"""Which rows a question is about, as SQL conditions.

Everything is pruned twice. `date` is the folder of a file, so a condition on it leaves files of other days unopened. It
is the UTC day of the corrected `timestamp`, the one that spans are about, so the days of a span are the days that its
rows lie on, and no margin is needed. Only events that arrived after the horizon lie elsewhere, all under `OLD_DAY`; so
that day is always read as well, where statistics on `timestamp` let nearly all of it be skipped. `timestamp` itself
then decides.
"""

from dataclasses import dataclass

from kixo.query.questions.span import Span
from kixo.query.selection import OLD_DAY
from kixo.query.views import quote
from kixo.timestamp import format_us


@dataclass(frozen=True)
class Scope:
    """A project's environment, over a span."""

    project_id: str
    environment: str
    span: Span


def events_in(scope: Scope, span: Span | None = None) -> str:
    """The condition on rows of `events` that are in the scope; `span` is in place of the scope's own."""
    taken = span or scope.span
    return f"{_owner(scope)}\n  AND {within(taken, 'timestamp')}\n  AND ({_days(taken)} OR date = '{OLD_DAY}')"


def rejected_in(scope: Scope, span: Span | None = None) -> str:
    """The condition on rows of `rejected` that are in the scope, by the time of arrival."""
    taken = span or scope.span
    return f"{_owner(scope)}\n  AND {within(taken, 'received_at')}\n  AND {_days(taken)}"


def within(span: Span, column: str) -> str:
    """The condition that an instant lies in the span."""
    return f"{column} >= {instant(span.from_us)} AND {column} < {instant(span.to_us)}"


def instant(microseconds: int) -> str:
    """An instant as SQL: one of the years 1970 to 9999, which are read as they are written."""
    text = format_us(microseconds).removesuffix("Z").removesuffix(".000000").replace("T", " ")
    return f"TIMESTAMPTZ '{text}+00'"


def time_of(microseconds: str, width_us: int) -> str:
    """The beginning of the bucket that an SQL expression in microseconds lies in, as an instant.

    By division, as buckets are whole parts of UTC: `date_trunc` asks a calendar for every row, at four times the cost.
    """
    return f"make_timestamptz({microseconds} // {width_us} * {width_us})"


def _owner(scope: Scope) -> str:
    return f"project_id = {quote(scope.project_id)} AND environment = {quote(scope.environment)}"


def _days(span: Span) -> str:
    first, last = format_us(span.from_us)[:10], format_us(max(span.to_us - 1, span.from_us))[:10]
    return f"date BETWEEN '{first}' AND '{last}'"
