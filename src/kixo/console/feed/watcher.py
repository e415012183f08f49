"""One who watches: a bounded queue between the thread that follows the log and the event loop that sends.

A browser that does not keep up costs no memory: what finds the queue full is dropped and counted, and the watcher is
told how much it missed.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import NamedTuple

from msgspec import json

from kixo.console.feed.filter import Search

QUEUED_ROWS_MAX = 500
QUEUED_MESSAGES_MAX = 100

_encode = json.Encoder().encode


class Message(NamedTuple):
    """One server-sent event: its name, its JSON, how many rows it brings, and the id to resume after, if it has one."""

    event: str
    data: bytes
    rows: int = 0
    id: str | None = None

    def encode(self) -> bytes:
        """As it goes over the wire."""
        head = f"id: {self.id}\nevent: {self.event}\n" if self.id is not None else f"event: {self.event}\n"
        return head.encode() + b"data: " + self.data + b"\n\n"


def message(event: str, value: object, *, rows: int = 0, id: str | None = None) -> Message:
    """A message with a value as JSON, which has no line break in it."""
    return Message(event, _encode(value), rows, id)


class Watcher:
    """A watcher with what it wants to see and, by partition, the position it has seen already, if it was here before.

    Made in the event loop, which alone may call anything but `tell` and `end`.
    """

    def __init__(self, search: Search, since: dict[int, int] | None) -> None:
        self.search = search
        self.since = since
        self._loop = asyncio.get_running_loop()
        self._filled = asyncio.Event()
        self._queue: deque[Message] = deque()
        self._rows = 0
        self._dropped = 0
        self._ended = False

    def tell(self, told: Message) -> None:
        """Queues a message, from any thread."""
        # The loop may be gone already when a server stops.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._put, told)

    def end(self) -> None:
        """Lets `messages` end after what is queued, from any thread."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._end)

    async def messages(self, beat_s: float) -> AsyncIterator[Message | None]:
        """Each message, and None whenever there was none for `beat_s` seconds, until the watcher is ended."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._filled.wait(), beat_s)
            if not self._queue:
                if self._ended:
                    return
                yield None
            while self._queue:
                yield self._take()
            if not self._ended:
                self._filled.clear()

    def _put(self, told: Message) -> None:
        if self._rows + told.rows > QUEUED_ROWS_MAX or len(self._queue) >= QUEUED_MESSAGES_MAX:
            self._dropped += told.rows
            return
        self._queue.append(told)
        self._rows += told.rows
        self._filled.set()

    def _end(self) -> None:
        self._ended = True
        self._filled.set()

    def _take(self) -> Message:
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            return message("dropped", {"rows": dropped})
        told = self._queue.popleft()
        self._rows -= told.rows
        return told
