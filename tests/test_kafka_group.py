"""Loaders of a topic, in real processes' place: each with its own reader, place in the group, and index."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import count
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from kixo.errors import OperatorError
from kixo.lake.commit import Fenced
from kixo.lake.local import LocalLake
from kixo.lake.read import open_table
from kixo.loader import kafka_group
from kixo.loader.joining import join
from kixo.loader.loader import Loader, Surroundings
from kixo.log import LogReplaced, partition_of
from kixo.log.opening import ensure_log, open_log_reader, read_log_id
from kixo.metric_file import MetricFile
from kixo.settings import Settings
from kixo.timestamp import now_us
from tests.contract.log_contract import append
from tests.loading import Reports, as_sent, event, rows_of
from tests.services import Kafka
from tests.test_server import wait_until

PARTITIONS = 4
PROJECTS = [f"project {number}" for number in range(16)]


class Topic:
    """A topic, a lake, and loaders of both."""

    def __init__(self, folder: Path, kafka: Kafka) -> None:
        self.folder = folder
        self.settings = Settings(log=kafka.url(kafka.topic()), log_partitions=PARTITIONS)
        self.lake = LocalLake(folder / "lake", has_many_writers=True)
        self.reports = Reports()
        self._names = count()
        ensure_log(self.settings)

    def send(self, round_: int) -> None:
        """An event of each project, and its copy of the round before."""
        ids = {f"event {round_}", f"event {max(0, round_ - 1)}"}
        append(self.settings, [(name, as_sent(*map(event, ids), project=name)) for name in PROJECTS])

    @contextmanager
    def loader(self, name: str) -> Iterator[Loader]:
        with (
            closing(open_log_reader(self.settings, lambda *_: None)) as reader,
            join(self.settings, reader, "test") as (group, own),
        ):
            metrics = MetricFile(self.folder / f"metrics of {name}")
            index = self.folder / f"index of {name}"
            around = Surroundings(self.lake, index, own, self.settings, now_us, metrics, self.reports, group=group)
            with closing(Loader(around)) as loader:
                loader.open()
                yield loader

    def ids(self) -> list[tuple[str, str]]:
        return rows_of(self.folder / "lake", "events", "project_id, event_id")

    def is_loaded(self) -> bool:
        """Whether the tables hold all that is in the topic."""
        table, log_id = open_table(self.lake, "events"), read_log_id(self.settings)
        with closing(open_log_reader(self.settings, lambda *_: None)) as reader:
            return all(table.position(log_id, number) == reader.end_position(number) for number in reader.partitions())


def expected(rounds: int) -> list[tuple[str, str]]:
    return sorted((name, f"event {round_}") for name in PROJECTS for round_ in range(rounds))


def turn(loaders: list[Loader], until: Callable[[], bool]) -> None:
    """Lets loaders take turns; one that meets another that still holds its partition goes on from the tables."""
    for _ in range(600):
        for loader in loaders:
            try:
                loader.run_once()
            except Fenced:
                continue
        if until():
            return
        threading.Event().wait(0.05)
    raise AssertionError("the loaders did not get there")


def shares(*loaders: Loader) -> list[int]:
    return [len(loader._following) for loader in loaders]


@pytest.fixture
def topic(tmp_path: Path, kafka: Kafka) -> Topic:
    return Topic(tmp_path, kafka)


def test_the_projects_of_the_test_come_to_all_partitions() -> None:
    assert {partition_of(name, PARTITIONS) for name in PROJECTS} == set(range(PARTITIONS))


def test_loaders_that_come_and_go_share_the_topic_and_load_each_event_once(topic: Topic) -> None:
    topic.send(0)
    with ExitStack() as second, topic.loader("one") as one:
        turn([one], topic.is_loaded)
        assert shares(one) == [PARTITIONS]
        topic.send(1)
        two = second.enter_context(topic.loader("two"))
        turn([one, two], lambda: shares(one, two) == [2, 2])
        topic.send(2)
        turn([one, two], topic.is_loaded)
        second.close()
        topic.send(3)
        turn([one], lambda: shares(one) == [PARTITIONS] and topic.is_loaded())
        assert topic.ids() == expected(4)
        ledger = rows_of(topic.folder / "lake", "loads", "sum(received), sum(stored), sum(duplicate)")
    assert ledger == [(len(PROJECTS) * 7, len(PROJECTS) * 4, len(PROJECTS) * 3)]


def test_a_loader_on_a_new_machine_finds_copies_of_what_others_loaded(topic: Topic) -> None:
    topic.send(0)
    with topic.loader("one") as one:
        turn([one], topic.is_loaded)
    topic.send(0)
    topic.send(1)
    with topic.loader("two") as two:
        turn([two], topic.is_loaded)
    assert topic.ids() == expected(2)


@pytest.mark.parametrize("requests", [1, 30])
def test_a_topic_that_was_made_again_is_loaded_from_its_start(
    topic: Topic, kafka: Kafka, monkeypatch: pytest.MonkeyPatch, requests: int
) -> None:
    monkeypatch.setattr(kafka_group, "CHECK_S", 0.0)
    admin = AdminClient({"bootstrap.servers": kafka.brokers})
    name = topic.settings.log.rpartition("/")[2]
    with topic.loader("one") as one:
        for round_ in range(3):
            topic.send(round_)
        turn([one], topic.is_loaded)
        admin.delete_topics([name])[name].result(60)
        wait_until(lambda: made(topic.settings))
        # So that it ends before the old position, or behind it.
        for round_ in range(3, 3 + requests):
            topic.send(round_)
        with pytest.raises(LogReplaced, match="made again"):
            one.run(threading.Event())
    with topic.loader("one") as one:
        turn([one], topic.is_loaded)
    assert topic.ids() == expected(3 + requests)


def made(settings: Settings) -> bool:
    """Whether the topic could be made again: the one before goes bit by bit."""
    try:
        ensure_log(settings)
    except OperatorError:
        return False
    return True


def test_the_group_tells_how_far_it_has_come(topic: Topic) -> None:
    from confluent_kafka import Consumer, TopicPartition

    from kixo.log.kafka.cluster import client_settings, tell_nobody
    from kixo.places import log_place

    topic.send(0)
    place = log_place(topic.settings.log)
    assert place is not None
    client = client_settings(place, topic.settings, tell_nobody)
    consumer = Consumer({**client, "group.id": "kixo-loaders-test"})
    numbers = [TopicPartition(place.topic, number) for number in range(PARTITIONS)]
    with topic.loader("one") as one, closing(open_log_reader(topic.settings, lambda *_: None)) as reader:
        ends = [reader.end_position(number) for number in range(PARTITIONS)]
        turn([one], lambda: [each.offset for each in consumer.committed(numbers, timeout=10)] == ends)
    consumer.close()
