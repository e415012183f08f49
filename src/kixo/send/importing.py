"""One import, from the first row to the last: reading in this thread, sending in others, a bookmark every second."""

import threading
from collections.abc import Callable, Iterator
from typing import BinaryIO

from msgspec import Struct, json

from kixo.client.surroundings import Surroundings
from kixo.errors import EventsRejected
from kixo.send.bookmark import Bookmarks
from kixo.send.delivery import Batch, Courier, Target
from kixo.send.gathering import Gathering
from kixo.send.lanes import Lanes
from kixo.send.ledger import Counts, Entry, Ledger, Reason, Refusal
from kixo.send.rows import BadRow, Format, Place, Row, read_rows
from kixo.send.shaping import RowRefused, Shape, Shaped, Shaper

SAVE_S = 1.0
# How many rows may pass between two looks at the clock.
ROWS_PER_LOOK = 1000
SHOWN_BYTES = 10_000


class Plan(Struct, frozen=True, kw_only=True):
    """What to send, and how. `typed`: see `kixo.send.rows`. `strict`: stop at the first row that is not taken."""

    target: Target
    format: Format
    shape: Shape
    connections: int = 4
    timeout_s: float = 30.0
    patience_s: float = 300.0
    typed: bool = False
    strict: bool = False


class Summary(Struct, frozen=True):
    """What came of an import.

    `sent` and `rejected` count rows of this run, `rows` and `accepted` those of all runs of this file so far.
    `begun_at` is the line that this run went on after. `unused` are columns that went into nothing. Of `corrected`
    events, the server that they come from held another time for right than the one that was sent.
    """

    sent: int
    rejected: int
    rows: int
    accepted: int
    begun_at: int
    seconds: float
    reasons: list[Reason]
    unused: list[str]
    corrected: int


def send_file(
    file: BinaryIO,
    plan: Plan,
    bookmarks: Bookmarks | None,
    write_rejected: Callable[[bytes], object],
    advance: Callable[[float], None],
    outside: Surroundings,
) -> Summary:
    """Sends the rows of a file, from its bookmark on. `write_rejected` gets a line of JSON for each row not taken.

    Raises `SendFailed`, `BadArgument`, and with `strict` `EventsRejected`; the bookmark is kept then.
    """
    start, counts = bookmarks.find() if bookmarks is not None else (Place(), Counts())
    ledger = Ledger(start, counts, lambda refusal: write_rejected(refusal.record + b"\n"), halts=plan.strict)
    sending = _Sending(plan, ledger, bookmarks, advance, outside)
    began_s = outside.monotonic_s()
    try:
        sending.run(read_rows(file, plan.format, start, plan.typed), start)
    finally:
        sending.close()
    seconds = outside.monotonic_s() - began_s
    total = ledger.bookmark()[1]
    shaper = sending.shaper
    return Summary(
        sent=ledger.rows,
        rejected=ledger.refused,
        rows=total.rows,
        accepted=total.accepted,
        begun_at=start.number,
        seconds=seconds,
        reasons=ledger.reasons(),
        unused=list(shaper.unused),
        corrected=shaper.corrected,
    )


class _Sending:
    """The parts of an import while it runs."""

    def __init__(
        self,
        plan: Plan,
        ledger: Ledger,
        bookmarks: Bookmarks | None,
        advance: Callable[[float], None],
        outside: Surroundings,
    ) -> None:
        self.shaper = Shaper(plan.shape, plan.target.project_id)
        self._plan, self._ledger, self._bookmarks = plan, ledger, bookmarks
        self._advance, self._now_s = advance, outside.monotonic_s
        self._gathering = Gathering()
        self._stop = threading.Event()
        self._saved_at_s = self._now_s()
        self._lanes = Lanes(
            plan.connections,
            lambda: Courier(plan.target, plan.timeout_s, plan.patience_s, self._stop, outside),
            self._settle,
            self._stop,
        )

    def run(self, rows: Iterator[Row | BadRow], start: Place) -> None:
        """Sends all rows."""
        told = start.offset
        for number, row in enumerate(rows, 1):
            self._ledger.begin(row.number, row.end)
            self._take(row)
            if number % ROWS_PER_LOOK == 0:
                self._advance(row.end.offset - told)
                told = row.end.offset
                self._look()
        self._put(self._gathering.rest())
        self._lanes.finish()
        self._check()

    def close(self) -> None:
        """Ends what still runs and keeps what was reached."""
        self._lanes.stop()
        self._save()

    def _take(self, row: Row | BadRow) -> None:
        if isinstance(row, BadRow):
            self._refuse(row, None, row.code, row.message)
            return
        try:
            shaped: Shaped = self.shaper.shape(row)
        except RowRefused as refused:
            self._refuse(row, refused.field, refused.code, refused.message)
            return
        self._put(self._gathering.add(shaped.envelope, Entry(row.number, shaped.event)))

    def _refuse(self, row: Row | BadRow, field: str | None, code: str, message: str) -> None:
        reason = {"line": row.number, "field": field, "code": code, "message": message}
        text = row.text[:SHOWN_BYTES] if code == "too_long" else row.text
        record = json.encode({"rejected": reason, "text": text.decode("utf-8", "replace")})
        self._ledger.settle([row.number], [Refusal(row.number, field, code, message, record)])
        self._check()

    def _put(self, batches: Iterator[Batch]) -> None:
        for batch in batches:
            self._lanes.put(batch)

    def _settle(self, batch: Batch, refusals: list[Refusal]) -> None:
        self._ledger.settle([entry.line for entry in batch.entries], refusals)

    def _look(self) -> None:
        """Now and then: keep what was reached, and wait where too much waits for one row."""
        self._check()
        if self._now_s() - self._saved_at_s >= SAVE_S:
            self._save()
        if self._ledger.crowded:
            self._put(self._gathering.rest())
            while self._ledger.crowded and not self._stop.is_set():
                self._ledger.wait(SAVE_S)

    def _check(self) -> None:
        if self._plan.strict and self._ledger.refused:
            (reason, *_) = self._ledger.reasons()
            line, message = reason.examples[0]
            raise EventsRejected(f"Line {line} was not taken: {message}", "Mend it, and run the command again.")

    def _save(self) -> None:
        self._saved_at_s = self._now_s()
        if self._bookmarks is not None:
            self._bookmarks.save(*self._ledger.bookmark())
