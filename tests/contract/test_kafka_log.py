import asyncio
from contextlib import closing

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from kixo.errors import BadSetting, Unavailable
from kixo.log import Frame, partition_of
from kixo.log.kafka.appender import PartitionStates
from kixo.log.kafka.preview import NEWEST_RECORDS
from kixo.log.opening import ensure_log, open_appender, open_log_reader, open_preview, read_log_id
from kixo.settings import MIB, Settings
from kixo.stored import JUDGED
from tests.contract.log_contract import LogContract, append, frame, told_nothing
from tests.services import Kafka
from tests.test_server import wait_until

PARTITIONS = 4


class TestKafkaLog(LogContract):
    durability = "replicated"

    @pytest.fixture
    def settings(self, kafka: Kafka) -> Settings:
        return Settings(log=kafka.url(kafka.topic()), log_partitions=PARTITIONS)


def sent(count: int, size: int = 100) -> list[tuple[str, Frame]]:
    return [(f"kx_proj_{number}", frame(b"%d " % number + b"x" * size)) for number in range(count)]


def test_another_number_of_partitions_than_the_topic_has_is_refused(kafka: Kafka) -> None:
    url = kafka.url(kafka.topic())
    ensure_log(Settings(log=url, log_partitions=4))
    with pytest.raises(BadSetting, match="has 4 partitions, and log_partitions is 5"):
        ensure_log(Settings(log=url, log_partitions=5))


def test_a_topic_that_takes_no_record_as_large_as_a_body_can_become_is_refused(kafka: Kafka) -> None:
    url = kafka.url(kafka.topic())
    ensure_log(Settings(log=url, log_partitions=1))
    with pytest.raises(BadSetting, match=r"max\.message\.bytes"):
        ensure_log(Settings(log=url, log_partitions=1, body_bytes_max=20 * MIB))


def test_a_topic_that_is_not_there_is_told_of(kafka: Kafka) -> None:
    with pytest.raises(BadSetting, match="has no topic"):
        read_log_id(Settings(log=kafka.url("nobody-made-this")))


def test_a_record_says_in_headers_what_it_is_and_is_where_its_project_belongs(kafka: Kafka) -> None:
    topic = kafka.topic()
    settings = Settings(log=kafka.url(topic), log_partitions=PARTITIONS)
    ensure_log(settings)
    (position,) = append(settings, [("kx_proj_7", frame(b"{}", at_us=12, kind=JUDGED, accepted=3, rejected=4))])
    consumer = Consumer({"bootstrap.servers": kafka.brokers, "group.id": "another"})
    consumer.assign([TopicPartition(topic, partition_of("kx_proj_7", PARTITIONS), position.offset)])
    (message,) = consumer.consume(1, 30)
    consumer.close()
    assert (message.key(), message.value()) == (b"kx_proj_7", b"{}")
    assert dict(message.headers() or ()) == {
        "kixo-format": b"1",
        "kixo-kind": b"judged",
        "kixo-received-at-us": b"12",
        "kixo-accepted": b"3",
        "kixo-rejected": b"4",
        "content-type": b"application/json",
    }


def test_a_record_of_somebody_else_is_passed_over_and_reported(kafka: Kafka) -> None:
    topic = kafka.topic()
    settings = Settings(log=kafka.url(topic), log_partitions=1)
    ensure_log(settings)
    stranger = Producer({"bootstrap.servers": kafka.brokers})
    stranger.produce(topic, b"what?", partition=0)
    assert stranger.flush(30) == 0
    append(settings, sent(1))
    told: list[str] = []
    with closing(open_log_reader(settings, lambda sentence, _: told.append(sentence))) as reader:
        (found,) = reader.read(0, 0, MIB)
    assert found.offset == 1
    assert len(told) == 1
    assert "offset 0" in told[0]


def test_a_preview_shows_the_end_and_then_what_comes(kafka: Kafka) -> None:
    settings = Settings(log=kafka.url(kafka.topic()), log_partitions=1)
    ensure_log(settings)
    append(settings, sent(NEWEST_RECORDS + 10))
    with closing(open_preview(settings)) as preview:
        (stretch,) = preview.newest(0, MIB)
        assert [head.offset for head in stretch.heads] == list(range(10, NEWEST_RECORDS + 10))
        assert stretch.frame(stretch.heads[0]) == preview.find(0, 10)
        assert preview.find(0, NEWEST_RECORDS + 10) is None
    with closing(open_preview(settings)) as preview:
        preview.newest(0, MIB)
        assert preview.read(0, MIB) == []
        append(settings, sent(2))
        seen: list[int] = []

        def both_came() -> bool:
            seen.extend(head.offset for each in preview.read(0, MIB) for head in each.heads)
            return len(seen) == 2

        wait_until(both_came)
        assert seen == [NEWEST_RECORDS + 10, NEWEST_RECORDS + 11]


def test_a_cluster_that_is_not_there_is_refused_at_once_when_that_is_known() -> None:
    settings = Settings(log="kafka://127.0.0.1:1/events", log_partitions=2)

    async def run() -> str:
        appender = open_appender(settings, 0, lambda *_: None, told_nothing)
        with closing(appender), pytest.raises(Unavailable, match="Repeat the request later"):
            appender.submit("kx_proj_a", 1, 0, 1, 0, [b"{}"])
        return appender.reason() or ""

    assert "Kafka cannot be written" in asyncio.run(run())


def test_a_partition_that_gave_up_is_refused_until_one_record_was_tried_and_stored() -> None:
    states = PartitionStates(2)
    states.gave_up(0, "timed out")
    assert states.why_not(0) == "timed out"
    assert states.why_not(1) is None
    assert states.reason() is None
    states.looked([None, None])
    assert states.why_not(0) is None
    states.begin(0)
    assert "being tried" in (states.why_not(0) or "")
    states.stored(0)
    assert states.why_not(0) is None
    assert not states.troubled


def test_where_every_partition_is_down_nothing_can_be_stored_until_the_cluster_says_otherwise() -> None:
    states = PartitionStates(2)
    states.all_failed("no broker can be reached")
    assert "no broker can be reached" in (states.reason() or "")
    states.looked(["the partition has no leader", None])
    assert states.reason() is None
    assert states.why_not(0) == "the partition has no leader"
    states.looked([None, None])
    # No record was given up, so nothing is to be tried first.
    assert not states.troubled
