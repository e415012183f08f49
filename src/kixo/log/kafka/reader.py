"""Reading the log from Kafka: a consumer without a group, which goes where it is told.

The consumer fetches ahead by itself, up to a bound; what it has fetched of each partition waits here until it is asked
for. A partition is fetched from the first time that somebody asks for it.

Nothing here deletes or commits anything: how long a batch stays is the topic's own matter. Where a position lies before
the oldest record that the topic still has, what is between them is lost, and is told.
"""

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from kixo.log import Frame
from kixo.log.folder import Report
from kixo.log.kafka.cluster import REQUEST_S, LogUnreachable, asking, client_settings, tell_nobody, unreachable
from kixo.log.kafka.record import unpack
from kixo.log.kafka.topic import Topic, TopicWatch
from kixo.places import KafkaPlace
from kixo.settings import MIB, Settings

# What one call of the library gives at most.
MESSAGES_MAX = 1000
# Fetched and not asked for, in bytes, of all partitions together and here of each.
FETCHED_KIB_MAX = 64 * 1024
WAITING_BYTES_MAX = 16 * MIB
# How long a record that is there may take to come.
FETCH_S = 5.0


@dataclass
class _Place:
    """How far a partition was read: `position` of what is asked for next, and frames from there on."""

    position: int
    frames: deque[Frame] = field(default_factory=deque)
    bytes: int = 0
    # The position after what has come from the consumer.
    fetched: int = 0
    paused: bool = False
    bytes_mean: float = 1024.0


class KafkaLogReader:
    """The reading end of a topic; see `kixo.log.LogReader`. Not safe for several threads.

    Methods raise `LogUnreachable`. `lost` is told of frames that were gone before they were read: a sentence, and how
    many. Where there is none, `report` is, and a reader that begins at the start reads what there is.
    """

    def __init__(
        self,
        place: KafkaPlace,
        topic: Topic,
        settings: Settings,
        report: Report,
        lost: Report | None = None,
        *,
        fetched_kib_max: int = FETCHED_KIB_MAX,
    ) -> None:
        self._place = place
        self._topic = topic
        self._report = report
        self._lost = lost
        self._places: dict[int, _Place] = {}
        self._watch = TopicWatch(place, settings, topic.log_id)
        self._consumer = Consumer(
            {
                **client_settings(place, settings, tell_nobody),
                # The library wants a name; nothing is ever committed under it.
                "group.id": "kixo-reader",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 100,
                "fetch.message.max.bytes": 4 * MIB,
                "queued.max.messages.kbytes": fetched_kib_max,
                "queued.min.messages": 10_000,
            }
        )

    @property
    def log_id(self) -> str:
        """The topic's own id, 32 hexadecimal digits."""
        return self._topic.log_id

    def partitions(self) -> list[int]:
        """The numbers of the partitions."""
        return list(range(self._topic.partitions))

    def end_position(self, partition: int) -> int:
        """The position after the newest record that is replicated."""
        return self._bounds(partition)[1]

    def read(self, partition: int, position: int, bytes_max: int) -> list[Frame]:
        """Frames from `position` on, about `bytes_max`; at least one if there is any."""
        place = self._go_to(partition, position)
        self._take_fetched(0.0)
        if not place.frames:
            self._await(partition, place)
        return self._hand_out(partition, place, bytes_max)

    def backlog_bytes(self, partition: int, position: int) -> int:
        """About how many bytes lie at or after `position`: what is here is counted, the rest is estimated."""
        place = self._go_to(partition, position)
        self._take_fetched(0.0)
        with asking(self._place):
            _, end = self._consumer.get_watermark_offsets(self._partition(partition), cached=True)
        return place.bytes + round(max(0, end - place.fetched) * place.bytes_mean)

    def release(self, _partition: int, _position: int) -> int:
        """Deletes nothing: what the topic keeps, and for how long, is its own matter."""
        return 0

    def check_topic(self) -> None:
        """Raises `LogReplaced` where the topic was made anew since it was opened."""
        self._watch.look()

    def forget(self, partition: int) -> None:
        """Fetches no more of a partition, and drops what was fetched."""
        if self._places.pop(partition, None) is not None:
            with asking(self._place):
                self._consumer.incremental_unassign([self._partition(partition)])

    def close(self) -> None:
        """Lets go of the cluster."""
        self._consumer.close()

    def _partition(self, number: int, position: int = -1) -> TopicPartition:
        return TopicPartition(self._place.topic, number, position)

    def _bounds(self, partition: int) -> tuple[int, int]:
        with asking(self._place):
            found = self._consumer.get_watermark_offsets(self._partition(partition), timeout=REQUEST_S)
        if found is None:
            raise LogUnreachable(f"Kafka did not say what is in {self._place.topic}.", "Check that its brokers run.")
        return int(found[0]), int(found[1])

    def _go_to(self, partition: int, position: int) -> _Place:
        """The place of a partition, which is fetched from `position` on."""
        place = self._places.get(partition)
        if place is not None and place.position == position:
            return place
        start, end = self._bounds(partition)
        if position > end:
            self.check_topic()
            raise LogUnreachable(
                f"Partition {partition} of Kafka's topic {self._place.topic} ends at {end}, and was read up to"
                f" {position}: the cluster has lost what it had acknowledged.",
                "Find out what happened to its replicas before anything is written to it.",
            )
        if position < start:
            self._tell_lost(partition, position, start)
        begin = max(position, start)
        with asking(self._place):
            if place is not None:
                self._consumer.incremental_unassign([self._partition(partition)])
            self._consumer.incremental_assign([self._partition(partition, begin)])
        self._places[partition] = place = _Place(position, fetched=begin)
        return place

    def _tell_lost(self, partition: int, position: int, start: int) -> None:
        sentence = (
            f"has let go of offsets {position} to {start - 1} of partition {partition} of the topic"
            f" {self._place.topic} before they were read: its retention is too short"
        )
        if self._lost is not None:
            self._lost(sentence, start - position)
        elif position > 0:
            self._report(sentence, 0)

    def _take_fetched(self, timeout_s: float) -> bool:
        """Takes what the consumer has, and waits for it so long where it has nothing; whether anything came."""
        came = False
        while messages := self._consume(timeout_s if not came else 0.0):
            came = True
            for message in messages:
                self._take(message)
        return came

    def _consume(self, timeout_s: float) -> list[Any]:
        try:
            return self._consumer.consume(MESSAGES_MAX, timeout_s)
        except KafkaException as error:
            raise unreachable(self._place, error) from error

    def _take(self, message: Any) -> None:
        error = message.error()
        if error is not None:
            self._take_error(message, error)
            return
        partition, place = message.partition(), self._places.get(message.partition())
        if place is None or message.offset() < place.fetched:
            return
        place.fetched = message.offset() + 1
        frame = unpack(message)
        if frame is None:
            size = len(message.value() or b"")
            self._report(f"passed over a record of {self._place.topic} that Kixo did not write, {_at(message)}", size)
            return
        place.frames.append(frame)
        place.bytes += len(frame.payload)
        place.bytes_mean += (len(frame.payload) - place.bytes_mean) / 16
        if place.bytes >= WAITING_BYTES_MAX and not place.paused:
            place.paused = True
            self._consumer.pause([self._partition(partition)])

    def _take_error(self, message: Any, error: KafkaError) -> None:
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            # What was to be read next has gone meanwhile: begin anew, and tell of it.
            place = self._places.pop(message.partition(), None)
            if place is not None:
                self._consumer.incremental_unassign([self._partition(message.partition())])
                self._go_to(message.partition(), place.fetched)
        elif not error.retriable() and error.code() not in {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN}:
            raise unreachable(self._place, error)

    def _await(self, partition: int, place: _Place) -> None:
        """Waits until a frame has come that is there, if one is."""
        end, ends_s = self._bounds(partition)[1], time.monotonic() + FETCH_S
        while not place.frames and place.fetched < end:
            if time.monotonic() > ends_s:
                raise LogUnreachable(
                    f"Kafka does not give what is in partition {partition} of {self._place.topic}.",
                    "Check that its brokers run and can be reached.",
                )
            self._take_fetched(0.1)
            place = self._places[partition]

    def _hand_out(self, partition: int, place: _Place, bytes_max: int) -> list[Frame]:
        place = self._places[partition]
        frames: list[Frame] = []
        size = 0
        while place.frames and (not frames or size + len(place.frames[0].payload) <= bytes_max):
            frames.append(place.frames.popleft())
            size += len(frames[-1].payload)
        place.bytes -= size
        if frames:
            place.position = frames[-1].offset + 1
        if place.paused and place.bytes < WAITING_BYTES_MAX // 2:
            place.paused = False
            self._consumer.resume([self._partition(partition)])
        return frames


def _at(message: Any) -> str:
    return f"partition {message.partition()}, offset {message.offset()}"
