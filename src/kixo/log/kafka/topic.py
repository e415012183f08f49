"""The topic: made where it is not there, and checked at each start against what the log promises.

A 200 promises that all in-sync replicas have the batch. That is worth something only where there have to be two of
them at least, and none but one of them may become the leader.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic

from kixo.errors import BadSetting
from kixo.log import LogReplaced
from kixo.log.kafka.cluster import REQUEST_S, LogUnreachable, Refusal, client_settings, tell_nobody, unreachable
from kixo.log.kafka.record import OVERHEAD_BYTES
from kixo.places import KafkaPlace
from kixo.settings import MIB, Settings

COPIES = 3
IN_SYNC_MIN = 2
AWAIT_S = 0.05
WATCH_WAIT_S = 1.0


@dataclass(frozen=True)
class Topic:
    """What the cluster says of the topic. `log_id` has 32 hexadecimal digits; `in_sync_min` is min.insync.replicas."""

    log_id: str
    partitions: int
    copies: int
    in_sync_min: int


def record_bytes_max(settings: Settings) -> int:
    """The largest record: a body whose events are judged stands as JSON within JSON, where a quote takes two bytes.

    The reasons of a thousand rejected events come to it.
    """
    return 2 * settings.body_bytes_max + 2 * MIB + OVERHEAD_BYTES


def ensure_topic(place: KafkaPlace, settings: Settings) -> Topic:
    """The topic, which is made if it is not there. Raises `BadSetting` and `LogUnreachable`."""
    with _administering(place, settings) as admin:
        if place.topic not in admin.list_topics(timeout=REQUEST_S).topics:
            _create(admin, place, settings)
            _await(admin, place)
        return _checked(admin, place, settings)


def read_topic(place: KafkaPlace, settings: Settings, wait_s: float = REQUEST_S) -> Topic:
    """The topic, which has to be there. Raises `BadSetting` and, after `wait_s` seconds, `LogUnreachable`."""
    with _administering(place, settings) as admin:
        return _checked(admin, place, settings, wait_s)


class TopicWatch:
    """Looks now and then whether a topic is still the one that had the name first."""

    def __init__(self, place: KafkaPlace, settings: Settings, log_id: str) -> None:
        self._place = place
        self._log_id = log_id
        self._admin = AdminClient(client_settings(place, settings, tell_nobody))

    def look(self) -> None:
        """Raises `LogReplaced` where it is another one; where nobody can say, that is no answer."""
        try:
            found = _hexadecimal(_describe(self._admin, self._place, WATCH_WAIT_S).topic_id)
        except (BadSetting, LogUnreachable):
            return
        if found != self._log_id:
            raise LogReplaced(
                f"Kafka's topic {self._place.topic} was deleted and made again: it is another log.",
                "What was in the old one and not yet in the tables is lost; the new one is loaded from its start.",
            )


@contextmanager
def _administering(place: KafkaPlace, settings: Settings) -> Iterator[AdminClient]:
    """A client for questions, whose errors become `OperatorError`, with the reason where brokers turn us away."""
    refusal = Refusal()
    admin = AdminClient(client_settings(place, settings, refusal))
    try:
        yield admin
    except (KafkaException, LogUnreachable) as error:
        admin.poll(0)
        if refusal.error is not None:
            raise unreachable(place, refusal.error) from error
        if isinstance(error, LogUnreachable):
            raise
        raise unreachable(place, error) from error


def _create(admin: AdminClient, place: KafkaPlace, settings: Settings) -> None:
    copies = settings.log_copies or min(COPIES, len(admin.list_topics(timeout=REQUEST_S).brokers))
    made = NewTopic(
        place.topic, num_partitions=settings.log_partitions, replication_factor=copies, config=_config(copies, settings)
    )
    try:
        admin.create_topics([made], request_timeout=REQUEST_S)[place.topic].result()
    except KafkaException as error:
        # Another node may have been faster.
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise


def _await(admin: AdminClient, place: KafkaPlace) -> None:
    """Waits until the broker that is asked knows of a topic that was just made."""
    ends_s = time.monotonic() + REQUEST_S
    while time.monotonic() < ends_s:
        try:
            _describe(admin, place, REQUEST_S)
        except BadSetting:
            time.sleep(AWAIT_S)
        else:
            return


def _config(copies: int, settings: Settings) -> dict[str, str]:
    return {
        "cleanup.policy": "delete",
        "max.message.bytes": str(record_bytes_max(settings)),
        "min.insync.replicas": str(min(IN_SYNC_MIN, copies)),
        "retention.bytes": "-1",
        "retention.ms": str(round(settings.log_retention_s * 1000)),
        "unclean.leader.election.enable": "false",
    }


def _checked(admin: AdminClient, place: KafkaPlace, settings: Settings, wait_s: float = REQUEST_S) -> Topic:
    described = _describe(admin, place, wait_s)
    resource = ConfigResource(ResourceType.TOPIC, place.topic)
    found = admin.describe_configs([resource], request_timeout=wait_s)[resource].result()
    config = {name: entry.value for name, entry in found.items()}
    topic = Topic(
        _hexadecimal(described.topic_id),
        len(described.partitions),
        min((len(each.replicas) for each in described.partitions), default=0),
        int(config["min.insync.replicas"]),
    )
    _check(topic, config, place, settings)
    return topic


def _describe(admin: AdminClient, place: KafkaPlace, wait_s: float) -> Any:
    try:
        return admin.describe_topics(TopicCollection([place.topic]), request_timeout=wait_s)[place.topic].result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise _absent(place) from error
        raise unreachable(place, error) from error


def _absent(place: KafkaPlace) -> BadSetting:
    return BadSetting(
        f"Kafka has no topic {place.topic}.", "Correct KIXO_LOG, or start `kixo serve` or `kixo ingest` once."
    )


def _check(topic: Topic, config: dict[str, str], place: KafkaPlace, settings: Settings) -> None:
    """Raises `BadSetting` for the first thing that would break a promise."""
    smallest = record_bytes_max(settings)
    wrongs = (
        (
            topic.partitions != settings.log_partitions,
            f"has {topic.partitions} partitions, and log_partitions is {settings.log_partitions}",
            "Set log_partitions to what the topic was made with. For another number, let the loaders empty the log, and"
            " name a new topic: partitions that are added part a project's events from their copies.",
        ),
        (
            "compact" in config["cleanup.policy"],
            "is compacted, which would delete all but a project's last batch",
            "Set its cleanup.policy to delete.",
        ),
        (
            config["unclean.leader.election.enable"] == "true",
            "lets a replica lead that has not got all",
            "Set its unclean.leader.election.enable to false: acknowledged events would be lost.",
        ),
        (
            topic.in_sync_min < min(IN_SYNC_MIN, topic.copies),
            f"has {topic.copies} replicas and acknowledges with {topic.in_sync_min} in sync",
            f"Set its min.insync.replicas to {IN_SYNC_MIN}: else a single lost disk loses acknowledged events.",
        ),
        (
            topic.in_sync_min > topic.copies,
            f"has {topic.copies} replicas and wants {topic.in_sync_min} in sync, so nothing can be written",
            "Lower its min.insync.replicas, or give it more replicas.",
        ),
        (
            int(config["max.message.bytes"]) < smallest,
            f"takes records up to {config['max.message.bytes']} bytes; a batch can come to {smallest}",
            f"Set its max.message.bytes to {smallest}, or lower body_bytes_max.",
        ),
    )
    for wrong, sentence, next_step in wrongs:
        if wrong:
            raise BadSetting(f"Kafka's topic {place.topic} {sentence}.", next_step)


def _hexadecimal(topic_id: Any) -> str:
    mask = (1 << 64) - 1
    high, low = topic_id.get_most_significant_bits() & mask, topic_id.get_least_significant_bits() & mask
    return f"{high << 64 | low:032x}"
