"""The thread that follows the log for all who watch, a few times a second, within a budget.

It begins with the first watcher and ends with the last: where nobody watches, nothing is read.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import Struct

from kixo.console.feed.sample import Decoding, Sample, newest, sample
from kixo.console.feed.watcher import Watcher, message
from kixo.errors import KixoError
from kixo.log.preview import LogPreview, Stretch

POLL_S = 0.1
# More rows than this in a second nobody can read; a few at once are shown all the same.
ROWS_PER_S = 30.0
ROWS_AT_ONCE_MAX = 60.0
BACKLOG_ROWS_MAX = 100
# Enough of the log's end to find a hundred events of one kind, and for a second or more without a connection.
BACKLOG_BYTES = 4 * 1024 * 1024
# More than a body may have, so that the largest one can be looked into.
READ_BYTES_PER_S = 32 * 1024 * 1024
DECODED_BYTES_PER_S = 4 * 1024 * 1024
RATE_S = 1.0

# What reading the log can fail with and be tried again; anything else is a defect.
FAILURES = (OSError, KixoError)


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


class _Watch:
    """A watcher, how many rows it may have now, and what its next rate has to say."""

    def __init__(self, watcher: Watcher, now_s: float) -> None:
        self.watcher = watcher
        self.rows = Allowance(ROWS_PER_S, ROWS_AT_ONCE_MAX, now_s)
        self.begun = False
        self.told: Rate | None = None
        self._sums = [0, 0, 0, 0]

    def count(self, found: Sample) -> None:
        """Counts what came of one look at the log."""
        numbers = (found.among, found.matching, len(found.rows), found.unsearched)
        self._sums = [total + number for total, number in zip(self._sums, numbers, strict=True)]

    def rate(self, arriving: int, seconds: float) -> Rate:
        """What was counted, by the second; begins to count anew."""
        rate = Rate(arriving, *(round(total / seconds) for total in self._sums))
        self._sums = [0, 0, 0, 0]
        return rate


class Follower:
    """Follows the log in `folder` for its watchers. `timer_s` gives seconds that only rise.

    `watch` and `leave` belong to the event loop's thread, `close` to any.
    """

    def __init__(self, folder: Path, watchers_max: int, report: Any, timer_s: Callable[[], float] = time.monotonic):
        self._folder = folder
        self._watchers_max = watchers_max
        self._report = report
        self._timer_s = timer_s
        self._lock = threading.Lock()
        self._watches: dict[Watcher, _Watch] = {}
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    @property
    def watchers(self) -> int:
        """How many watch now."""
        return len(self._watches)

    def watch(self, watcher: Watcher) -> bool:
        """Begins to tell a watcher; False where there are as many as may be, or the follower is closed."""
        with self._lock:
            if len(self._watches) >= self._watchers_max or self._closed.is_set():
                return False
            self._watches[watcher] = _Watch(watcher, self._timer_s())
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="live-follower", daemon=True)
                self._thread.start()
            return True

    def leave(self, watcher: Watcher) -> None:
        """Tells a watcher nothing more."""
        with self._lock:
            self._watches.pop(watcher, None)

    def close(self) -> None:
        """Ends every watcher, and the thread soon after."""
        with self._lock:
            self._closed.set()
            watchers = list(self._watches)
        for watcher in watchers:
            watcher.end()

    def _run(self) -> None:
        following: _Following | None = None
        while watches := self._present():
            try:
                following = following or _Following(self._folder, self._timer_s)
                following.advance(watches)
            except FAILURES as error:
                following = None
                self._report.warning("live_feed_failed", reason=str(error))
                for watch in watches:
                    watch.watcher.tell(message("fault", {"message": f"The log cannot be read: {error}."}))
            self._closed.wait(POLL_S if following is not None else RATE_S)

    def _present(self) -> list[_Watch]:
        """Who watches now; where nobody does, the thread is told to end and the next watcher starts another."""
        with self._lock:
            if self._closed.is_set() or not self._watches:
                self._thread = None
                return []
            return list(self._watches.values())


class _Following:
    """A place in the log, and the budget. Belongs to the follower's thread."""

    def __init__(self, folder: Path, timer_s: Callable[[], float]) -> None:
        self._folder = folder
        self._preview = LogPreview(folder)
        self._timer_s = timer_s
        now_s = timer_s()
        self._reading = Allowance(READ_BYTES_PER_S, READ_BYTES_PER_S, now_s)
        self._decoding = Allowance(DECODED_BYTES_PER_S, DECODED_BYTES_PER_S, now_s)
        self._positions: dict[int, int] = {}
        self._rate_s = now_s
        self._arrived = 0.0
        for partition in self._preview.partitions():
            self._pass(self._preview.newest(partition, BACKLOG_BYTES))

    def advance(self, watches: list[_Watch]) -> None:
        """Reads what is new and tells everybody what they want of it. Raises `OSError` or `DataFolderError`."""
        now_s = self._timer_s()
        for allowance in (self._reading, self._decoding, *(watch.rows for watch in watches)):
            allowance.refill(now_s)
        newcomers = [watch for watch in watches if not watch.begun]
        if newcomers:
            self._begin(newcomers)
        stretches = self._read()
        if stretches:
            decoding = Decoding(self._decoding.left)
            for watch in watches:
                self._tell(watch, stretches, decoding)
            self._decoding.left = decoding.bytes_left
        if now_s - self._rate_s >= RATE_S:
            self._tell_rates(watches, now_s)

    def _begin(self, newcomers: list[_Watch]) -> None:
        """Shows newcomers the end of what is there already, or what came while they were away."""
        preview = LogPreview(self._folder)
        stretches = [found for partition in self._positions for found in preview.newest(partition, BACKLOG_BYTES)]
        for watch in newcomers:
            watch.begun = True
            since = watch.watcher.since or {}
            unseen = [self._between(stretch, since.get(stretch.partition, 0)) for stretch in stretches]
            rows = newest(unseen, watch.watcher.search, BACKLOG_ROWS_MAX, Decoding(DECODED_BYTES_PER_S).open)
            watch.watcher.tell(message("rows", rows, rows=len(rows), id=self._id()))

    def _between(self, stretch: Stretch, since: int) -> Stretch:
        """What is not before `since`, and what everybody has got to."""
        end = self._positions.get(stretch.partition, 0)
        return stretch._replace(heads=[head for head in stretch.heads if since <= head.offset < end])

    def _read(self) -> list[Stretch]:
        stretches: list[Stretch] = []
        for partition in self._preview.partitions():
            found = self._preview.read(partition, max(0, int(self._reading.left)))
            self._reading.left -= sum(len(stretch.data) for stretch in found)
            self._arrived += _events(found)
            self._pass(found)
            stretches += found
        return stretches

    def _pass(self, stretches: list[Stretch]) -> None:
        for stretch in stretches:
            if stretch.heads:
                self._positions[stretch.partition] = stretch.heads[-1].offset + 1

    def _tell(self, watch: _Watch, stretches: list[Stretch], decoding: Decoding) -> None:
        found = sample(stretches, watch.watcher.search, max(0, int(watch.rows.left)), decoding.open)
        watch.rows.left -= len(found.rows)
        watch.count(found)
        if found.rows:
            watch.watcher.tell(message("rows", found.rows, rows=len(found.rows), id=self._id()))

    def _tell_rates(self, watches: list[_Watch], now_s: float) -> None:
        seconds = now_s - self._rate_s
        arriving = round(self._arrived / seconds)
        self._rate_s, self._arrived = now_s, 0.0
        for watch in watches:
            rate = watch.rate(arriving, seconds)
            if rate != watch.told:
                watch.told = rate
                watch.watcher.tell(message("rate", rate))

    def _id(self) -> str:
        return ",".join(f"{partition}:{position}" for partition, position in sorted(self._positions.items()))


def _events(stretches: list[Stretch]) -> float:
    """How many events came; what was passed over is taken to have as many to a byte as the rest."""
    events = sum(head.accepted + head.rejected for stretch in stretches for head in stretch.heads)
    size = sum(len(stretch.data) for stretch in stretches)
    skipped = sum(stretch.skipped_bytes for stretch in stretches)
    return events * (size + skipped) / size if size else 0.0


def parse_positions(text: str) -> dict[int, int] | None:
    """The positions by partition in the id of a message, None where it is not one."""
    found: dict[int, int] = {}
    for part in text.split(",") if text else ():
        partition, _, position = part.partition(":")
        if not (partition.isdecimal() and position.isdecimal()):
            return None
        found[int(partition)] = int(position)
    return found or None
