"""The queue between the app's threads and the worker: bounded in events and in bytes."""

import sys
import threading
from collections import deque
from collections.abc import Callable

from kixo.client.options import Options

Taken = list[bytes]


class Outbox:
    """Events in order. Any thread may put; the worker takes.

    The lock is one that its own thread may take again, because a signal handler or a finalizer may track while the
    same thread is inside `put`. `wake` is called when the first event arrives, and when a batch is full.
    """

    def __init__(self, options: Options, wake: Callable[[], None]) -> None:
        self._events_max = options.queue_events_max
        self._bytes_max = options.queue_bytes_max
        self._batch_events_max = options.batch_events_max
        self._batch_bytes_max = options.batch_bytes_max
        self._drop_oldest = options.drop == "oldest"
        self._wake = wake
        self._lock = threading.RLock()
        self._events: deque[bytes] = deque()
        self.bytes = 0
        self.entered = 0
        self.refused = 0
        self.displaced = 0

    def __len__(self) -> int:
        return len(self._events)

    @property
    def dropped(self) -> int:
        """Events that found no room, or had to make room."""
        return self.refused + self.displaced

    def put(self, event: bytes) -> None:
        """Queues an event, or drops one: the oldest or this one."""
        size = len(event)
        with self._lock:
            before = self.bytes
            if len(self._events) >= self._events_max or before + size > self._bytes_max:
                if not self._make_room(size):
                    self.refused += 1
                    return
                before = self.bytes
            self._events.append(event)
            self.bytes = after = before + size
            self.entered += 1
            count = len(self._events)
        if count in (1, self._batch_events_max) or before < self._batch_bytes_max <= after:
            self._wake()

    def _make_room(self, size: int) -> bool:
        if not self._drop_oldest or size > self._bytes_max:
            return False
        while self._events and (len(self._events) >= self._events_max or self.bytes + size > self._bytes_max):
            self.bytes -= len(self._events.popleft())
            self.displaced += 1
        return True

    def take(self, events_max: int, bytes_max: int) -> Taken:
        """The oldest events, at most so many; one that is larger than `bytes_max` comes alone."""
        taken: Taken = []
        size = 0
        with self._lock:
            while self._events and len(taken) < events_max:
                size += len(self._events[0])
                if taken and size > bytes_max:
                    break
                taken.append(self._events.popleft())
                self.bytes -= len(taken[-1])
            if not self._events:
                self.bytes = 0  # What an interruption may have miscounted ends here.
        return taken

    def take_all(self) -> Taken:
        """Everything."""
        return self.take(len(self._events) + 1, sys.maxsize)

    def close(self) -> None:
        """From now on there is no room."""
        with self._lock:
            self._events_max = 0
            self._drop_oldest = False
