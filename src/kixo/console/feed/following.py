"""A place in all that arrives, and what is told of it: events of the log, what the loader made of them, refusals.

Everything read and decoded comes out of a budget by the second, however much arrives.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from kixo.console.feed.filter import wants_refused
from kixo.console.feed.outcome import LoadNews, ReadLoads, Recent
from kixo.console.feed.row import Place, Row
from kixo.console.feed.sample import Decoding, copies, newest, sample
from kixo.console.feed.watch import Allowance, Watch
from kixo.console.feed.watcher import message
from kixo.log.preview import LogPreview, Stretch

BACKLOG_ROWS_MAX = 100
# Enough of the log's end to find a hundred events of one kind, and for a second or more without a connection.
BACKLOG_BYTES = 4 * 1024 * 1024
# More than a body may have, so that the largest one can be looked into.
READ_BYTES_PER_S = 32 * 1024 * 1024
DECODED_BYTES_PER_S = 4 * 1024 * 1024
RATE_S = 1.0

ReadRefused = Callable[[], tuple[list[Row], list[Row]]]
"""Refused requests, oldest first: those known before, and those since it was last called."""


class Sources(NamedTuple):
    """Where to read: the log's folder, the loader's record, and, opened anew for each place, the refused requests."""

    log: Path
    read_loads: ReadLoads
    open_refused: Callable[[], ReadRefused]


class Following:
    """A place in what arrives, from now on. Belongs to the follower's thread; raises `OSError` or `DataFolderError`."""

    def __init__(self, sources: Sources, timer_s: Callable[[], float]) -> None:
        self._log = sources.log
        self._preview = LogPreview(sources.log)
        self._news = LoadNews(sources.read_loads)
        self._refused = sources.open_refused()
        self._recent = Recent()
        self._timer_s = timer_s
        now_s = timer_s()
        self._reading = Allowance(READ_BYTES_PER_S, READ_BYTES_PER_S, now_s)
        self._decoding = Allowance(DECODED_BYTES_PER_S, DECODED_BYTES_PER_S, now_s)
        self._positions: dict[int, int] = {}
        self._rate_s = now_s
        self._arrived = 0.0
        for partition in self._preview.partitions():
            self._pass(self._preview.newest(partition, BACKLOG_BYTES))

    def advance(self, watches: list[Watch]) -> None:
        """Reads what is new and tells everybody what they want of it."""
        now_s = self._timer_s()
        for allowance in (self._reading, self._decoding, *(watch.rows for watch in watches)):
            allowance.refill(now_s)
        # In this order: what the loader has done with is in the log before.
        has_news = self._news.ask()
        known, refused = self._refused()
        self._begin([watch for watch in watches if not watch.begun], known)
        decoding = Decoding(self._decoding.left)
        self._tell_arrivals(watches, refused, decoding)
        if has_news:
            self._tell_outcomes(watches, decoding)
        self._decoding.left = decoding.bytes_left
        if now_s - self._rate_s >= RATE_S:
            self._tell_rates(watches, now_s)

    def _begin(self, newcomers: list[Watch], refused: list[Row]) -> None:
        """Shows newcomers the end of what is there already, or what came while they were away."""
        if not newcomers:
            return
        preview = LogPreview(self._log)
        stretches = [found for partition in self._positions for found in preview.newest(partition, BACKLOG_BYTES)]
        for watch in newcomers:
            watch.begun = True
            since = watch.watcher.since or {}
            unseen = [self._between(stretch, since.get(stretch.partition, 0)) for stretch in stretches]
            decoding = Decoding(DECODED_BYTES_PER_S)
            if watch.watcher.search.wanted.outcome == "duplicate":
                rows = self._copies(watch, list(self._news.copies), unseen, decoding)
            else:
                rows = newest(unseen, watch.watcher.search, BACKLOG_ROWS_MAX, decoding.open)
                # A page that comes back knows by their ids which of these it has.
                rows += _wanted(watch, refused)
            watch.show(sorted(rows, key=lambda row: row.at)[-BACKLOG_ROWS_MAX:], self._id())
            self._settle(watch)

    def _between(self, stretch: Stretch, since: int) -> Stretch:
        """What is not before `since`, and what everybody has got to."""
        end = self._positions.get(stretch.partition, 0)
        return stretch._replace(heads=[head for head in stretch.heads if since <= head.offset < end])

    def _tell_arrivals(self, watches: list[Watch], refused: list[Row], decoding: Decoding) -> None:
        stretches = self._read()
        if not stretches and not refused:
            return
        for_copies = [watch for watch in watches if watch.watcher.search.wanted.outcome == "duplicate"]
        if for_copies:
            self._recent.add(stretches)
        for watch in (watch for watch in watches if watch not in for_copies):
            found = sample(stretches, watch.watcher.search, watch.rows_left, decoding.open)
            watch.count(found)
            rows = found.rows + _wanted(watch, refused)[: watch.rows_left]
            self._show(watch, rows)

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

    def _tell_outcomes(self, watches: list[Watch], decoding: Decoding) -> None:
        for watch in watches:
            self._settle(watch)
            if watch.watcher.search.wanted.outcome == "duplicate" and self._news.new_copies:
                rows = self._copies(watch, self._news.new_copies, self._recent.stretches, decoding)
                self._show(watch, rows)

    def _show(self, watch: Watch, rows: list[Row]) -> None:
        if rows:
            watch.rows.left -= len(rows)
            watch.show(rows, self._id())

    def _settle(self, watch: Watch) -> None:
        settled = watch.waiting.settle(self._news)
        if settled is not None:
            watch.watcher.tell(message("settled", settled))

    def _copies(
        self, watch: Watch, places: Sequence[Place], stretches: Sequence[Stretch], decoding: Decoding
    ) -> list[Row]:
        return copies(places, stretches, watch.watcher.search, watch.rows_left, decoding.open)

    def _tell_rates(self, watches: list[Watch], now_s: float) -> None:
        seconds = now_s - self._rate_s
        arriving = round(self._arrived / seconds)
        self._rate_s, self._arrived = now_s, 0.0
        for watch in watches:
            watch.tell_rate(arriving, seconds)

    def _id(self) -> str:
        return ",".join(f"{partition}:{position}" for partition, position in sorted(self._positions.items()))


def _wanted(watch: Watch, refused: list[Row]) -> list[Row]:
    wanted = watch.watcher.search.wanted
    return [row for row in refused if wants_refused(wanted, row.project, row.environment, row.platform)]


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
