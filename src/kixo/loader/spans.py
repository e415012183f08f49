"""What one load takes from the log: from each partition, the frames from its position on.

Normally a load takes an equal share of its bounds from each partition that has something. After a crash between the
commit of the ledger and the commit of the events, the ledger stands at a later position than the events. What lies
between was one load; it is loaded again exactly, no frame more or less, so that what the ledger says stays true. Where
its frames are still on their way, only its own partitions wait for them.
"""

from collections.abc import Callable, Collection
from typing import NamedTuple

from kixo.lake.table import LakeTable
from kixo.loader.requests import PlacedFrame
from kixo.log import Frame, LogReader


class LoadBounds(NamedTuple):
    """How much a load takes, about."""

    bytes_max: int
    events_max: int


class Span(NamedTuple):
    """The frames of one partition that are part of a load. `end` is the position after it; `more` may wait there."""

    partition: int
    start: int
    end: int
    frames: list[Frame]
    more: bool


Awaits = Callable[[int, int, int], bool]
"""Whether frames of a partition, from a position on and before another, may still come; see `LoaderGroup.awaits`."""


class Intake:
    """Takes loads from the log. Frames that were read and did not fit into one load wait for the next."""

    def __init__(self, log: LogReader, bounds: LoadBounds, awaits: Awaits = lambda *_: False) -> None:
        self._log = log
        self._bounds = bounds
        self._awaits = awaits
        self._waiting: dict[int, tuple[int, list[Frame]]] = {}

    def forget(self, partitions: Collection[int]) -> None:
        """Drops what waits of partitions that are somebody else's now."""
        for partition in partitions:
            self._waiting.pop(partition, None)

    def backlog_bytes(self, events: LakeTable) -> int:
        """How many bytes of frames are not in the table yet."""
        return sum(self._backlog_bytes(number, events.position(number)) for number in self._log.partitions())

    def _backlog_bytes(self, partition: int, start: int) -> int:
        # Asked for where reading has got to: a reader would have to go back for what waits here.
        position, frames = self._waiting.get(partition, (start, []))
        if position != start or not frames:
            return self._log.backlog_bytes(partition, start)
        size = sum([len(frame.payload) for frame in frames])
        return size + self._log.backlog_bytes(partition, frames[-1].offset + 1)

    def next_spans(self, events: LakeTable, loads: LakeTable) -> tuple[list[Span], bool]:
        """What the next load takes, from partitions that have something; and whether the ledger holds it already."""
        partitions = self._log.partitions()
        begun = [partition for partition in partitions if loads.position(partition) > events.position(partition)]
        repeats = [self._repeat(number, events.position(number), loads.position(number)) for number in begun]
        if whole := [span for span in repeats if span is not None]:
            return whole, True
        free = [partition for partition in partitions if partition not in begun]
        starts = {number: start for number in free if self._waits(number, start := events.position(number))}
        spans = [self._take(partition, start, len(starts)) for partition, start in starts.items()]
        return [span for span in spans if span.frames], False

    def _waits(self, partition: int, start: int) -> bool:
        """Whether a partition may have something; one without a writer takes no share from the others."""
        _, frames = self._waiting.get(partition, (start, []))
        return bool(frames) or self._log.backlog_bytes(partition, start) > 0

    def _take(self, partition: int, start: int, sharing: int) -> Span:
        bytes_max = self._bounds.bytes_max // sharing
        position, frames = self._waiting.pop(partition, (start, []))
        if position != start or not frames:
            frames = self._log.read(partition, start, bytes_max)
        kept = _first(frames, max(1, self._bounds.events_max // sharing))
        end = kept[-1].offset + 1 if kept else start
        # The log is read in order at best: what was read too much is not read again.
        self._waiting[partition] = (end, frames[len(kept) :])
        size = sum([len(frame.payload) for frame in kept])
        return Span(partition, start, end, kept, len(kept) < len(frames) or 2 * size > bytes_max)

    def _repeat(self, partition: int, start: int, end: int) -> Span | None:
        """The load that the ledger tells of; None while frames of it are on their way."""
        position, frames = self._waiting.pop(partition, (start, []))
        frames = frames if position == start else []
        place = frames[-1].offset + 1 if frames else start
        while place < end and (read := self._log.read(partition, place, self._bounds.bytes_max)):
            frames = frames + read
            place = read[-1].offset + 1
        if place < end and self._awaits(partition, place, end):
            self._waiting[partition] = (start, frames)
            return None
        kept = [frame for frame in frames if frame.offset < end]
        self._waiting[partition] = (end, frames[len(kept) :])
        return Span(partition, start, end, kept, True)


def placed_frames(spans: list[Span]) -> list[PlacedFrame]:
    """All frames with their partitions, in the order of partition and offset."""
    return [PlacedFrame(span.partition, frame) for span in spans for frame in span.frames]


def _first(frames: list[Frame], events_max: int) -> list[Frame]:
    """The first frames that hold at most `events_max` events; at least one frame."""
    events = 0
    for number, frame in enumerate(frames):
        events += frame.accepted + frame.rejected
        if events > events_max and number:
            return frames[:number]
    return frames
