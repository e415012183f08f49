"""The log: the only hand-over between ingest and the loader.

A log is a few *partitions*. Each has one writer (a worker process, or a replay of rejected events) and holds *frames*,
one per request, in the order in which they were written. An *offset* is the number of a frame in its partition;
offsets rise but may have gaps. A *position* is the offset that is read next: everything before it has been dealt
with. `log_id` names a log for good: a position of one log means nothing in another.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from xxhash import xxh3_64_intdigest

from kixo.errors import DataFolderError

if TYPE_CHECKING:
    from asyncio import Future

REPLAYS = 1_000_000
"""The partition that replays of rejected events write, far from those of the workers, which count from 0."""


class LogReplaced(DataFolderError):
    """Another log has the place of the one that is open: whoever has it open has to begin anew."""


Durability = Literal["fsync", "replicated"]
"""What an acknowledged frame has survived to: the sync of a disk, or the copies of a cluster."""


class Frame(NamedTuple):
    """One request in the log.

    `received_at_us` is in microseconds since 1970, `kind` is `stored.AS_SENT` or `stored.JUDGED`, `accepted` and
    `rejected` count its events, `payload` is the JSON that `kixo.stored` describes.
    """

    offset: int
    received_at_us: int
    kind: int
    accepted: int
    rejected: int
    payload: bytes


class Position(NamedTuple):
    """Where a frame stands: its partition, and its offset there."""

    partition: int
    offset: int

    def __str__(self) -> str:
        """As the header `Kixo-Position` tells it."""
        return f"{self.partition}:{self.offset}"


Buffers = Sequence[bytes | memoryview]
"""Bytes in several pieces, which are written one after the other without being put together first."""


class Appender(Protocol):
    """What ingest puts accepted requests into the log with. Belongs to the thread of one event loop.

    Where frames go to by their project, as in Kafka, `partition_of` says where; a local log has a partition for each
    process that writes.
    """

    @property
    def durability(self) -> Durability:
        """What the position of a frame is a proof of."""
        ...

    def submit(
        self, project_id: str, received_at_us: int, kind: int, accepted: int, rejected: int, payload: Buffers
    ) -> "Future[Position]":
        """Where the frame stands once it is durable, or `Unavailable`; raises that at once where it cannot be taken."""
        ...

    def reason(self) -> str | None:
        """Why nothing can be stored now, in a sentence; None where it can. May block, and be asked in any thread."""
        ...

    def close(self) -> None:
        """Ends what waits, well or with `Unavailable`, and lets go of the log."""
        ...


class LogWriter(Protocol):
    """The writing end of one partition. Only one may be open at a time."""

    @property
    def partition(self) -> int:
        """The number of the partition."""
        ...

    def next_offset(self) -> int:
        """Takes the next offset for a frame."""
        ...

    def commit(self, frames: Buffers) -> None:
        """Makes the bytes of packed frames durable, all of them; raises `Unavailable`, and then none are kept."""
        ...

    def reason(self) -> str | None:
        """Why nothing can be stored now, in a sentence, found out by storing something; None where it can."""
        ...

    def close(self) -> None:
        """Lets go of the partition."""
        ...


class LogReader(Protocol):
    """The reading end of a whole log."""

    @property
    def log_id(self) -> str:
        """The name of this log for good."""
        ...

    def partitions(self) -> list[int]:
        """The numbers of the partitions that exist now, in order."""
        ...

    def end_position(self, partition: int) -> int:
        """The position after the newest frame."""
        ...

    def read(self, partition: int, position: int, bytes_max: int) -> list[Frame]:
        """Durable frames from `position` on, in order, about `bytes_max` of payload (at least one frame if any)."""
        ...

    def backlog_bytes(self, partition: int, position: int) -> int:
        """How many bytes of frames lie at or after `position`."""
        ...

    def release(self, partition: int, position: int) -> int:
        """Says that all before `position` is durable elsewhere; returns how many segments went."""
        ...

    def close(self) -> None:
        """Lets go of what is open for reading."""
        ...


def partition_of(project_id: str, partitions: int) -> int:
    """The partition of a project, where frames are spread by it: XXH3-64 of its id's UTF-8 bytes, modulo `partitions`.

    All of a project's frames are in one, so that copies of an event meet there, and the tables' identities are divided
    alike: this rule must stay as it is.
    """
    return xxh3_64_intdigest(project_id.encode()) % partitions
