"""Spans of time: half-open, in UTC, and cut into buckets that begin at whole minutes, hours or days."""

from dataclasses import dataclass

from kixo.errors import BadArgument
from kixo.timestamp import DAY_US, format_us, parse_us

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
# A chart has at most this many buckets, unless the widest gives more.
BUCKETS_MAX = 200
BUCKETS_US = (MINUTE_US, 5 * MINUTE_US, 15 * MINUTE_US, HOUR_US, DAY_US)
SPAN_DAYS_MAX = 400
CUSTOM = "custom"


@dataclass(frozen=True)
class Span:
    """From `from_us` to before `to_us`, in microseconds since 1970."""

    from_us: int
    to_us: int

    @property
    def length_us(self) -> int:
        """How long it is, in microseconds."""
        return self.to_us - self.from_us

    @property
    def previous(self) -> "Span":
        """The span of the same length that ends where this one begins; cut off at 1970."""
        return Span(max(self.from_us - self.length_us, 0), self.from_us)

    @property
    def bucket_us(self) -> int:
        """The width of the buckets of a chart over the span: the narrowest that gives at most `BUCKETS_MAX`."""
        return next((width for width in BUCKETS_US if self.length_us <= width * BUCKETS_MAX), BUCKETS_US[-1])

    @property
    def buckets(self) -> range:
        """Where the buckets begin that have a part in the span, in microseconds since 1970."""
        width = self.bucket_us
        return range(self.from_us // width * width, self.to_us, width)


@dataclass(frozen=True)
class NamedSpan:
    """A span that ends now: its name in addresses, its title, and its length in microseconds."""

    name: str
    title: str
    length_us: int


SPANS = (
    NamedSpan("hour", "Last hour", HOUR_US),
    NamedSpan("day", "Last 24 hours", DAY_US),
    NamedSpan("week", "Last 7 days", 7 * DAY_US),
    NamedSpan("month", "Last 30 days", 30 * DAY_US),
    NamedSpan("quarter", "Last 90 days", 90 * DAY_US),
)


def named_span(name: str, now_us: int) -> Span:
    """The span of `SPANS` of that name that ends at `now_us`; raises `BadArgument`.

    It begins with the bucket that held the instant so long ago. So only its last bucket is one that is not over.
    """
    for named in SPANS:
        if named.name == name:
            from_us = max(now_us - named.length_us, 0)
            width = Span(from_us, now_us).bucket_us
            return Span(from_us // width * width, now_us)
    names = ", ".join(named.name for named in SPANS)
    raise BadArgument(f"There is no span {name!r}.", f"Choose one of {names}, or give both ends.")


def span_of(first: str, end: str) -> Span:
    """The span from the instant `first` to before `end`, both ISO 8601; raises `BadArgument`."""
    span = Span(_instant(first), _instant(end))
    if span.length_us <= 0:
        raise BadArgument("The span ends before it begins.", "Give a later end.")
    if span.length_us > SPAN_DAYS_MAX * DAY_US:
        days = -(-span.length_us // DAY_US)
        raise BadArgument(f"The span is {days} days long; the most is {SPAN_DAYS_MAX}.", "Choose a shorter one.")
    return span


def _instant(text: str) -> int:
    try:
        instant_us = parse_us(text)
    except ValueError:
        raise BadArgument(f"{text[:64]!r} is no ISO 8601 instant.", "Write it as 2026-04-08T12:00Z.") from None
    if instant_us < 0:
        raise BadArgument(f"{format_us(instant_us)} is before 1970.", "Choose a later instant.")
    return instant_us
