"""What every event gets when it is tracked: the time, and a UUIDv7 (RFC 9562) that is its identity.

    018f2b1e-7c1a 7 aaa v bbb cccccccccccc     milliseconds | version | random, per millisecond | a counter

The counter begins anywhere in the lower half of its 48 bits each millisecond, so ids rise within a process and two
processes hardly ever meet: 12 + 14 + 47 random bits in each millisecond. Nothing here needs a lock but the change of
the millisecond: `next` of a counter cannot be interrupted, not even by a signal handler that tracks.

`uuid.uuid7` of Python 3.14 takes neither a clock nor randomness, and makes an object of which we need the text alone.
"""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from typing import NamedTuple


class _Millisecond(NamedTuple):
    number: int
    prefix: str
    counter: "count[int]"


class Stamps:
    """Gives each event its time and its id. Any thread may ask."""

    def __init__(self, now_ns: Callable[[], int], random_bytes: Callable[[int], bytes]) -> None:
        self._now_ns = now_ns
        self._random_bytes = random_bytes
        self._lock = threading.RLock()
        self._millisecond = _Millisecond(-1, "", count())
        self._second = (-1, "")

    def __call__(self) -> tuple[str, str]:
        """Now, as ISO 8601 in UTC with microseconds, and a new id."""
        now_ns = self._now_ns()
        number, prefix, counter = self._millisecond
        if now_ns // 1_000_000 > number:
            _, prefix, counter = self._next_millisecond(now_ns // 1_000_000)
        return self._text(now_ns), f"{prefix}{next(counter):012x}"

    def now(self) -> str:
        """Now, as ISO 8601 in UTC with microseconds."""
        return self._text(self._now_ns())

    def _text(self, now_ns: int) -> str:
        seconds, microseconds = divmod(now_ns // 1000, 1_000_000)
        known, text = self._second
        if seconds != known:
            text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            self._second = (seconds, text)
        return f"{text}.{microseconds:06d}Z"

    def _next_millisecond(self, number: int) -> _Millisecond:
        with self._lock:
            # A clock that goes back does not take the ids back with it.
            if number > self._millisecond.number:
                self._millisecond = begin(number, self._random_bytes)
            return self._millisecond


def begin(number: int, random_bytes: Callable[[int], bytes]) -> _Millisecond:
    """The ids of one millisecond since 1970."""
    chance = int.from_bytes(random_bytes(10), "big")
    start, chance = chance % 2**47, chance >> 47
    high, low = chance % 2**12, chance >> 12 & 0x3FFF
    milliseconds = f"{number % 2**48:012x}"
    prefix = f"{milliseconds[:8]}-{milliseconds[8:]}-7{high:03x}-{0x8000 | low:04x}-"
    return _Millisecond(number, prefix, count(start))
