"""Looking at the log in Kafka while it is written: from its end on, without a group and without a say in anything.

The newest records of a partition are its last few, since nobody can tell where its last megabytes begin. Where more has
come than a read may take, what is between is passed over and its bytes are estimated.
"""

from kixo.log import Frame
from kixo.log.kafka.reader import KafkaLogReader
from kixo.log.kafka.topic import Topic
from kixo.log.preview import Stretch
from kixo.log.segment import FrameHead
from kixo.places import KafkaPlace
from kixo.settings import Settings

NEWEST_RECORDS = 128
FETCHED_KIB_MAX = 8 * 1024


class KafkaLogPreview:
    """The looking end of a topic; see `kixo.log.preview.Preview`. Not safe for several threads.

    Methods raise `LogUnreachable`.
    """

    def __init__(self, place: KafkaPlace, topic: Topic, settings: Settings) -> None:
        self._reader = KafkaLogReader(place, topic, settings, _ignore, fetched_kib_max=FETCHED_KIB_MAX)
        self._positions: dict[int, int] = {}

    def partitions(self) -> list[int]:
        """The numbers of the partitions."""
        return self._reader.partitions()

    def newest(self, partition: int, bytes_max: int) -> list[Stretch]:
        """The last records of a partition; `read` goes on behind them."""
        self._begin()
        end = self._reader.end_position(partition)
        position, frames = max(0, end - NEWEST_RECORDS), list[Frame]()
        while position < end and (found := self._reader.read(partition, position, bytes_max)):
            position = found[-1].offset + 1
            frames = _last([*frames, *found], bytes_max)
        self._positions[partition] = max(position, end)
        return _stretches(partition, frames, 0)

    def read(self, partition: int, bytes_max: int) -> list[Stretch]:
        """What has come since the last read; of more than the bound its end."""
        if partition not in self._positions:
            return self.newest(partition, bytes_max)
        waiting = self._reader.backlog_bytes(partition, self._positions[partition])
        if not waiting:
            return []
        if waiting > 2 * bytes_max:
            found = self.newest(partition, bytes_max)
            skipped = max(0, waiting - sum(len(stretch.data) for stretch in found))
            return [found[0]._replace(skipped_bytes=skipped), *found[1:]] if found else []
        frames = self._reader.read(partition, self._positions[partition], bytes_max)
        if frames:
            self._positions[partition] = frames[-1].offset + 1
        return _stretches(partition, frames, 0)

    def find(self, partition: int, offset: int) -> Frame | None:
        """The frame at an offset, None where it is not there or not any more."""
        if partition not in self.partitions() or offset >= self._reader.end_position(partition):
            return None
        frames = self._reader.read(partition, offset, 1)
        return frames[0] if frames and frames[0].offset == offset else None

    def close(self) -> None:
        """Lets go of the cluster."""
        self._reader.close()

    def _begin(self) -> None:
        """Has all partitions fetched at once the first time, so that nobody waits for one after the other."""
        if self._positions:
            return
        for partition in self.partitions():
            self._positions[partition] = end = self._reader.end_position(partition)
            self._reader.backlog_bytes(partition, max(0, end - NEWEST_RECORDS))


def _last(frames: list[Frame], bytes_max: int) -> list[Frame]:
    """The last frames, of about `bytes_max` together."""
    size = 0
    for count, frame in enumerate(reversed(frames)):
        size += len(frame.payload)
        if size > bytes_max and count:
            return frames[-count:]
    return frames


def _stretches(partition: int, frames: list[Frame], skipped_bytes: int) -> list[Stretch]:
    """The frames as one stretch, their payloads one after the other."""
    if not frames:
        return []
    heads, start = [], 0
    for frame in frames:
        end = start + len(frame.payload)
        heads.append(FrameHead(*frame[:5], start, end))
        start = end
    return [Stretch(partition, b"".join([frame.payload for frame in frames]), heads, skipped_bytes, proved=True)]


def _ignore(_sentence: str, _size: int) -> None:
    """What a preview does not see, nobody misses: the loader tells of it."""
