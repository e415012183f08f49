"""The one thread in the background, and how others talk to it.

Messages travel through a `SimpleQueue`, whose `put` may interrupt anything, signal handlers and finalizers included.
The thread is a daemon: a program never waits for it, but for what `close` waits. It starts with the first event, so a
program that forks its workers later starts one in each of them. Where threads cannot start, `flush` does the work in
the thread that calls it.
"""

import contextlib
import threading
import time
from queue import Empty, SimpleQueue
from typing import NamedTuple

from kixo.client.delivery import Delivery
from kixo.client.report import Report
from kixo.client.store import Store

DEFECT_PAUSE_S = 1.0


class Flush(NamedTuple):
    """Somebody waits until all that entered before has left; `over` is released then, `done` says whether it had."""

    over: threading.Lock
    done: list[bool]


class Goal(NamedTuple):
    """A flush, and how many events have to have left for it."""

    flush: Flush
    left: int


class Worker:
    """The thread, from the first event to `stop`."""

    def __init__(self, messages: "SimpleQueue[Flush | None]", delivery: Delivery, store: Store, report: Report) -> None:
        self._messages = messages
        self._delivery = delivery
        self._store = store
        self._report = report
        self._goals: list[Goal] = []
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self.started = False

    def start(self) -> None:
        """Starts the thread, if it can be, and if nobody did before."""
        with self._lock:
            if self.started:
                return
            self.started = True
            self._thread = threading.Thread(target=self._run, name="kixo-client", daemon=True)
            try:
                self._thread.start()
            except RuntimeError as error:
                self._thread = None
                # At the end of a program no thread can start, and the `close` that follows sends what there is.
                if threading.main_thread().is_alive():
                    self._report.warn("thread", f"No thread ({error}): only `flush` and `close` send events.")

    def wake(self) -> None:
        """Tells the thread to look around."""
        self._messages.put(None)

    def flush(self, timeout_s: float) -> bool:
        """Waits until all that entered before has left; False where that took too long or cannot be."""
        request = Flush(threading.Lock(), [])
        request.over.acquire()
        self._messages.put(request)
        self.start()
        if self._thread is not None and self._thread.is_alive():
            request.over.acquire(timeout=timeout_s)
        else:
            self._work(time.monotonic() + timeout_s)
        return request.done == [True]

    def stop(self, timeout_s: float) -> bool:
        """Ends the thread; False where it is still busy with an attempt."""
        self._stopping = True
        self.wake()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)
            return not thread.is_alive()
        return True

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._work(None)
            except Exception:  # noqa: BLE001 - the edge of the thread: it must not end while there are events
                self._report.defect("A defect of the Kixo client; it goes on.")
                threading.Event().wait(DEFECT_PAUSE_S)

    def _work(self, until_s: float | None) -> None:
        """Steps and waits until stopped or, with `until_s`, until that time or until every flush is over."""
        self._store.open()
        while not self._stopping:
            self._receive()
            wait_s = self._delivery.step(urgent=bool(self._goals))
            self._report.tell_dropped(self._store.dropped)
            self._release()
            if until_s is not None:
                left_s = until_s - time.monotonic()
                if left_s <= 0 or not self._goals:
                    return
                wait_s = left_s if wait_s is None else min(wait_s, left_s)
            if wait_s != 0:
                self._wait(wait_s)

    def _wait(self, wait_s: float | None) -> None:
        with contextlib.suppress(Empty):
            self._accept(self._messages.get(timeout=wait_s))

    def _receive(self) -> None:
        """Takes what messages there are."""
        while not self._messages.empty():
            self._wait(0)

    def _accept(self, message: Flush | None) -> None:
        if message is not None:
            self._goals.append(Goal(message, self._store.entered))
            self._delivery.hurry()

    def _release(self) -> None:
        """Lets those go whose events have left, and those whose events cannot leave."""
        waiting: list[Goal] = []
        for goal in self._goals:
            done = self._delivery.left >= goal.left
            if done or self._delivery.held:
                goal.flush.done.append(done)
                goal.flush.over.release()
            else:
                waiting.append(goal)
        self._goals = waiting
