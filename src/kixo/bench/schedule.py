"""When the driver sends: as fast as answers come or by the clock, and never over the rate limit of a project.

Requests go round all projects, so a project gets one request in each cycle, and it is enough to hold a cycle back
until the end of the one a hundred cycles before it is more than a second ago.
"""

from collections import deque

# The limit is on arrival and we count sending, so the difference of two waits has to fit in.
LIMIT_WINDOW_S = 1.15


class Schedule:
    """When the next request is due, in seconds of the clock that is passed in."""

    def __init__(self, rate: float | None, projects: int, limit: int, now_s: float) -> None:
        self._projects = projects
        self._left = projects
        self._cycle_ends: deque[float] = deque(maxlen=limit)
        self._earliest_s = now_s
        self.set_rate(rate, now_s)
        self.paced_s = 0.0

    def set_rate(self, rate: float | None, now_s: float) -> None:
        """Goes on at another rate from now."""
        self._interval_s = 1 / rate if rate else 0.0
        self.due_s = max(now_s, self._earliest_s)

    def advance(self, now_s: float) -> float:
        """Takes the request that is due, and returns when it was due: in a closed loop, now."""
        due_s = self.due_s if self._interval_s else now_s
        self.due_s = due_s + self._interval_s
        self._left -= 1
        if not self._left:
            self._end_cycle(now_s)
        return due_s

    def _end_cycle(self, now_s: float) -> None:
        self._left = self._projects
        self._cycle_ends.append(now_s)
        if len(self._cycle_ends) < (self._cycle_ends.maxlen or 0):
            return
        self._earliest_s = self._cycle_ends[0] + LIMIT_WINDOW_S
        if self._earliest_s > self.due_s:
            self.paced_s += self._earliest_s - self.due_s
            self.due_s = self._earliest_s

    def overdue(self, now_s: float) -> int:
        """Requests that are due by now and not taken; 0 in a closed loop."""
        return max(0, int((now_s - self.due_s) / self._interval_s)) if self._interval_s else 0
