"""ISO 8601 as client libraries really send it, to microseconds since 1970 in UTC.

`datetime.fromisoformat` (Python 3.11 and later) reads basic and extended formats, week dates, a comma, any number of
fraction digits (cut, not rounded) and every form of offset. This module adds what it leaves out: lower-case `t` and
`z`, and instants whose UTC form falls outside the years 1 to 9999, which are held at the edge. It takes out what
ISO 8601 does not know: other separators, blanks, an offset beyond a day's clock.
"""

import re
import time
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - offsets are subtracted by hand, which cannot overflow
MICROSECOND = timedelta(microseconds=1)
EARLIEST_US = (datetime.min - EPOCH) // MICROSECOND
LATEST_US = (datetime.max - EPOCH) // MICROSECOND
DAY_US = 86_400_000_000

_SHAPE = re.compile(
    r"[0-9]{4}-?(?:[0-9]{2}-?[0-9]{2}|W[0-9]{2}-?[0-9])"
    r"(?:[Tt ][0-9]{2}(?::?[0-9]{2}(?::?[0-9]{2}(?:[.,][0-9]+)?)?)?"
    r"(?:[Zz]|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?)?)?"
)


def parse_us(text: str) -> int:
    """Microseconds since 1970-01-01T00:00:00Z of an ISO 8601 text; without an offset it is UTC.

    Raises `ValueError` where the text is not ISO 8601.
    """
    if _SHAPE.fullmatch(text) is None:
        raise ValueError(f"not an ISO 8601 date and time: {text[:64]!r}")
    moment = datetime.fromisoformat(text.upper())
    microseconds = (moment.replace(tzinfo=None) - EPOCH) // MICROSECOND
    offset = moment.utcoffset()
    if offset:
        microseconds -= offset // MICROSECOND
    return clamp_us(microseconds)


def clamp_us(microseconds: int) -> int:
    """The nearest instant of the years 1 to 9999, which every engine that reads the tables can show."""
    return min(max(microseconds, EARLIEST_US), LATEST_US)


def format_us(microseconds: int) -> str:
    """The instant as `2026-04-08T12:00:00.000000Z`."""
    moment = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=clamp_us(microseconds))
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def now_us() -> int:
    """This machine's wall clock, in microseconds since 1970. What needs the time is given it by those above."""
    return time.time_ns() // 1000
