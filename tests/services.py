"""Fixtures for tests on real services: `kafka`, `s3`, `postgresql` and `redis`.

A service is started by the first test that wants it and serves all tests of the run, those of parallel processes too;
it is ended when the last of these processes is gone. Each test takes a topic, bucket or database of its own. What is
not on a machine skips its tests with a sentence; with CI=true it fails them.
"""

import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from services import kafka as kafka_service
from services import postgresql as postgresql_service
from services import redis as redis_service
from services import running
from services import s3 as s3_service
from services.errors import Missing
from services.program import Program


class Kafka:
    """A running cluster of one broker."""

    def __init__(self, programs: tuple[Program, ...]) -> None:
        self.programs = programs
        self.brokers = kafka_service.addresses(programs)

    def topic(self) -> str:
        """A name that no topic has yet."""
        return f"events-{uuid.uuid4().hex[:12]}"

    def url(self, topic: str) -> str:
        """The topic as `KIXO_LOG` names it."""
        return kafka_service.url(self.programs, topic)


class S3:
    """A running S3 server; `variables` are for the environment of those who use it."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.endpoint = f"http://{program.host}:{program.port}"
        self.variables = s3_service.variables(program)

    def bucket(self) -> str:
        """A new bucket."""
        return s3_service.make_bucket(self.program)

    def url(self, prefix: str = "lake") -> str:
        """A place in a new bucket, as `KIXO_LAKE` names it."""
        return f"s3://{self.bucket()}/{prefix}"


class PostgreSQL:
    """A running server, whose user needs `password`."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.password = postgresql_service.PASSWORD

    def url(self) -> str:
        """A new, empty database, as `KIXO_REGISTRY` names it; without the password."""
        return postgresql_service.url(self.program, postgresql_service.make_database(self.program))


class Redis:
    """A running server, which wants `password`."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.password = redis_service.PASSWORD

    def url(self) -> str:
        """A database that hardly any other test has, as `KIXO_LIMITS` names it; without the password."""
        number = uuid.uuid4().int % redis_service.DATABASES
        return redis_service.variables(self.program, number)["KIXO_LIMITS"]


@pytest.fixture(scope="session")
def services_folder() -> Iterator[Path]:
    """Where the services of this run are; held until the run ends."""
    folder = running.new_folder() if (run := os.environ.get("PYTEST_XDIST_TESTRUNUID")) is None else _shared(run)
    with running.held(folder):
        with running.alone(folder):
            if not (folder / "kept").exists():
                running.launch_keeper(folder)
                (folder / "kept").touch()
        yield folder


@pytest.fixture(scope="session")
def kafka(services_folder: Path) -> Kafka:
    return Kafka(started(services_folder, "kafka"))


@pytest.fixture(scope="session")
def s3(services_folder: Path) -> S3:
    return S3(*started(services_folder, "s3"))


@pytest.fixture(scope="session")
def postgresql(services_folder: Path) -> PostgreSQL:
    return PostgreSQL(*started(services_folder, "postgresql"))


@pytest.fixture(scope="session")
def redis(services_folder: Path) -> Redis:
    return Redis(*started(services_folder, "redis"))


def _shared(run: str) -> Path:
    folder = Path(tempfile.gettempdir(), f"kixo-services-{run}")
    folder.mkdir(exist_ok=True)
    folder.chmod(0o711)
    return folder


def started(folder: Path, name: str) -> tuple[Program, ...]:
    """The programs of a service, running; without its parts the test is skipped, and fails in CI."""
    try:
        with running.alone(folder):
            return running.start(folder, [name]).of(name)
    except Missing as error:
        missing(error)


def missing(error: Missing) -> NoReturn:
    """Skips the test for want of a service, with a sentence; with CI=true it fails."""
    if os.environ.get("CI"):
        raise error
    pytest.skip(str(error))
