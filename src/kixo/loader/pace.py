"""How often a loader commits: seldom enough that commits do not take up its time, and often enough to be seen soon.

Loaders that share tables commit in turn, and one that meets another has to try again. The more of them there are, or
the farther away the tables, the longer a commit takes; so each lets more wait for its next one. What has come by then
is one load, up to its bounds.
"""

# A commit may take this part of the time between two, so that it usually meets no other.
COMMIT_SHARE = 0.2
# Events have to be visible within two seconds.
INTERVAL_S_MAX = 1.0
# How much a single commit counts.
WEIGHT = 0.2


class Pace:
    """The time between the starts of two loads, at least `interval_s_min`."""

    def __init__(self, interval_s_min: float) -> None:
        self._interval_s_min = interval_s_min
        self._commit_s = 0.0

    @property
    def interval_s(self) -> float:
        """Seconds from the start of one load to that of the next, unless more waits already."""
        return max(self._interval_s_min, min(self._commit_s / COMMIT_SHARE, INTERVAL_S_MAX))

    def note(self, commit_s: float) -> None:
        """Takes notice of how long the commits of a load took."""
        self._commit_s += WEIGHT * (commit_s - self._commit_s)
