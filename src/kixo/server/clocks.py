"""The clocks of this machine, which everything else is given."""

import time


def now_us() -> int:
    """The wall clock, in microseconds since 1970."""
    return time.time_ns() // 1000
