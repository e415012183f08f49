"""Group commit: many requests share one sync of the log.

Requests hand their frames over; the frames of one turn of the event loop become one group. A small group is committed
by the event loop itself: its sync takes about as long as two thread switches, all who wait for the loop wait for the
disk anyway, and nobody fights for the interpreter's lock. A large one goes to a thread, so that the next requests
are decoded while the disk works; what comes meanwhile is the next group.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from kixo.errors import Unavailable
from kixo.log import Buffers, Durability, LogWriter, Position, segment

# Measured with `kixo bench` on 2 cores: below this an inline commit gives more requests a second, above it less.
INLINE_BYTES_MAX = 128 * 1024
GROUP_BYTES_MAX = 16 * 1024 * 1024

Observe = Callable[[int, Unavailable | None], None]
"""Told of each group: its bytes, and why it failed if it did."""


class _Waiting(NamedTuple):
    frame: Buffers
    size: int
    offset: int
    done: "asyncio.Future[Position]"


class GroupCommit:
    """The queue before one partition's writer: the local form of `kixo.log.Appender`."""

    durability: Durability = "fsync"

    def __init__(self, writer: LogWriter, *, queue_bytes_max: int, observe: Observe) -> None:
        self._partition = writer.partition
        self._writer = writer
        self._queue_bytes_max = queue_bytes_max
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "group-commit")
        self._waiting: list[_Waiting] = []
        self._waiting_bytes = 0
        self._committing_bytes = 0
        self._scheduled = False

    def submit(
        self, _project_id: str, received_at_us: int, kind: int, accepted: int, rejected: int, payload: Buffers
    ) -> "asyncio.Future[Position]":
        """Where the frame stands once it is durable, or `Unavailable`; raises that at once where the queue is full."""
        queued = self._waiting_bytes + self._committing_bytes
        if queued > self._queue_bytes_max:
            message = f"Nothing was stored: {queued} bytes already wait for the disk. Repeat later."
            raise Unavailable(message, retry_after_s=1)
        offset = self._writer.next_offset()
        frame = segment.pack_frame(offset, received_at_us, kind, accepted, rejected, payload)
        size = sum(map(len, frame))
        done: asyncio.Future[Position] = self._loop.create_future()
        self._waiting.append(_Waiting(frame, size, offset, done))
        self._waiting_bytes += size
        self._schedule()
        return done

    def reason(self) -> str | None:
        """Why nothing can be stored now; see `LogWriter`."""
        return self._writer.reason()

    def close(self) -> None:
        """Commits what waits and closes the writer."""
        self._thread.shutdown()
        while self._waiting:
            group, size = self._take()
            self._tell(group, self._commit(group, size))
        self._writer.close()

    def _schedule(self) -> None:
        """Commits after the requests that are ready now, unless a commit is under way: its end looks again."""
        if self._waiting and not self._scheduled and not self._committing_bytes:
            self._scheduled = True
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        self._scheduled = False
        if not self._waiting:
            return
        group, size = self._take()
        if size <= INLINE_BYTES_MAX:
            self._tell(group, self._commit(group, size))
            return
        self._committing_bytes = size
        commit = self._loop.run_in_executor(self._thread, self._commit, group, size)
        commit.add_done_callback(lambda done: self._finish(group, done.result()))

    def _finish(self, group: list[_Waiting], failure: Unavailable | None) -> None:
        self._committing_bytes = 0
        self._tell(group, failure)
        self._schedule()

    def _take(self) -> tuple[list[_Waiting], int]:
        """The next group, up to a bound, and its size in bytes."""
        size, count = 0, 0
        for waiting in self._waiting:
            size, count = size + waiting.size, count + 1
            if size >= GROUP_BYTES_MAX:
                break
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        self._waiting_bytes -= size
        return group, size

    def _commit(self, group: list[_Waiting], size: int) -> Unavailable | None:
        """The commit of a group, in whichever thread; it never raises, because somebody waits for each frame."""
        try:
            self._writer.commit([buffer for waiting in group for buffer in waiting.frame])
        except Unavailable as error:
            failure: Unavailable | None = error
        except Exception as error:  # noqa: BLE001 - a defect here must not leave its clients without an answer
            failure = Unavailable(f"Nothing is known to be stored: {error!r}. Repeat later.", retry_after_s=1)
        else:
            failure = None
        self._observe(size, failure)
        return failure

    def _tell(self, group: list[_Waiting], failure: Unavailable | None) -> None:
        for waiting in group:
            if waiting.done.done():
                continue
            if failure is None:
                waiting.done.set_result(Position(self._partition, waiting.offset))
            else:
                waiting.done.set_exception(failure)
