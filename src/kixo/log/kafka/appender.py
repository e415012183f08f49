"""Appending to Kafka: an answer waits until every in-sync replica has the record.

Deliveries are looked for by the event loop, once in a millisecond while any is awaited: no thread has to wake it, and
all that have come are told of in one turn.

The answer always comes from the producer's report, never from a clock of ours. Until it gives a record up, the
producer repeats it by itself, without doubling it; after that it never sends it again. So a batch that was answered 503
is either not in the log, or a broker had received it before and could not say so: then it comes as a copy of its
repetition.

A partition that gave up a record, or that has no leader or too few replicas in sync, is *down*: its batches are
answered 503 at once. While any is, the cluster is asked for their state. One that looks well again is *on trial*: one
record at a time is let through, until one has been stored.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from kixo.errors import OperatorError, Unavailable
from kixo.log import Buffers, Durability, Position, partition_of
from kixo.log.group_commit import Observe
from kixo.log.kafka.cluster import LogUnreachable, client_settings
from kixo.log.kafka.record import pack_headers
from kixo.log.kafka.topic import read_topic, record_bytes_max
from kixo.places import KafkaPlace
from kixo.settings import Settings

POLL_S = 0.001
IDLE_POLL_S = 0.1
STATE_S = 0.5
STATE_WAIT_S = 2.0
START_WAIT_S = 3.0
RETRY_AFTER_S = 1
GONE = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}


class KafkaAppender:
    """Puts frames into the topic of `place`; see `kixo.log.Appender`.

    Brokers that are away at the start are no error: they may come back. Raises `BadSetting` where the topic is not what
    it has to be.
    """

    durability: Durability = "replicated"

    def __init__(self, place: KafkaPlace, settings: Settings, observe: Observe) -> None:
        self._place = place
        self._settings = settings
        self._observe = observe
        self._queue_bytes_max = settings.log_queue_bytes_max
        self._partition_of = _remembering(settings.log_partitions)
        self._loop = asyncio.get_running_loop()
        self._waiting = 0
        self._waiting_bytes = 0
        self._states = PartitionStates(settings.log_partitions)
        self._in_sync_min = self._check_topic()
        self._closed = False
        self._polling: asyncio.TimerHandle | None = None
        self._producer = self._open_producer()
        self._state_task = self._loop.create_task(self._watch_state())
        self._poll()

    def submit(
        self, project_id: str, received_at_us: int, kind: int, accepted: int, rejected: int, payload: Buffers
    ) -> "asyncio.Future[Position]":
        """Where the record stands once it is replicated, or `Unavailable`; raises that at once where it is down."""
        # The library takes bytes, and copies them.
        value = b"".join(payload)
        size = len(value)
        partition = self._partition_of(project_id)
        self._refuse(partition)
        done: asyncio.Future[Position] = self._loop.create_future()
        try:
            self._producer.produce(
                self._place.topic,
                value,
                project_id,
                partition,
                partial(self._delivered, done, size, partition),
                headers=pack_headers(received_at_us, kind, accepted, rejected),
            )
        except (BufferError, KafkaException) as error:
            raise _unavailable(str(error)) from error
        self._states.begin(partition)
        self._waiting_bytes += size
        self._waiting += 1
        if self._waiting == 1:
            self._poll_soon(POLL_S)
        return done

    def reason(self) -> str | None:
        """Why nothing can be stored now: every partition is down. May be asked in any thread."""
        return self._states.reason()

    def close(self) -> None:
        """Waits for deliveries, as long as one may take, and gives up the rest."""
        self._closed = True
        self._state_task.cancel()
        if self._polling is not None:
            self._polling.cancel()
        self._producer.flush(self._settings.log_delivery_s)
        self._give_up(self._producer)

    def _check_topic(self) -> int | None:
        """How many replicas have to be in sync; None where the cluster cannot be asked yet."""
        try:
            return read_topic(self._place, self._settings, START_WAIT_S).in_sync_min
        except LogUnreachable as error:
            self._states.all_failed(error.message)
            return None

    def _open_producer(self) -> Producer:
        return Producer(
            {
                **client_settings(self._place, self._settings, self._told),
                "acks": "all",
                "enable.idempotence": True,
                "message.timeout.ms": round(self._settings.log_delivery_s * 1000),
                "message.max.bytes": record_bytes_max(self._settings),
                "linger.ms": 0,
                # Our bound is in bytes, and stricter.
                "queue.buffering.max.kbytes": 2 * (self._queue_bytes_max + record_bytes_max(self._settings)) // 1024,
                "queue.buffering.max.messages": 1_000_000,
            }
        )

    def _refuse(self, partition: int) -> None:
        """Raises `Unavailable` where a record would only wait in vain."""
        if self._closed:
            raise _unavailable("the server stops")
        if self._waiting_bytes > self._queue_bytes_max:
            raise _unavailable(f"{self._waiting_bytes} bytes already wait for Kafka")
        if self._states.troubled and (why := self._states.why_not(partition)) is not None:
            raise _unavailable(why)

    def _delivered(self, done: "asyncio.Future[Position]", size: int, partition: int, error: Any, message: Any) -> None:
        """Called by the producer, within `_poll` or `close`, once for each record."""
        self._waiting -= 1
        self._waiting_bytes -= size
        if error is None:
            self._states.stored(partition)
            self._observe(size, None)
            if not done.done():
                done.set_result(Position(partition, message.offset()))
            return
        failure = _unavailable(error.str())
        self._states.gave_up(partition, error.str())
        self._observe(size, failure)
        if not done.done():
            done.set_exception(failure)

    def _poll(self) -> None:
        """Hears of deliveries and errors, and looks again soon."""
        self._polling = None
        while self._producer.poll(0):
            pass
        if not self._closed:
            self._poll_soon(POLL_S if self._waiting else IDLE_POLL_S)

    def _poll_soon(self, seconds: float) -> None:
        if self._polling is not None:
            self._polling.cancel()
        self._polling = self._loop.call_later(seconds, self._poll)

    def _told(self, error: KafkaError) -> None:
        """An error of no single record, within `_poll`."""
        if error.fatal():
            self._loop.call_soon(self._renew)
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._states.all_failed("no broker can be reached")

    def _renew(self) -> None:
        """Takes a new producer for one that has had an error that it cannot go on after."""
        broken, self._producer = self._producer, self._open_producer()
        self._give_up(broken)

    def _give_up(self, producer: Producer) -> None:
        """Ends what still waits, and hears of it."""
        producer.purge()
        producer.flush(self._settings.log_delivery_s)

    async def _watch_state(self) -> None:
        """Asks for the state of the partitions while one is not well."""
        while True:
            if self._states.down:
                self._states.looked(await asyncio.to_thread(self._look))
            await asyncio.sleep(STATE_S)

    def _look(self) -> list[str | None]:
        """What is wrong with each partition, by what the cluster says. Blocks."""
        numbers = range(self._settings.log_partitions)
        try:
            if self._in_sync_min is None:
                self._in_sync_min = read_topic(self._place, self._settings, STATE_WAIT_S).in_sync_min
            found = self._producer.list_topics(self._place.topic, timeout=STATE_WAIT_S).topics[self._place.topic]
            if found.error is not None and found.error.code() in GONE:
                # Whoever makes it again may make it otherwise.
                self._in_sync_min = None
                return [f"there is no topic {self._place.topic}" for _ in numbers]
        except (KafkaException, OperatorError) as error:
            reason = error.message if isinstance(error, OperatorError) else error.args[0].str()
            return [reason for _ in numbers]
        return [_fault(found.partitions.get(number), self._in_sync_min) for number in numbers]


class PartitionStates:
    """Which partitions are down, and which are on trial. Only `reason` may be asked in other threads."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._down: dict[int, str] = {}
        # Gave up a record, and has stored none since.
        self._suspects: set[int] = set()
        # On trial: whether a record is under way.
        self._trials: dict[int, bool] = {}
        self.troubled = False

    @property
    def down(self) -> bool:
        """Whether any is down."""
        return bool(self._down)

    def reason(self) -> str | None:
        """Why nothing can be stored, None where something can."""
        reasons = list(self._down.values())
        return f"Kafka cannot be written: {reasons[0].rstrip('.')}." if len(reasons) >= self._partitions else None

    def why_not(self, partition: int) -> str | None:
        """Why nothing can be stored in a partition now, None where it can, or is to be tried."""
        if (reason := self._down.get(partition)) is not None:
            return reason
        return "the partition has just come back and is being tried" if self._trials.get(partition) else None

    def begin(self, partition: int) -> None:
        """Says that a record is under way."""
        if self.troubled and partition in self._trials:
            self._trials[partition] = True

    def stored(self, partition: int) -> None:
        """Says that a record was stored."""
        if self.troubled:
            self._down.pop(partition, None)
            self._trials.pop(partition, None)
            self._suspects.discard(partition)
            self.troubled = bool(self._down or self._trials)

    def gave_up(self, partition: int, reason: str) -> None:
        """Says that a record was given up."""
        self._suspects.add(partition)
        self.failed(partition, reason)

    def failed(self, partition: int, reason: str) -> None:
        """Says that a partition cannot be written."""
        self._trials.pop(partition, None)
        self._down[partition] = reason
        self.troubled = True

    def all_failed(self, reason: str) -> None:
        """Says that no partition can be reached."""
        for partition in range(self._partitions):
            self.failed(partition, reason)

    def looked(self, faults: Sequence[str | None]) -> None:
        """Says what is wrong with each partition by what the cluster says; None: nothing."""
        for partition, fault in enumerate(faults):
            if fault is not None:
                self.failed(partition, fault)
            elif self._down.pop(partition, None) is not None and partition in self._suspects:
                self._trials[partition] = False
        self.troubled = bool(self._down or self._trials)


def _fault(partition: Any, in_sync_min: int) -> str | None:
    """What is wrong with a partition by the cluster's metadata."""
    if partition is None or partition.leader < 0:
        return "the partition has no leader"
    if len(partition.isrs) < in_sync_min:
        return f"{len(partition.isrs)} of its replicas are in sync, and {in_sync_min} have to be"
    return None


def _remembering(partitions: int) -> Callable[[str], int]:
    """`partition_of`, which is asked for the same few projects again and again."""
    known: dict[str, int] = {}

    def find(project_id: str) -> int:
        found = known.get(project_id)
        if found is None:
            found = known[project_id] = partition_of(project_id, partitions)
        return found

    return find


def _unavailable(why: str) -> Unavailable:
    return Unavailable(
        f"Nothing is known to be stored: Kafka did not take it ({why.rstrip('.')}). Repeat the request later.",
        retry_after_s=RETRY_AFTER_S,
    )
