"""What one watcher may have and has had: rows a second, and the figures of its rate."""

from msgspec import Struct

from kixo.console.feed.outcome import Waiting
from kixo.console.feed.row import Row, parse_place
from kixo.console.feed.sample import Sample
from kixo.console.feed.watcher import Watcher, message

# More rows than this in a second nobody can read; a few at once are shown all the same.
ROWS_PER_S = 30.0
ROWS_AT_ONCE_MAX = 60.0


class Allowance:
    """So much a second, of which at most `most` can be saved up. What is taken may leave a debt."""

    def __init__(self, per_s: float, most: float, now_s: float) -> None:
        self._per_s, self._most = per_s, most
        self._at_s = now_s
        self.left = most

    def refill(self, now_s: float) -> None:
        """Adds what the time since the last call gives."""
        self.left = min(self._most, self.left + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s


class Rate(Struct, frozen=True):
    """What came in the last second, in events a second.

    `arriving`: in all. `among`, `matching` and `unsearched` as in `sample.Sample`; `shown`: of those that match.
    """

    arriving: int
    among: int
    matching: int
    shown: int
    unsearched: int


class Watch:
    """A watcher as the follower sees it. Belongs to the follower's thread."""

    def __init__(self, watcher: Watcher, now_s: float) -> None:
        self.watcher = watcher
        self.rows = Allowance(ROWS_PER_S, ROWS_AT_ONCE_MAX, now_s)
        self.waiting = Waiting()
        self.begun = False
        self._told: Rate | None = None
        self._sums = [0, 0, 0, 0]

    @property
    def rows_left(self) -> int:
        """How many rows it may have now."""
        return max(0, int(self.rows.left))

    def show(self, rows: list[Row], position: str) -> None:
        """Tells it rows, behind which it goes on at `position`, and waits to hear what becomes of them."""
        self.waiting.add(parse_place(row.id) for row in rows if row.outcome == "accepted")
        self.watcher.tell(message("rows", rows, rows=len(rows), id=position))

    def count(self, found: Sample) -> None:
        """Counts what came of one look at the log."""
        numbers = (found.among, found.matching, len(found.rows), found.unsearched)
        self._sums = [total + number for total, number in zip(self._sums, numbers, strict=True)]

    def tell_rate(self, arriving: int, seconds: float) -> None:
        """Tells what was counted, by the second, unless that is what it knows; begins to count anew."""
        rate = Rate(arriving, *(round(total / seconds) for total in self._sums))
        self._sums = [0, 0, 0, 0]
        if rate != self._told:
            self._told = rate
            self.watcher.tell(message("rate", rate))
