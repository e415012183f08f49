"""Writing replayed events to the log, and recording that they were.

A replay is the only writer of its partition, by the lock that every partition has. It works beside a running server
and without one: what it wrote is loaded as soon as there is a loader.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Self

from kixo.errors import DataFolderError, Unavailable
from kixo.log import REPLAYS, Frame, segment
from kixo.log.folder import Report
from kixo.log.reader import LocalLogReader
from kixo.log.writer import LocalLogWriter, PartitionHeld
from kixo.rejected.judging import Judgement
from kixo.rejected.reading import BYTES_MAX, EVENTS_MAX, ReplayRecord
from kixo.rejected.selection import Place
from kixo.settings import Settings
from kixo.stored import JUDGED, JudgedBatch, JudgedEvent, Origin, decode_judged, encode_judged
from kixo.timestamp import format_us

# The steps after each of which a test may stop a replay.
STEPS = ("written", "recorded")


class Replay:
    """The writing end of replays in the log `folder`; opened and closed by a `with`.

    Raises `DataFolderError` where it cannot be opened. `now_us` tells microseconds since 1970; `report` is told of
    what a crash left; `step` is called at the end of each of `STEPS`.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        record: ReplayRecord,
        now_us: Callable[[], int],
        report: Report,
        step: Callable[[str], None] = lambda _: None,
    ) -> None:
        _check_owner(folder)
        self._folder = folder
        self._record = record
        self._report = report
        self._step = step
        self._recorded = True
        self._writer = _open_writer(folder, settings, now_us, report)
        try:
            self.first_offset = self._writer.next_offset()
            self._catch_up()
        except BaseException:
            self._writer.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the partition."""
        self._writer.close()

    def write(self, judgements: Sequence[Judgement]) -> int:
        """Makes those that pass durable in the log and records them; returns how many.

        They have to be judged while this is open. Raises `DataFolderError` where they cannot be stored; then none of
        them is, and all before them are.
        """
        passed = [each for each in judgements if each.outcome == "replayed" and each.event is not None]
        frames = list(_frames(passed, self._writer.next_offset))
        if not frames:
            return 0
        self._record.check_room(len(passed))
        if not self._recorded:
            self._catch_up()
        self._recorded = False
        try:
            self._writer.commit(frames)
        except Unavailable as error:
            raise DataFolderError(
                error.message.replace("Repeat the request later.", "").strip(),
                "What was replayed before stays so. Mend the disk and repeat: nothing is replayed twice.",
            ) from error
        self._step("written")
        self._record.add([each.row.place for each in passed])
        self._recorded = True
        self._step("recorded")
        return len(passed)

    def _catch_up(self) -> None:
        """Records what is in the log and was not recorded, because whoever wrote it was stopped before.

        Done before anything is written, after which the log may let go of it.
        """
        with closing(LocalLogReader(self._folder, self._report)) as reader:
            position = 0
            while frames := reader.read(REPLAYS, position, BYTES_MAX):
                position = frames[-1].offset + 1
                places = {place for frame in frames for place in replayed_places(frame)}
                if missing := places - self._record.known(places):
                    self._record.add(sorted(missing))
        self._recorded = True


def _check_owner(folder: Path) -> None:
    """A segment of another user's could not be read by the server, which then would load nothing at all."""
    try:
        owner = folder.stat().st_uid
    except OSError as error:
        raise DataFolderError(f"The log {folder} cannot be read: {error.strerror}.", "Correct --data-dir.") from error
    if owner != os.geteuid():
        raise DataFolderError(
            f"The log {folder} belongs to the user with the number {owner}.",
            "Replay as that user, whose server has to read what is written.",
        )


def _open_writer(folder: Path, settings: Settings, now_us: Callable[[], int], report: Report) -> LocalLogWriter:
    try:
        return LocalLogWriter(
            folder,
            REPLAYS,
            segment_bytes=settings.log_segment_bytes,
            free_bytes_min=settings.log_free_bytes_min,
            now_us=now_us,
            report=report,
        )
    except PartitionHeld:
        raise DataFolderError("Another replay is under way.", "Wait until it has ended, then repeat.") from None
    except OSError as error:
        raise DataFolderError(f"The log {folder} cannot be written: {error.strerror}.", "Mend it.") from error


def replayed_places(frame: Frame) -> list[Place]:
    """The places of the rejected events that a frame has brought in; none where it is of no replay."""
    batch = decode_judged(frame.payload) if frame.kind == JUDGED else None
    if batch is None or batch.origin is None:
        return []
    origin = batch.origin
    return [Place(origin.log_id, origin.partition, origin.offset, event.index) for event in batch.events]


def _frames(passed: Sequence[Judgement], next_offset: Callable[[], int]) -> Iterator[bytes | memoryview]:
    """The packed frames of events: those of a request together, in order, in as many frames as their size asks for."""
    for (place, _), of_request in groupby(passed, key=lambda each: (each.row.request, each.row.log_id)):
        for few in _bounded(list(of_request)):
            payload = encode_judged(_batch(few))
            yield from segment.pack_frame(next_offset(), place.received_at_us, JUDGED, len(few), 0, [payload])


def _bounded(passed: list[Judgement]) -> Iterator[list[Judgement]]:
    few: list[Judgement] = []
    size = 0
    for each in passed:
        size += len(each.event.properties) if each.event is not None else 0
        if few and (len(few) == EVENTS_MAX or size > BYTES_MAX):
            yield few
            few, size = [], 0
        few.append(each)
    yield few


def _batch(passed: list[Judgement]) -> JudgedBatch:
    row = passed[0].row
    events: list[JudgedEvent] = [each.event for each in passed if each.event is not None]
    return JudgedBatch(
        row.project_id,
        row.environment,
        row.bundle_id,
        row.platform,
        None if row.sent_at_us is None else format_us(row.sent_at_us),
        events,
        [],
        Origin(row.log_id, row.log_partition, row.log_offset),
    )
