"""Reaching a Kafka cluster: what every client of it is made with, and what its errors say to people."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from kixo.errors import BadSetting, DataFolderError, OperatorError
from kixo.places import KafkaPlace, secret
from kixo.settings import Settings

# How long one question to the cluster may take: it covers the choice of a new leader.
REQUEST_S = 10.0

REFUSALS = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError._AUTHENTICATION,
}
UNTRUSTED = {KafkaError._SSL}


class LogUnreachable(DataFolderError):
    """The cluster does not answer, or not with what was asked for."""


def client_settings(place: KafkaPlace, settings: Settings, tell: Callable[[KafkaError], None]) -> dict[str, Any]:
    """What librdkafka is to know of the cluster; `tell` hears of errors that no call is told of.

    Raises `BadSetting`.
    """
    user, password = secret("LOG_USER"), secret("LOG_PASSWORD")
    if (user is None) != (password is None):
        raise BadSetting("Of KIXO_LOG_USER and KIXO_LOG_PASSWORD only one is set.", "Set both, or neither.")
    values: dict[str, Any] = {
        "bootstrap.servers": ",".join(map(str, place.brokers)),
        "client.id": "kixo",
        "error_cb": tell,
        # It writes to stderr, where lines are ours; what matters comes with `error_cb`.
        "log_level": 0,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1000,
        # A name may be given to another machine.
        "broker.address.ttl": 1000,
        "socket.connection.setup.timeout.ms": 3000,
    }
    if place.tls and settings.kafka_ca_file:
        values["ssl.ca.location"] = settings.kafka_ca_file
    if user is not None:
        values |= {
            "sasl.mechanism": settings.kafka_sasl_mechanism,
            "sasl.username": user,
            "sasl.password": password,
        }
    values["security.protocol"] = ("SASL_" if user else "") + ("SSL" if place.tls else "PLAINTEXT")
    return values


class Refusal:
    """Hears why brokers turn a client away: the library says it apart from the calls that then fail for another reason.

    It is told of errors as `client_settings` says; `error` is the last of those that say why.
    """

    def __init__(self) -> None:
        self.error: KafkaError | None = None

    def __call__(self, error: KafkaError) -> None:
        if error.code() in REFUSALS | UNTRUSTED:
            self.error = error


def tell_nobody(_error: KafkaError) -> None:
    """For clients of which every call says by itself what went wrong."""


def unreachable(place: KafkaPlace, error: KafkaError | KafkaException) -> OperatorError:
    """The error for people."""
    found = error.args[0] if isinstance(error, KafkaException) else error
    next_step = "Check KIXO_LOG and that its brokers run and can be reached."
    if found.code() in REFUSALS:
        next_step = "Check KIXO_LOG_USER, KIXO_LOG_PASSWORD, kafka_sasl_mechanism and what that user may do."
    if found.code() in UNTRUSTED:
        next_step = "Check KIXO_LOG, and kafka_ca_file, which has to hold the certificate of who signed Kafka's."
    return LogUnreachable(f"Kafka's topic {place.topic} cannot be used: {found.str().rstrip('.')}.", next_step)


@contextmanager
def asking(place: KafkaPlace) -> Iterator[None]:
    """Around calls of the library: its errors become `OperatorError`."""
    try:
        yield
    except KafkaException as error:
        raise unreachable(place, error) from error
