"""The services that other tests rest on do what those take for granted."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import obstore
import psycopg
import pytest
import redis as redis_client
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from obstore.exceptions import AlreadyExistsError
from obstore.store import S3Store

from services import program, running
from services.errors import Missing
from tests.services import S3, Kafka, PostgreSQL, Redis, started

WRITERS = 8


def store(s3: S3, bucket: str) -> S3Store:
    return S3Store(
        bucket,
        endpoint=s3.endpoint,
        region=s3.variables["AWS_REGION"],
        access_key_id=s3.variables["AWS_ACCESS_KEY_ID"],
        secret_access_key=s3.variables["AWS_SECRET_ACCESS_KEY"],
        client_options={"allow_http": True},
    )


def test_a_service_that_is_not_there_skips_with_a_sentence_and_fails_in_ci(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise Missing("Kafka is not here.")

    monkeypatch.setattr(running, "start", missing)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="Kafka is not here"):
        started(tmp_path, "kafka")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(Missing, match="Kafka is not here"):
        started(tmp_path, "kafka")


def test_nothing_is_left_of_a_program_that_was_killed(tmp_path: Path) -> None:
    killed = program.launch(program.Program("sleeper", ("sleep", "600"), tmp_path, 0))
    program.stop(killed, signal.SIGKILL)
    with pytest.raises(ProcessLookupError):
        os.kill(killed.pid, 0)


def test_of_writers_who_put_a_new_key_at_once_exactly_one_wins(s3: S3) -> None:
    bucket = s3.bucket()
    stores = [store(s3, bucket) for _ in range(WRITERS)]
    together = Barrier(WRITERS)

    def put(writer: int) -> bool:
        together.wait()
        try:
            obstore.put(stores[writer], f"table/{key}", b"%d" % writer, mode="create")
        except AlreadyExistsError:
            return False
        return True

    with ThreadPoolExecutor(WRITERS) as pool:
        for key in range(30):
            won = list(pool.map(put, range(WRITERS)))
            assert won.count(True) == 1
            assert bytes(obstore.get(stores[0], f"table/{key}").bytes()) == b"%d" % won.index(True)


def test_a_key_is_written_in_parts_and_read_in_ranges(s3: S3) -> None:
    bucket = store(s3, s3.bucket())
    body = os.urandom(11 * 1024 * 1024)
    obstore.put(bucket, "large", body, chunk_size=5 * 1024 * 1024)
    assert bytes(obstore.get_range(bucket, "large", start=5_000_000, end=6_000_000)) == body[5_000_000:6_000_000]


def test_a_record_comes_out_of_kafka_as_it_went_in(kafka: Kafka) -> None:
    topic = kafka.topic()
    admin = AdminClient({"bootstrap.servers": kafka.brokers})
    admin.create_topics([NewTopic(topic, 2)])[topic].result(60)
    producer = Producer({"bootstrap.servers": kafka.brokers, "acks": "all", "enable.idempotence": True})
    producer.produce(topic, b"value", b"key", partition=1)
    assert producer.flush(60) == 0
    consumer = Consumer({"bootstrap.servers": kafka.brokers, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    message = consumer.poll(60)
    consumer.close()
    assert message is not None
    assert (message.partition(), message.key(), message.value()) == (1, b"key", b"value")


def test_each_database_of_postgresql_is_new_and_wants_the_password(postgresql: PostgreSQL) -> None:
    first, second = postgresql.url(), postgresql.url()
    with psycopg.connect(first, password=postgresql.password) as connection:
        connection.execute("CREATE TABLE things (id int)")
    with psycopg.connect(second, password=postgresql.password) as connection:
        assert connection.execute("SELECT to_regclass('things')").fetchone() == (None,)
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(first, password="wrong")


def test_redis_wants_the_password_and_runs_scripts(redis: Redis) -> None:
    with redis_client.Redis.from_url(redis.url(), password=redis.password) as client:
        assert client.eval("return redis.call('TIME')[1]", 0)
    with (
        redis_client.Redis.from_url(redis.url(), password="wrong") as client,
        pytest.raises(redis_client.AuthenticationError),
    ):
        client.ping()
