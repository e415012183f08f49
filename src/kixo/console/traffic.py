"""How close each project is to its limit: requests in the last second, and the most in any second of the last minute.

Looked up once a second where admissions are counted, in a file or in Redis. The last `requests_per_second_max`
admissions of a project are there, which is at least those of the last second: so no rolling second is missed between
two looks.
"""

from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kixo.limits.looking import Look

LOOK_S = 1.0
LOOKS_KEPT = 60
# More would take the console noticeable time every second; those made first are watched.
PROJECTS_WATCHED_MAX = 1000
SECOND_NS = 1_000_000_000


class Use(NamedTuple):
    """Requests of a project: in the last second, and the most in any rolling second of the last minute."""

    now: int
    most: int


class Traffic:
    """The looks of the last minute. One thread looks, any may ask."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._now: NDArray[np.int64] = np.zeros(0, np.int64)
        self._most: deque[NDArray[np.int64]] = deque(maxlen=LOOKS_KEPT)

    def look(self, projects: int, now_ns: int) -> None:
        """Looks at the first so many projects, at a time of CLOCK_MONOTONIC in nanoseconds; raises `OSError`."""
        watched = min(projects, PROJECTS_WATCHED_MAX)
        self._now = np.zeros(0, np.int64)
        times = self._look(watched, now_ns)
        times.sort(axis=1)
        recent = (times > now_ns - SECOND_NS) & (times <= now_ns + SECOND_NS)
        self._most.append(_most_in_a_second(np.where(times > now_ns - 2 * SECOND_NS, times, 0)))
        self._now = recent.sum(axis=1)

    def use(self, project_number: int) -> Use | None:
        """What is known of a project; None where it is not watched, or was not looked at yet."""
        place = project_number - 1
        if not 0 <= place < len(self._now):
            return None
        most = [int(look[place]) for look in list(self._most) if place < len(look)]
        return Use(int(self._now[place]), max([*most, int(self._now[place])]))


def _most_in_a_second(times: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each row of sorted times, the most that lie within one second; 0 is no time."""
    most = np.zeros(len(times), np.int64)
    for row in np.flatnonzero(times.any(axis=1)):
        found = times[row][times[row] > 0]
        within = np.arange(len(found)) - np.searchsorted(found, found - SECOND_NS, side="right") + 1
        most[row] = within.max()
    return most
