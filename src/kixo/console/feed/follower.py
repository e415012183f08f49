"""The thread that tells all who watch, a few times a second, what there is to tell.

It begins with the first watcher and ends with the last: where nobody watches, nothing is read.
"""

import os
import threading
import time
from collections.abc import Callable
from typing import Any

from kixo.console.feed.backlog import Sources
from kixo.console.feed.following import Following
from kixo.console.feed.watch import Watch
from kixo.console.feed.watcher import Watcher, message
from kixo.errors import KixoError

POLL_S = 0.1
FAULT_WAIT_S = 1.0
FOLLOWER_NICE = 10

# What reading the log can fail with and be tried again; anything else is a defect.
FAILURES = (OSError, KixoError)


class Follower:
    """Follows what arrives for its watchers. `timer_s` gives seconds that only rise.

    `watch` and `leave` belong to the event loop's thread, `close` to any.
    """

    def __init__(
        self, sources: Sources, watchers_max: int, report: Any, timer_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._sources = sources
        self._watchers_max = watchers_max
        self._report = report
        self._timer_s = timer_s
        self._lock = threading.Lock()
        self._watches: dict[Watcher, Watch] = {}
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
            self._watches[watcher] = Watch(watcher, self._timer_s())
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
        # What answers clients goes first.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), FOLLOWER_NICE)
        following: Following | None = None
        try:
            while watches := self._present():
                try:
                    following = following or Following(self._sources, self._timer_s)
                    following.advance(watches)
                except FAILURES as error:
                    _close(following)
                    following = None
                    self._tell_fault(watches, error)
                self._closed.wait(POLL_S if following is not None else FAULT_WAIT_S)
        finally:
            _close(following)

    def _tell_fault(self, watches: list[Watch], error: Exception) -> None:
        self._report.warning("live_feed_failed", reason=str(error))
        for watch in watches:
            watch.watcher.tell(message("fault", {"message": f"The log cannot be read: {error}."}))

    def _present(self) -> list[Watch]:
        """Who watches now; where nobody does, the thread is told to end and the next watcher starts another."""
        with self._lock:
            if self._closed.is_set() or not self._watches:
                self._thread = None
                return []
            return list(self._watches.values())


def _close(following: Following | None) -> None:
    if following is not None:
        following.close()
