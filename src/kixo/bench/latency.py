"""Latencies by the million in little memory.

Values are gathered in a list, and folded, 50,000 at a time, into buckets that are each 1 % wider than the one before,
from 1 µs to about 20 minutes. A percentile is the upper edge of its bucket, so it is never flattered and at most 1 %
too high.
"""

import math

import numpy as np
from msgspec import Struct

FOLD_AT = 50_000
GROWTH = math.log(1.01)
BUCKETS = 2100


class Latency(Struct, frozen=True):
    """Percentiles in milliseconds, of `count` values; all 0 where there are none."""

    count: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float


class Latencies:
    """Gathers latencies in seconds. `append` takes one."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forgets all values."""
        self._pending: list[float] = []
        self.append = self._pending.append
        self._buckets = np.zeros(BUCKETS, np.int64)
        self._max_s = 0.0

    def fold(self, at: int = FOLD_AT) -> None:
        """Moves the values into the buckets once there are `at` of them; call now and then to bound memory."""
        if len(self._pending) < max(at, 1):
            return
        values = np.array(self._pending)
        self._pending.clear()
        places = np.ceil(np.log(np.maximum(values, 1e-6) * 1e6) / GROWTH).astype(np.int64)
        np.add.at(self._buckets, np.minimum(places, BUCKETS - 1), 1)
        self._max_s = max(self._max_s, float(values.max()))

    def summary(self) -> Latency:
        """What the values so far come to."""
        self.fold(1)
        count = int(self._buckets.sum())
        p50_ms, p99_ms, p999_ms = (self._percentile_ms(share, count) for share in (0.5, 0.99, 0.999))
        return Latency(count, p50_ms, p99_ms, p999_ms, self._max_s * 1e3)

    def _percentile_ms(self, share: float, count: int) -> float:
        if not count:
            return 0.0
        place = int(np.searchsorted(np.cumsum(self._buckets), math.ceil(share * count)))
        return min(math.exp(place * GROWTH) / 1e3, self._max_s * 1e3)
