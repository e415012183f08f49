"""The store with a spool: the worker moves events from memory to disk soon after they are tracked and sends from there.

So what `kill -9` takes with it is what was tracked within the last `spool_interval_s`, or since the attempt under way
began, because the one worker cannot write while it waits for an answer (`timeout_s` at most).

A spool that fails (full disk, damaged file) costs the guarantee and not the events: they are sent from memory, and the
spool is tried again.
"""

import sqlite3
import threading
from collections import deque
from pathlib import Path

from kixo.client.options import Options
from kixo.client.outbox import Outbox
from kixo.client.report import Report
from kixo.client.spool import DAMAGE, Receipt, Spool, kind_of
from kixo.client.store import Load

FAILURE_PAUSE_S = 10.0
FAILURES = (sqlite3.Error, OSError)

Batch = list[bytes]


class SpoolStore:
    """Events in the spool first, then those that could not be spooled, then the outbox. Any thread may call."""

    def __init__(
        self, folder: Path, outbox: Outbox, options: Options, report: Report, avoid: Path | None = None
    ) -> None:
        self._spool = Spool(folder, avoid, report.alarm)
        self._outbox = outbox
        self._options = options
        self._report = report
        self._lock = threading.RLock()
        self._unspooled: deque[Batch] = deque()
        self._due_at_s: float | None = None
        self._resume_at_s = 0.0
        self._found = 0
        self._lost = 0
        self._is_closed = False
        self._was_open = False

    @property
    def path(self) -> Path | None:
        """The file in use."""
        return self._spool.path

    @property
    def entered(self) -> int:
        """All that were put, and what earlier processes left."""
        return self._outbox.entered + self._found

    @property
    def dropped(self) -> int:
        """The outbox's, and what the spool had no room for."""
        return self._outbox.dropped + self._lost

    @property
    def displaced(self) -> int:
        """The outbox's, and what the spool had no room for."""
        return self._outbox.displaced + self._lost

    def open(self) -> None:
        """Opens the spool, if it is not open and can be."""
        with self._lock:
            if self._spool.is_open or self._is_closed:
                return
            known = self._spool.events
            try:
                self._spool.open(self._fits)
            except FAILURES as error:
                self._fail(error)
            self._found += self._spool.events - known

    def waiting(self) -> tuple[int, int]:
        """What is on disk and in memory."""
        with self._lock:
            events = self._spool.events + sum(map(len, self._unspooled)) + len(self._outbox)
            return events, self._spool.bytes + self._outbox.bytes

    def keep(self, now_s: float, *, urgent: bool) -> float | None:
        """Moves what is in memory to disk, once the oldest of it has waited long enough."""
        with self._lock:
            if not (self._outbox or self._unspooled):
                self._due_at_s = None
                return None
            if self._due_at_s is None:
                self._due_at_s = now_s + self._options.spool_interval_s
            due_at_s = max(0.0 if urgent else self._due_at_s, self._resume_at_s)
            if now_s < due_at_s:
                return due_at_s - now_s
            self._due_at_s = None
            if not self._write():
                self._resume_at_s = now_s + FAILURE_PAUSE_S
            return None

    def take(self, events_max: int, bytes_max: int) -> Load:
        """The oldest events."""
        with self._lock:
            if self._spool.events:
                try:
                    self.open()
                    load = Load(*self._spool.take(events_max, bytes_max))
                    self._count_missing()
                    if load.events:
                        return load
                except FAILURES as error:
                    self._spool_failed(error)
            if self._unspooled:
                return Load(self._unspooled.popleft())
            return Load(self._outbox.take(events_max, bytes_max))

    def settle(self, load: Load) -> None:
        """Deletes the events from disk. What cannot be deleted now goes with the next that can."""
        with self._lock:
            if isinstance(load.receipt, Receipt) and self._spool.is_open:
                try:
                    self._spool.forget(load.receipt)
                except FAILURES as error:
                    self._spool_failed(error)

    def close(self, unkept: int) -> None:
        """Writes what is in memory, and lets go of the file. What is on disk is for the next process."""
        with self._lock:
            if self._write() and self._outbox:
                self._write()
            self._is_closed = True
            self._spool.close()
            unspooled = sum(map(len, self._unspooled)) + len(self._outbox.take_all())
            self._unspooled.clear()
            self._lost += unspooled + unkept

    def before_fork(self) -> None:
        """Closes the file, and keeps everybody out until `after_fork`."""
        self._lock.acquire()
        self._was_open = self._spool.is_open
        self._spool.close()

    def after_fork(self) -> None:
        """Opens the file again, before others find it free. Called in the parent alone."""
        try:
            if self._was_open:
                self.open()
        finally:
            self._lock.release()

    def _write(self) -> bool:
        """Moves what there is room for to disk; False where that failed, and all is still in memory."""
        self.open()
        batches = list(self._unspooled) or self._batches()
        self._unspooled.clear()
        try:
            if batches:
                self._spool.add(batches)
            while self._is_over():
                self._lost += self._spool.drop_oldest()
        except FAILURES as error:
            self._unspooled.extend(batches)
            self._spool_failed(error)
            return False
        return True

    def _batches(self) -> list[Batch]:
        """What the outbox holds; where the newest have to go when there is no room, as much as there is room for."""
        options, batches, events, size = self._options, list[Batch](), self._spool.events, self._spool.bytes
        while self._outbox:
            events_max, bytes_max = options.batch_events_max, options.batch_bytes_max
            if options.drop == "newest":
                events_max = min(events_max, options.spool_events_max - events)
                bytes_max = min(bytes_max, options.spool_bytes_max - size)
            if events_max <= 0 or bytes_max <= 0:
                break
            batch = self._outbox.take(events_max, bytes_max)
            batches.append(batch)
            events += len(batch)
            size += sum(map(len, batch)) + len(batch)
        return batches

    def _is_over(self) -> bool:
        return self._options.drop == "oldest" and self._spool.events > 0 and not self._fits(0, 0)

    def _fits(self, events: int, size: int) -> bool:
        options, spool = self._options, self._spool
        return spool.events + events <= options.spool_events_max and spool.bytes + size <= options.spool_bytes_max

    def _fail(self, error: Exception) -> None:
        self._report.warn("spool", f"The spool cannot be used: {error}. Events wait in memory until it can.")

    def _count_missing(self) -> None:
        """Rows that are not what they say must not leave anybody waiting for events that nobody has."""
        missing, self._spool.missing = self._spool.missing, 0
        self._lost += max(0, missing)
        self._found += max(0, -missing)
        if missing > 0:
            self._report.alarm(f"Rows of the spool were damaged: {missing} events are lost.")

    def _spool_failed(self, error: Exception) -> None:
        if not is_damage(error):
            self._fail(error)
            return
        lost = self._spool.set_aside()
        self._lost += lost
        self._report.alarm(f"A file of the spool is damaged ({error}) and was set aside with {lost} events.")


def is_damage(error: Exception) -> bool:
    """Whether trying again cannot help."""
    return isinstance(error, sqlite3.DatabaseError) and kind_of(error) in DAMAGE
