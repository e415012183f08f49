"""When to send, what to send, and what to do with the answer: one step at a time, without a thread or a wait.

One load is in hand at a time, in one piece or, when it was too large, in several. It is sent until each of its events
was accepted or rejected; then the store may forget it and the next one is taken. So events arrive in order, and a
repeated piece is made of the same bytes but for `sent_at`.
"""

from collections.abc import Callable, Sequence

from kixo.client.answers import Again, Delivered, Held, Outcome, Refused, TooLarge, backoff_s
from kixo.client.options import Options
from kixo.client.report import Report
from kixo.client.sender import Sender
from kixo.client.store import Load, Store
from kixo.client.tracked import decode_event
from kixo.event import Rejection

Piece = Sequence[bytes]

EMPTY_PAUSE_S = 1.0


class Delivery:
    """The state between two attempts. Belongs to one thread at a time."""

    def __init__(
        self,
        store: Store,
        sender: Sender,
        report: Report,
        options: Options,
        monotonic_s: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self._store = store
        self._sender = sender
        self._report = report
        self._options = options
        self._monotonic_s = monotonic_s
        self._random = random
        self._load = Load(())
        self._pieces: list[Piece] = []
        self._events_max = options.batch_events_max
        self._bytes_max = options.batch_bytes_max
        self._attempts = 0
        self._due_at_s: float | None = None
        self._resume_at_s = 0.0
        self._waits_by_order = False
        self.held = False
        self.settled = 0

    @property
    def left(self) -> int:
        """Events that entered the store and have found their end."""
        return self.settled + self._store.displaced

    @property
    def unkept(self) -> int:
        """Events that were taken from a store that does not keep them, and are not settled."""
        return sum(map(len, self._pieces)) if self._load.receipt is None else 0

    def hurry(self) -> None:
        """Ends a wait that we imposed on ourselves; one that the server asked for goes on."""
        if not self._waits_by_order:
            self._resume_at_s = 0.0

    def step(self, *, urgent: bool) -> float | None:
        """Does what is due. Returns the seconds until something will be, 0 for more at once, None for nothing.

        `urgent`: what waits goes now, and not when there is a full batch of it.
        """
        now_s = self._monotonic_s()
        wait_s = self._wait_s(now_s, urgent=urgent)
        # Before an attempt, for it may fail again and again: what is sent is sent from where it outlives the process.
        keep_s = self._store.keep(now_s, urgent=urgent or wait_s == 0)
        if wait_s == 0:
            self._attempt(now_s)
            return 0.0
        waits = [wait for wait in (keep_s, wait_s) if wait is not None]
        return min(waits, default=None)

    def _wait_s(self, now_s: float, *, urgent: bool) -> float | None:
        """The seconds until the next attempt; None: there is nothing to send."""
        due_in_s = 0.0
        if not self._pieces:
            events, size = self._store.waiting()
            if not events:
                self._due_at_s = None
                return None
            if self._due_at_s is None:
                self._due_at_s = now_s + self._options.flush_interval_s
            if not (urgent or events >= self._events_max or size >= self._bytes_max):
                due_in_s = self._due_at_s - now_s
        return max(0.0, due_in_s, self._resume_at_s - now_s)

    def _attempt(self, now_s: float) -> None:
        if self.held:
            self._ask(now_s)
            return
        if not self._pieces:
            self._load = self._store.take(self._events_max, self._bytes_max)
            self._pieces = [self._load.events] if self._load.events else []
            if not self._pieces:
                # The store could not give what it holds, and says so itself.
                self._pause(EMPTY_PAUSE_S, by_order=True)
                return
        piece = self._pieces[0]
        self._conclude(piece, self._sender.send(piece))

    def _ask(self, now_s: float) -> None:
        """Asks with an empty batch, which costs nobody anything, whether key and address are right by now."""
        outcome = self._sender.send(())
        self._pause(self._options.refused_pause_s, by_order=True)
        if isinstance(outcome, Delivered):
            self.held = False
            self._resume_at_s = now_s
            self._report.alarm("Kixo's server takes events again.")

    def _conclude(self, piece: Piece, outcome: Outcome) -> None:
        match outcome:
            case Again():
                self._repeat(outcome)
                return
            case Held(code, message):
                self._hold(code, message)
                return
            case TooLarge() if len(piece) > 1:
                self._split(piece, outcome)
            case TooLarge(code, message):
                self._reject(piece, [Rejection(0, None, code, message)])
                self._settle(piece)
            case Refused(code, message, rejections):
                known = {rejection.index for rejection in rejections}
                others = [Rejection(at, None, code, message) for at in range(len(piece)) if at not in known]
                self._reject(piece, [*rejections, *others])
                self._settle(piece)
            case Delivered(rejected, rejections):
                self._report.count_delivered(max(0, len(piece) - rejected))
                named = self._reject(piece, rejections)
                self._count_unnamed(min(rejected, len(piece)) - named)
                self._settle(piece)
        self._attempts = 0
        self._resume_at_s = 0.0

    def _repeat(self, outcome: Again) -> None:
        if outcome.at_once:
            return
        self._attempts += 1
        ordered_s = min(outcome.retry_after_s or 0.0, self._options.retry_after_s_max)
        wait_s = backoff_s(self._attempts, self._options.retry_s_max, self._random())
        self._pause(max(ordered_s, wait_s), by_order=ordered_s > 0)
        self._report.warn("again", f"Events could not be sent and will be again: {outcome.reason}")

    def _hold(self, code: str, message: str) -> None:
        self.held = True
        self._pause(self._options.refused_pause_s, by_order=True)
        self._report.alarm(
            f"Kixo's server refuses the client ({code}): {message} Events are kept as far as there is room, "
            f"and the server is asked again every {self._options.refused_pause_s:g} seconds."
        )

    def _pause(self, wait_s: float, *, by_order: bool) -> None:
        self._resume_at_s = self._monotonic_s() + wait_s
        self._waits_by_order = by_order

    def _split(self, piece: Piece, outcome: TooLarge) -> None:
        """Replaces the piece by smaller ones, and remembers not to make such large ones again."""
        if outcome.events_max is not None and 0 < outcome.events_max < len(piece):
            size = outcome.events_max
        else:
            size = (len(piece) + 1) // 2
        if outcome.events_max is None:
            self._bytes_max = max(1, min(self._bytes_max, sum(map(len, piece)) // 2))
        else:
            self._events_max = size
        self._pieces[:1] = [piece[start : start + size] for start in range(0, len(piece), size)]

    def _reject(self, piece: Piece, rejections: Sequence[Rejection]) -> int:
        """Tells the app, of each event once; returns how many that were."""
        named = {rejection.index: rejection for rejection in rejections if 0 <= rejection.index < len(piece)}
        for index, rejection in named.items():
            self._report.reject(decode_event(piece[index]), rejection)
        return len(named)

    def _count_unnamed(self, count: int) -> None:
        if count > 0:
            self._report.count_rejected(count, "the answer names the first 100 only. Look into the table `rejected`.")

    def _settle(self, piece: Piece) -> None:
        self.settled += len(piece)
        self._pieces.pop(0)
        if not self._pieces:
            self._store.settle(self._load)
            self._load = Load(())
