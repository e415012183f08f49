"""Loaders as a Kafka consumer group: Kafka divides the topic's partitions among those that live.

The group is asked for one thing only, which partitions are ours. Frames come from the log's reader, from the positions
that the tables hold. What is committed to the group is for tools that show how far behind loaders are.

The group uses the protocol in which members say themselves after how long they count as gone: in the newer one
(KIP-848) only the brokers say so, 45 seconds if nobody has changed it, for which the events of a loader that was killed
would wait. Partitions change hands one by one (cooperative-sticky): those that stay are loaded all the while.
"""

import time
from collections.abc import Callable, Collection, Mapping
from itertools import count
from typing import Any

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from kixo.log import Frame
from kixo.log.kafka.cluster import asking, client_settings, tell_nobody, unreachable
from kixo.log.kafka.reader import KafkaLogReader
from kixo.places import KafkaPlace
from kixo.settings import Settings

# A loader that is not heard of for so long has lost its partitions.
SESSION_S = 10.0
# One that does not look at its group for so long, though it lives, hangs; to bring a shard up looks now and then.
LOOK_S_MAX = 300.0
# Positions are told to the group so seldom.
TELL_S = 1.0
# So seldom it is asked whether the topic is still the same.
CHECK_S = 10.0
# A load waits at most so long for what is known to be there.
GATHER_S = 0.25

LetGo = Callable[[Collection[int]], None]


class KafkaGroup:
    """One loader's place in the group `group_id`; see `LoaderGroup`. `reader` gives up what somebody else has now."""

    def __init__(self, place: KafkaPlace, settings: Settings, reader: KafkaLogReader, group_id: str) -> None:
        self.division: int | None = settings.log_partitions
        self._place = place
        self._reader = reader
        self._assigned: dict[int, int] = {}
        self._assignments = count(1)
        self._let_go: LetGo = _keep
        self._done: dict[int, int] = {}
        self._told_s = self._checked_s = time.monotonic()
        self._consumer = Consumer(
            {
                **client_settings(place, settings, tell_nobody),
                "group.id": group_id,
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": round(SESSION_S * 1000),
                "heartbeat.interval.ms": round(SESSION_S * 1000 / 5),
                "max.poll.interval.ms": round(LOOK_S_MAX * 1000),
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
            }
        )
        self._consumer.subscribe([place.topic], on_assign=self._gained, on_revoke=self._revoked, on_lost=self._revoked)

    @property
    def leads(self) -> bool:
        """Whoever has the first partition keeps the tables in shape."""
        return 0 in self._assigned

    @property
    def partitions(self) -> list[int]:
        """The partitions that are this loader's."""
        return sorted(self._assigned)

    def shards(self, let_go: LetGo) -> Mapping[int, int]:
        """Hears of changes; see `LoaderGroup`. Raises `LogUnreachable` and `LogReplaced`."""
        self._check_topic()
        self._let_go = let_go
        try:
            self._look()
        finally:
            self._let_go = _keep
        self._tell_positions()
        return self._assigned

    def keep_place(self) -> None:
        """Looks at the group; what it takes away is let go of at the next look at the shards."""
        self._look()

    def awaits(self, _partition: int, _position: int, _end: int) -> bool:
        """The reader waits by itself for what is there."""
        return False

    def done(self, partition: int, position: int) -> None:
        """Says how far a partition was loaded."""
        self._done[partition] = position

    def close(self) -> None:
        """Leaves the group, so that others get the partitions at once."""
        with asking(self._place):
            self._consumer.close()

    def _check_topic(self) -> None:
        """A topic that was made anew goes on from offset 0, and nothing that is fetched says so."""
        if time.monotonic() - self._checked_s >= CHECK_S:
            self._checked_s = time.monotonic()
            self._reader.check_topic()

    def _look(self) -> None:
        with asking(self._place):
            while (message := self._consumer.poll(0.0)) is not None:
                error = message.error()
                if error is not None and error.fatal():
                    raise unreachable(self._place, error)

    def _tell_positions(self) -> None:
        if not self._done or time.monotonic() - self._told_s < TELL_S:
            return
        offsets = [TopicPartition(self._place.topic, number, end) for number, end in self._done.items()]
        self._done, self._told_s = {}, time.monotonic()
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            # Only tools miss it. The next time will do.
            if error.args[0].code() not in {KafkaError._STATE, KafkaError._NO_OFFSET}:
                raise unreachable(self._place, error) from error

    def _gained(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        for each in partitions:
            self._assigned[each.partition] = next(self._assignments)
            each.offset = OFFSET_END
        # Only their reader fetches.
        consumer.incremental_assign(partitions)
        consumer.pause(partitions)

    def _revoked(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        numbers = [each.partition for each in partitions]
        self._let_go(numbers)
        for number in numbers:
            self._assigned.pop(number, None)
            self._done.pop(number, None)
            self._reader.forget(number)
        consumer.incremental_unassign(partitions)


class GroupLog:
    """The log as far as it is this loader's: the `LogReader` of a member of a group."""

    def __init__(self, reader: KafkaLogReader, group: KafkaGroup) -> None:
        self._reader = reader
        self._group = group

    @property
    def log_id(self) -> str:
        """The topic's own id."""
        return self._reader.log_id

    def partitions(self) -> list[int]:
        """The partitions that are this loader's."""
        return self._group.partitions

    def end_position(self, partition: int) -> int:
        """The position after the newest record that is replicated."""
        return self._reader.end_position(partition)

    def read(self, partition: int, position: int, bytes_max: int) -> list[Frame]:
        """Frames from `position` on, about `bytes_max`, or what of them comes soon; at least one if there is any."""
        ends_s = time.monotonic() + GATHER_S
        frames: list[Frame] = []
        while bytes_max > 0 and (read := self._reader.read(partition, position, bytes_max)):
            frames += read
            position = read[-1].offset + 1
            bytes_max -= sum([len(frame.payload) for frame in read])
            # One that stays small for long is not waited for: a full load is, for it costs less.
            if time.monotonic() > ends_s or not self._reader.backlog_bytes(partition, position):
                break
        return frames

    def backlog_bytes(self, partition: int, position: int) -> int:
        """About how many bytes lie at or after `position`."""
        return self._reader.backlog_bytes(partition, position)

    def release(self, partition: int, position: int) -> int:
        """Tells the group; the topic keeps what it has."""
        self._group.done(partition, position)
        return 0

    def close(self) -> None:
        """Lets go of the cluster."""
        self._reader.close()


def _keep(_shards: Collection[int]) -> None:
    """What was taken away in the middle of something stays until that has ended."""
