"""Where log, lake, registry and rate limit are kept: places by URL, and the secrets that open them.

A place is a setting of text. Empty, it means the local form inside the data folder. A URL names the rest:

    log       kafka://h1:9092,h2:9092/topic       kafka+ssl:// for TLS
    lake      s3://bucket/prefix                  or a folder: /path, file:///path
    registry  postgresql://user@host:5432/db      ?sslmode=verify-full&sslrootcert=/path for TLS
    limits    redis://host:6379/0                 rediss:// for TLS

A URL never holds a secret: settings travel on the command lines of child processes and stand in files that people
share. Secrets come from the environment, or from a file that a variable names (`SECRETS`); S3 has its own, the
`AWS_…` variables and files that its libraries read.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from kixo.errors import BadSetting

KAFKA_PORT = 9092
POSTGRESQL_PORT = 5432
REDIS_PORT = 6379
# What may stand after the question mark of a registry's URL, as libpq knows it; nothing of it is a secret.
POSTGRESQL_OPTIONS = ("sslmode", "sslrootcert", "sslcert", "sslkey", "target_session_attrs")
# Kafka's own rule for the names of topics.
TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# A host's name or address (IPv6 in brackets), and a port.
ADDRESS = re.compile(r"(?P<host>[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True)
class Address:
    """A host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class KafkaPlace:
    """A topic of a Kafka cluster, found by asking any of the brokers."""

    brokers: tuple[Address, ...]
    topic: str
    tls: bool


@dataclass(frozen=True)
class S3Place:
    """A prefix of a bucket; no slash at its ends, empty for the whole bucket."""

    bucket: str
    prefix: str


@dataclass(frozen=True)
class FolderPlace:
    """A folder that is not the one inside the data folder."""

    path: Path


@dataclass(frozen=True)
class PostgreSQLPlace:
    """A database of a PostgreSQL server, or of whichever of several is the right one; options as libpq names them."""

    addresses: tuple[Address, ...]
    user: str
    database: str
    options: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class RedisPlace:
    """A numbered database of a Redis server."""

    address: Address
    database: int
    tls: bool


@dataclass(frozen=True)
class Secret:
    """A variable of the environment that is no setting, whether a file may hold it instead, and what it is."""

    name: str
    in_file: bool
    sentence: str


SECRETS: tuple[Secret, ...] = (
    Secret("LOG_USER", False, "The user that Kafka knows (SASL); without one, nobody is told who we are."),
    Secret("LOG_PASSWORD", True, "That user's password."),
    Secret("REGISTRY_PASSWORD", True, "The password of the user in the registry's URL."),
    Secret("LIMITS_USER", False, "The user that Redis knows (ACL); without one, the default user."),
    Secret("LIMITS_PASSWORD", True, "That user's password."),
)


@contextmanager
def distributed(setting: str) -> Iterator[None]:
    """Turns an import that fails into the sentence that says what to install for that setting: a `BadSetting`."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise BadSetting(
            f"KIXO_{setting.upper()} needs {error.name}, which is not installed.", "pip install 'kixo[distributed]'"
        ) from error


def secret_variables() -> tuple[str, ...]:
    """Every variable of the environment that may hold a secret or name its file."""
    return tuple(
        "KIXO_" + secret.name + ending for secret in SECRETS for ending in (("", "_FILE") if secret.in_file else ("",))
    )


def secret(name: str, environment: Mapping[str, str] | None = None) -> str | None:
    """The secret `name` of `SECRETS`, from its variable or the file that `…_FILE` names; None where there is none.

    Read whenever something is opened, so that a file that was replaced counts. Raises `BadSetting`.
    """
    known = {row.name: row for row in SECRETS}[name]
    variables = os.environ if environment is None else environment
    variable = f"KIXO_{known.name}"
    value, file = variables.get(variable), variables.get(variable + "_FILE") if known.in_file else None
    if value and file:
        raise BadSetting(f"Both {variable} and {variable}_FILE are set.", "Leave one of them out.")
    if file:
        value = _read_secret(variable + "_FILE", Path(file))
    return value or None


def _read_secret(variable: str, path: Path) -> str:
    try:
        value = path.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise BadSetting(f"{variable} names {path}, which cannot be read: {reason}.", "Mend it.") from error
    if not value:
        raise BadSetting(f"{variable} names {path}, which is empty.", "Write the secret into it.")
    return value


def log_place(text: str, source: str = "KIXO_LOG") -> KafkaPlace | None:
    """Where the log is; None for the local form. Raises `BadSetting`, as all of these do."""
    if not text:
        return None
    url = _split(text, source, ("kafka", "kafka+ssl"), "kafka://h1:9092,h2:9092/topic")
    _refuse_user(url, source, "KIXO_LOG_USER and KIXO_LOG_PASSWORD")
    _refuse_rest(url, source)
    topic = url.path.removeprefix("/")
    if not TOPIC.fullmatch(topic) or topic in {".", ".."}:
        raise BadSetting(f"{source} names no topic that Kafka can have.", "Write it as kafka://h1:9092,h2:9092/topic.")
    return KafkaPlace(_addresses(url.netloc, KAFKA_PORT, source), topic, url.scheme == "kafka+ssl")


def lake_place(text: str, source: str = "KIXO_LAKE") -> S3Place | FolderPlace | None:
    """Where the tables are; None for the local form."""
    if not text:
        return None
    if "://" not in text:
        return FolderPlace(Path(text))
    url = _split(text, source, ("s3", "file"), "s3://bucket/prefix, or a path")
    _refuse_user(url, source, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    _refuse_rest(url, source)
    if url.scheme == "file":
        return FolderPlace(_local_path(url, source))
    prefix = url.path.strip("/")
    if not BUCKET.fullmatch(url.netloc) or any(part in {"", ".", ".."} for part in prefix.split("/") if prefix):
        raise BadSetting(f"{source} names no bucket and prefix that S3 can have.", "Write it as s3://bucket/prefix.")
    return S3Place(url.netloc, prefix)


def registry_place(text: str, source: str = "KIXO_REGISTRY") -> PostgreSQLPlace | None:
    """Where projects and keys are; None for the local form."""
    if not text:
        return None
    url = _split(text, source, ("postgresql", "postgres"), "postgresql://user@host:5432/db")
    user, _, addresses = url.netloc.rpartition("@")
    if ":" in user:
        raise _has_password(source, "KIXO_REGISTRY_PASSWORD")
    database = unquote(url.path.removeprefix("/"))
    if not user or not database or "/" in database or url.fragment:
        raise BadSetting(
            f"{source} does not name user, host and database.", "Write it as postgresql://user@host:5432/db."
        )
    options = tuple(parse_qsl(url.query, keep_blank_values=True))
    _check_options(options, source)
    return PostgreSQLPlace(_addresses(addresses, POSTGRESQL_PORT, source), unquote(user), database, options)


def _check_options(options: tuple[tuple[str, str], ...], source: str) -> None:
    names = [name for name, _ in options]
    if {"password", "passfile"} & set(names):
        raise _has_password(source, "KIXO_REGISTRY_PASSWORD")
    for name in names:
        if name not in POSTGRESQL_OPTIONS:
            raise BadSetting(f"{source} has the option {name!r}.", f"It can have {', '.join(POSTGRESQL_OPTIONS)}.")


def limits_place(text: str, source: str = "KIXO_LIMITS") -> RedisPlace | None:
    """Where the rate limit is counted; None for the local form."""
    if not text:
        return None
    url = _split(text, source, ("redis", "rediss"), "redis://host:6379/0")
    _refuse_user(url, source, "KIXO_LIMITS_USER and KIXO_LIMITS_PASSWORD")
    _refuse_rest(url, source)
    addresses, database = _addresses(url.netloc, REDIS_PORT, source), url.path.removeprefix("/") or "0"
    if len(addresses) != 1 or not database.isascii() or not database.isdigit():
        raise BadSetting(f"{source} does not name one host and a number.", "Write it as redis://host:6379/0.")
    return RedisPlace(addresses[0], int(database), url.scheme == "rediss")


def _split(text: str, source: str, schemes: tuple[str, ...], example: str) -> SplitResult:
    # What is wrong may be a secret, so no message here repeats the text.
    try:
        url = urlsplit(text)
    except ValueError:
        url = urlsplit("")
    if url.scheme not in schemes:
        raise BadSetting(f"{source} is no URL of a kind that it can be.", f"Write it as {example}.")
    return url


def _refuse_user(url: SplitResult, source: str, variables: str) -> None:
    if "@" in url.netloc:
        raise _has_password(source, variables)


def _has_password(source: str, variables: str) -> BadSetting:
    return BadSetting(
        f"{source} has a user or password in it, which others could read on a command line.",
        f"Leave it out of the URL and set {variables}.",
    )


def _refuse_rest(url: SplitResult, source: str) -> None:
    if url.query or url.fragment:
        raise BadSetting(f"{source} has something after its path.", "Leave out what follows '?' or '#'.")


def _local_path(url: SplitResult, source: str) -> Path:
    if url.netloc not in {"", "localhost"} or url.path in {"", "/"}:
        raise BadSetting(f"{source} names no folder of this machine.", "Write it as file:///path, or as the path.")
    return Path(unquote(url.path))


def _addresses(text: str, port: int, source: str) -> tuple[Address, ...]:
    found = [ADDRESS.fullmatch(part) for part in text.split(",")]
    addresses = tuple(
        Address(match["host"].strip("[]"), int(match["port"] or port)) for match in found if match is not None
    )
    if len(addresses) != len(found) or not all(0 < address.port <= 65_535 for address in addresses):
        raise BadSetting(f"{source} has a host that is none.", "Write hosts as host:port, several with commas.")
    return addresses
