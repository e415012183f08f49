"""Group commit: many requests share one sync of the log.

Requests hand their frames over; the frames of one turn of the event loop become one group. A small group is committed
by the event loop itself: its sync takes about as long as two thread switches, all who wait for the loop wait for the
disk anyway, and nobody fights for the interpreter's lock. A large one goes to a thread, so that the next requests
are decoded while the disk works; what comes meanwhile is the next group.

All of a group wait for its sync, which takes the longer the more is written. So where much waits, a project has only a
share of a group: what it has beyond waits for the next one, and others do not wait for it. Frames get their offsets
when their group is made, so offsets rise in the log whoever waited.
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
# Of one project in a group, beyond its first frame. At some 3 ms for a MiB, others wait about one of these.
PROJECT_BYTES_MAX = 256 * 1024

Observe = Callable[[int, Unavailable | None], None]
"""Told of each group: its bytes, and why it failed if it did."""


class _Waiting(NamedTuple):
    project_id: str
    received_at_us: int
    kind: int
    accepted: int
    rejected: int
    payload: Buffers
    size: int
    done: "asyncio.Future[Position]"


class _Group(NamedTuple):
    """What is committed at once: who waits, the offset of each one's frame, and all frames as they are written."""

    waiting: list[_Waiting]
    offsets: list[int]
    frames: list[bytes | memoryview]
    size: int


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
        self, project_id: str, received_at_us: int, kind: int, accepted: int, rejected: int, payload: Buffers
    ) -> "asyncio.Future[Position]":
        """Where the frame stands once it is durable, or `Unavailable`; raises that at once where the queue is full."""
        queued = self._waiting_bytes + self._committing_bytes
        if queued > self._queue_bytes_max:
            message = f"Nothing was stored: {queued} bytes already wait for the disk. Repeat later."
            raise Unavailable(message, retry_after_s=1)
        size = segment.FRAME_HEAD_BYTES + sum(map(len, payload))
        done: asyncio.Future[Position] = self._loop.create_future()
        self._waiting.append(_Waiting(project_id, received_at_us, kind, accepted, rejected, payload, size, done))
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
            group = self._take()
            self._tell(group, self._commit(group))
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
        group = self._take()
        if group.size <= INLINE_BYTES_MAX:
            self._tell(group, self._commit(group))
            return
        self._committing_bytes = group.size
        commit = self._loop.run_in_executor(self._thread, self._commit, group)
        commit.add_done_callback(lambda done: self._finish(group, done.result()))

    def _finish(self, group: _Group, failure: Unavailable | None) -> None:
        self._committing_bytes = 0
        self._tell(group, failure)
        self._schedule()

    def _take(self) -> _Group:
        """The next group: all that waits where that is little, else of each project a share."""
        if self._waiting_bytes <= PROJECT_BYTES_MAX:
            taken, self._waiting = self._waiting, []
        else:
            taken, self._waiting = _shares(self._waiting)
        offsets: list[int] = []
        frames: list[bytes | memoryview] = []
        size = 0
        for waiting in taken:
            offset = self._writer.next_offset()
            offsets.append(offset)
            frames += segment.pack_frame(offset, *waiting[1:6])
            size += waiting.size
        self._waiting_bytes -= size
        return _Group(taken, offsets, frames, size)

    def _commit(self, group: _Group) -> Unavailable | None:
        """The commit of a group, in whichever thread; it never raises, because somebody waits for each frame."""
        try:
            self._writer.commit(group.frames)
        except Unavailable as error:
            failure: Unavailable | None = error
        except Exception as error:  # noqa: BLE001 - a defect here must not leave its clients without an answer
            failure = Unavailable(f"Nothing is known to be stored: {error!r}. Repeat later.", retry_after_s=1)
        else:
            failure = None
        self._observe(group.size, failure)
        return failure

    def _tell(self, group: _Group, failure: Unavailable | None) -> None:
        for waiting, offset in zip(group.waiting, group.offsets, strict=True):
            if waiting.done.done():
                continue
            if failure is None:
                waiting.done.set_result(Position(self._partition, offset))
            else:
                waiting.done.set_exception(failure)


def _shares(queue: list[_Waiting]) -> tuple[list[_Waiting], list[_Waiting]]:
    """The next group and what waits on, both in the order of the queue."""
    group: list[_Waiting] = []
    left: list[_Waiting] = []
    size, sizes = 0, dict[str, int]()
    for waiting in queue:
        taken = sizes.get(waiting.project_id, 0)
        if size >= GROUP_BYTES_MAX or (taken and taken + waiting.size > PROJECT_BYTES_MAX):
            left.append(waiting)
            continue
        group.append(waiting)
        size += waiting.size
        sizes[waiting.project_id] = taken + waiting.size
    return group, left
