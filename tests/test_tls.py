"""Log, lake, registry and limits behind TLS, with users and passwords: reached as the settings say, or refused.

The certificates are of an authority that no system trusts. What is reached without its file is no proof of anything.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._scram import ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion
from msgspec import Struct

from kixo.errors import OperatorError
from kixo.lake import objects
from kixo.lake.opening import open_lake
from kixo.limits.connection import open_connection
from kixo.limits.looking import open_look
from kixo.log.kafka import topic
from kixo.log.opening import ensure_log, read_log_id
from kixo.places import RedisPlace, limits_place
from kixo.registry import open_registry
from kixo.settings import Settings, resolve
from services import kafka as kafka_service
from services import postgresql as postgresql_service
from services import redis as redis_service
from services import running, tls
from services import s3 as s3_service
from services.errors import Missing
from services.program import LOOPBACK, Program, start, stop
from tests.conftest import event
from tests.test_places_together import Environment, asked, command_lines, new_project, rows, serving, taken
from tests.test_server import wait_until

WRONG = "another-secret"
SCRAM_USER, SCRAM_PASSWORD = "scram-user", "a password, with ';\"= and é"


class Secured(Struct, frozen=True):
    """The services as they run, and where their authority's certificate is."""

    authority: Path
    kafka: Program
    s3: Program
    postgresql: Program
    redis: Program

    def environment(self) -> Environment:
        """All places, new ones, and what opens them."""
        database = postgresql_service.make_database(self.postgresql)
        bucket = s3_service.make_bucket(self.s3)
        options = f"sslmode=verify-full&sslrootcert={self.authority}"
        return {
            "KIXO_LOG": self.log("events-" + bucket),
            "KIXO_LOG_PARTITIONS": "2",
            "KIXO_KAFKA_CA_FILE": str(self.authority),
            "KIXO_LOG_USER": SCRAM_USER,
            "KIXO_LOG_PASSWORD": SCRAM_PASSWORD,
            "KIXO_LAKE": f"s3://{bucket}/lake",
            **s3_service.variables(self.s3),
            "AWS_ENDPOINT_URL": f"https://{self.s3.host}:{self.s3.port}",
            "AWS_ALLOW_HTTP": "false",
            "SSL_CERT_FILE": str(self.authority),
            "KIXO_REGISTRY": f"{postgresql_service.url(self.postgresql, database)}?{options}",
            "KIXO_REGISTRY_PASSWORD": postgresql_service.PASSWORD,
            "KIXO_LIMITS": f"rediss://{self.redis.host}:{self.redis.port}/1",
            "KIXO_LIMITS_CA_FILE": str(self.authority),
            "KIXO_LIMITS_PASSWORD": redis_service.PASSWORD,
        }

    def log(self, topic: str) -> str:
        """A topic, reached by TLS."""
        return kafka_service.url((self.kafka,), topic).replace("kafka://", "kafka+ssl://")


@pytest.fixture(scope="module")
def secured() -> Iterator[Secured]:
    folder = running.new_folder()
    started: list[Program] = []
    try:
        certificates = tls.make_certificates(folder / "certificates")
        for make in (tls.broker, tls.s3_server, tls.postgresql_server, tls.redis_server):
            started.append(start(make(folder, certificates)))
        kafka, s3, postgresql, redis = started
        _add_scram_user(kafka, certificates.authority)
        yield Secured(certificates.authority, kafka, s3, postgresql, redis)
    except Missing as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    finally:
        for program in reversed(started):
            stop(program)


def _add_scram_user(broker: Program, authority: Path) -> None:
    admin = AdminClient(
        {
            "bootstrap.servers": kafka_service.addresses((broker,)),
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(authority),
            "sasl.mechanism": "PLAIN",
            "sasl.username": tls.USER,
            "sasl.password": tls.PASSWORD,
        }
    )
    known = UserScramCredentialUpsertion(
        SCRAM_USER, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), SCRAM_PASSWORD.encode()
    )
    admin.alter_user_scram_credentials([known])[SCRAM_USER].result(60)


def test_everything_by_tls_with_users_and_passwords_keeps_each_event_once(tmp_path: Path, secured: Secured) -> None:
    environment, folder = secured.environment(), tmp_path / "data"
    with serving(folder, environment) as card:
        project = new_project(folder, environment)
        body = project.body(event(event_id="one"), event(event_id="one"), event(event_id="two"))
        taken(card["url"], body)
        wait_until(lambda: len(rows(folder, environment, "SELECT event_id FROM events")) == 2)
        metrics = httpx.get(f"{card['private_url']}/metrics").text
        assert "kixo_limit_alone 0.0" in metrics
        said = metrics + command_lines(folder) + asked(folder, environment, "audit")
    said += "".join((folder / name).read_text() for name in ("stdout", "stderr"))
    assert SCRAM_PASSWORD not in said
    assert "kixo-secret" not in said


def settings_of(environment: Environment) -> Settings:
    """The settings of an environment's variables, without its secrets."""
    return resolve({}, {name: value for name, value in environment.items() if name.startswith("KIXO_")}, {})


@pytest.fixture
def environment(secured: Secured, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """All places, in the environment of this process too."""
    found = secured.environment()
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return found


def refused(ask: Callable[[], object]) -> str:
    """What people are told, which has no secret in it."""
    with pytest.raises((OperatorError, OSError)) as caught:
        ask()
    said = f"{caught.value} {getattr(caught.value, 'next_step', '')}"
    assert WRONG not in said
    assert SCRAM_PASSWORD not in said
    return said


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("KIXO_KAFKA_CA_FILE", "", "certificate could not be verified"),
        ("KIXO_LOG_PASSWORD", WRONG, "Check KIXO_LOG_USER, KIXO_LOG_PASSWORD"),
        ("KIXO_LOG_USER", "nobody", "Check KIXO_LOG_USER, KIXO_LOG_PASSWORD"),
        ("KIXO_KAFKA_SASL_MECHANISM", "SCRAM-SHA-256", "mechanisms: PLAIN,SCRAM-SHA-512"),
    ],
)
def test_kafka_that_turns_us_away_or_that_we_do_not_trust_says_why(
    environment: Environment, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setattr(topic, "REQUEST_S", 2.0)
    monkeypatch.setenv(variable, value)
    settings = settings_of({**environment, variable: value})
    assert said in refused(lambda: ensure_log(settings))
    assert said in refused(lambda: read_log_id(settings))


def test_kafka_takes_a_user_by_the_plain_mechanism_too(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KIXO_LOG_USER", tls.USER)
    monkeypatch.setenv("KIXO_LOG_PASSWORD", tls.PASSWORD)
    settings = replace(settings_of(environment), kafka_sasl_mechanism="PLAIN")
    assert ensure_log(settings) == read_log_id(settings)


def test_postgresql_that_we_do_not_trust_or_that_turns_us_away_says_why(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(environment)
    by_system = replace(settings, registry=settings.registry.partition("&sslrootcert")[0] + "&sslrootcert=system")
    monkeypatch.delenv("SSL_CERT_FILE")
    assert "certificate verify failed" in refused(lambda: open_registry(by_system, make=True))
    by_name = replace(settings, registry=settings.registry.replace(LOOPBACK, "127.0.0.2"))
    assert "127.0.0.2" in refused(lambda: open_registry(by_name, make=True))
    monkeypatch.setenv("KIXO_REGISTRY_PASSWORD", WRONG)
    assert "password authentication failed" in refused(lambda: open_registry(settings, make=True))


def connect(place: RedisPlace, authority: str) -> None:
    asyncio.run(open_connection(place, authority))


def test_redis_that_we_do_not_trust_or_that_turns_us_away_says_why(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(environment)
    place = limits_place(settings.limits)
    assert place is not None
    monkeypatch.delenv("SSL_CERT_FILE")
    assert "certificate verify failed" in refused(lambda: connect(place, ""))
    assert refused(lambda: connect(replace(place, tls=False), ""))
    monkeypatch.setenv("KIXO_LIMITS_PASSWORD", WRONG)
    assert "WRONGPASS" in refused(lambda: connect(place, settings.limits_ca_file))
    assert "invalid username-password" in refused(lambda: open_look(settings)(3, 0))


def test_s3_that_we_do_not_trust_or_that_turns_us_away_says_why(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Settings(lake=environment["KIXO_LAKE"])
    assert not open_lake(lake).exists()
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setattr(objects, "RETRIES_MAX", 0)
    assert "error sending request" in refused(open_lake(lake).exists)
    monkeypatch.setenv("SSL_CERT_FILE", environment["SSL_CERT_FILE"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", WRONG)
    assert "SignatureDoesNotMatch" in refused(open_lake(lake).exists)
