"""What became of events that did not get through: counted, told to the app, and logged at a bounded rate."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVarTuple

from msgspec import Struct

from kixo.client.tracked import TrackedEvent, shown
from kixo.event import Rejection

OnRejected = Callable[[TrackedEvent, Rejection], object]
OnDropped = Callable[[int], object]

if TYPE_CHECKING:
    import logging

SILENCE_S = 60.0

Arguments = TypeVarTuple("Arguments")


def log() -> "logging.Logger":
    """The client's logger. Most programs have `logging` loaded; those that have not are not made to wait for it."""
    import logging

    return logging.getLogger("kixo.client")


class Stats(Struct, frozen=True, kw_only=True):
    """What became of the events of this process so far. Events of the spool that an earlier one left count, too."""

    queued: int
    """Waiting in memory, in the spool, or under way."""
    delivered: int
    """Accepted by the server."""
    rejected: int
    """Refused here or by the server, each with a reason."""
    dropped: int
    """Lost because queue or spool were full, or because the client was closed before they were sent."""


class Report:
    """Counts, and speaks. Any thread may report; callbacks run in the thread that does."""

    def __init__(
        self,
        on_rejected: OnRejected | None,
        on_dropped: OnDropped | None,
        monotonic_s: Callable[[], float],
    ) -> None:
        self._on_rejected = on_rejected
        self._on_dropped = on_dropped
        self._monotonic_s = monotonic_s
        self._lock = threading.RLock()
        self._last_s: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}
        self._dropped_told = 0
        self.delivered = 0
        self.rejected = 0

    def count_delivered(self, events: int) -> None:
        """So many more events were accepted."""
        with self._lock:
            self.delivered += events

    def count_rejected(self, events: int, message: str) -> None:
        """So many more events were rejected, and nobody knows which."""
        with self._lock:
            self.rejected += events
        self.warn("rejected", f"{events} events were rejected: {message}")

    def reject(self, event: TrackedEvent, rejection: Rejection) -> None:
        """An event was rejected."""
        with self._lock:
            self.rejected += 1
        if self._on_rejected is None:
            self.warn("rejected", f"An event {shown(event.event_name)} was rejected: {rejection.message}")
            return
        self._call(self._on_rejected, event, rejection)

    def tell_dropped(self, dropped: int) -> None:
        """Events were dropped, `dropped` of them in all."""
        with self._lock:
            new = dropped - self._dropped_told
            self._dropped_told = dropped
        if new <= 0:
            return
        if self._on_dropped is not None:
            self._call(self._on_dropped, new)
            return
        self.warn(
            "dropped", f"{new} events were dropped, {dropped} in all: there was no room or no time left for them."
        )

    def warn(self, topic: str, sentence: str) -> None:
        """Logs a warning, unless the last one of this topic is less than a minute old."""
        now_s = self._monotonic_s()
        with self._lock:
            last_s = self._last_s.get(topic)
            if last_s is not None and now_s - last_s < SILENCE_S:
                self._unsaid[topic] = self._unsaid.get(topic, 0) + 1
                return
            self._last_s[topic] = now_s
            unsaid = self._unsaid.pop(topic, 0)
        log().warning("%s%s", sentence, f" ({unsaid} more warnings like this were left out.)" if unsaid else "")

    def alarm(self, sentence: str) -> None:
        """Logs an error that somebody has to mend."""
        log().error("%s", sentence)

    def defect(self, sentence: str) -> None:
        """Logs an exception nobody expected, inside of its `except`."""
        log().exception("%s", sentence)

    def _call(self, callback: Callable[[*Arguments], object], *arguments: *Arguments) -> None:
        try:
            callback(*arguments)
        except (Exception, SystemExit):  # noqa: BLE001 - the edge to the app's code: its error must not end the worker
            self.defect("A callback of the Kixo client raised an error.")
