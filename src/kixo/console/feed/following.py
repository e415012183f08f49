"""A place in all that arrives, and what is told of it: events of the log, what the loader made of them, refusals.

Everything read and decoded comes out of a budget by the second, however much arrives.
"""

from collections.abc import Callable
from contextlib import closing

from kixo.console.feed.backlog import LOG_BYTES, Sources, backlog, log_end, wanted_of
from kixo.console.feed.outcome import LoadNews, Recent
from kixo.console.feed.row import Row
from kixo.console.feed.sample import Decoding, copies, sample
from kixo.console.feed.watch import Allowance, Watch
from kixo.console.feed.watcher import message
from kixo.log.preview import Stretch

# More than a body may have, so that the largest one can be looked into.
READ_BYTES_PER_S = 32 * 1024 * 1024
DECODED_BYTES_PER_S = 4 * 1024 * 1024
RATE_S = 1.0
# The records of refused requests have to be read whole, a megabyte for each worker.
REFUSED_S = 0.3


class Following:
    """A place in what arrives, from now on. Belongs to the follower's thread; raises `OSError` or `DataFolderError`."""

    def __init__(self, sources: Sources, timer_s: Callable[[], float]) -> None:
        self._open_log = sources.open_log
        self._preview = sources.open_log()
        self._news = LoadNews(sources.read_loads)
        self._refused = sources.open_refused()
        self._known_refused: list[Row] = []
        self._refused_s = timer_s()
        self._recent = Recent()
        self._timer_s = timer_s
        now_s = timer_s()
        self._reading = Allowance(READ_BYTES_PER_S, READ_BYTES_PER_S, now_s)
        self._decoding = Allowance(DECODED_BYTES_PER_S, DECODED_BYTES_PER_S, now_s)
        self._positions: dict[int, int] = {}
        self._rate_s = now_s
        self._arrived = 0.0
        for partition in self._preview.partitions():
            self._pass(self._preview.newest(partition, LOG_BYTES))

    def close(self) -> None:
        """Lets go of the log."""
        self._preview.close()

    def advance(self, watches: list[Watch]) -> None:
        """Reads what is new and tells everybody what they want of it."""
        now_s = self._timer_s()
        for allowance in (self._reading, self._decoding, *(watch.rows for watch in watches)):
            allowance.refill(now_s)
        # In this order: what the loader has done with is in the log before.
        has_news = self._news.ask()
        known, refused = self._read_refused(now_s)
        self._begin([watch for watch in watches if not watch.begun], known)
        decoding = Decoding(self._decoding.left)
        self._tell_arrivals(watches, refused, decoding)
        if has_news:
            self._tell_outcomes(watches, decoding)
        self._decoding.left = decoding.bytes_left
        if now_s - self._rate_s >= RATE_S:
            self._tell_rates(watches, now_s)

    def _read_refused(self, now_s: float) -> tuple[list[Row], list[Row]]:
        if now_s < self._refused_s:
            return self._known_refused, []
        self._refused_s = now_s + REFUSED_S
        known, new = self._refused()
        self._known_refused = [*known, *new]
        return known, new

    def _begin(self, newcomers: list[Watch], refused: list[Row]) -> None:
        """Shows newcomers the end of what is there already, or what came while they were away."""
        if not newcomers:
            return
        with closing(self._open_log()) as preview:
            stretches = log_end(preview, list(self._positions))
        for watch in newcomers:
            watch.begun = True
            since = watch.watcher.since or {}
            unseen = [self._between(stretch, since.get(stretch.partition, 0)) for stretch in stretches]
            # A page that comes back knows by their ids which of the refused requests it has.
            opened = Decoding(DECODED_BYTES_PER_S).open
            watch.show(backlog(unseen, watch.watcher.search, list(self._news.copies), refused, opened), self._id())
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
            rows = found.rows + wanted_of(refused, watch.watcher.search.wanted)[: watch.rows_left]
            self._show(watch, sorted(rows, key=lambda row: row.at))

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
                found, search = self._news.new_copies, watch.watcher.search
                self._show(watch, copies(found, self._recent.stretches, search, watch.rows_left, decoding.open))

    def _show(self, watch: Watch, rows: list[Row]) -> None:
        if rows:
            watch.rows.left -= len(rows)
            watch.show(rows, self._id())

    def _settle(self, watch: Watch) -> None:
        settled = watch.waiting.settle(self._news)
        if settled is not None:
            watch.watcher.tell(message("settled", settled))

    def _tell_rates(self, watches: list[Watch], now_s: float) -> None:
        seconds = now_s - self._rate_s
        arriving = round(self._arrived / seconds)
        self._rate_s, self._arrived = now_s, 0.0
        for watch in watches:
            watch.tell_rate(arriving, seconds)

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
