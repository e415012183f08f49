"""What one load takes from the log: from each partition, the frames from its position on.

Normally a load takes an equal share of its bounds from each partition that has something. After a crash between the
commit of the ledger and the commit of the events, the ledger stands at a later position than the events. What lies
between was one load; it is loaded again exactly, no frame more or less, so that what the ledger says stays true.
"""

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


class Intake:
    """Takes loads from the log. Frames that were read and did not fit into one load wait for the next."""

    def __init__(self, log: LogReader, bounds: LoadBounds) -> None:
        self._log = log
        self._bounds = bounds
        self._waiting: dict[int, tuple[int, list[Frame]]] = {}

    def next_spans(self, events: LakeTable, loads: LakeTable) -> tuple[list[Span], bool]:
        """What the next load takes, from partitions that have something; and whether the ledger holds it already."""
        partitions = self._log.partitions()
        begun = [partition for partition in partitions if loads.position(partition) > events.position(partition)]
        if begun:
            self._waiting.clear()
            return [self._repeat(number, events.position(number), loads.position(number)) for number in begun], True
        starts = {number: start for number in partitions if self._waits(number, start := events.position(number))}
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

    def _repeat(self, partition: int, start: int, end: int) -> Span:
        frames: list[Frame] = []
        position = start
        while position < end and (read := self._log.read(partition, position, self._bounds.bytes_max)):
            frames += [frame for frame in read if frame.offset < end]
            position = read[-1].offset + 1
        return Span(partition, start, end, frames, True)


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
