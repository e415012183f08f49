"""The registry in a PostgreSQL database, for the nodes of one installation: transactions, bounds, and faults in words.

- A transaction that reads is of one moment (REPEATABLE READ). One that writes holds an advisory lock until its end, and
  each of its statements sees what was committed before (READ COMMITTED): so of two nodes one comes after the other,
  and what it finds is what it changes. New tables and migrations are made under the same lock.
- Every wait has a bound. The server ends statements, waits for locks and forgotten transactions; where it is paused,
  or packets go nowhere, the client gives the connection up.
- Connections hold no state of a session, so a pooler in transaction mode may stand in between.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, QueuePool, create_engine, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection

from kixo.errors import BadArgument, DataFolderError, OperatorError, RegistryLocked, RegistryUnreachable
from kixo.places import PostgreSQLPlace, secret
from kixo.registry.store import Mark

CONNECT_S_MAX = 3
# A snapshot of 65,536 projects takes well under a second.
STATEMENT_S_MAX = 5.0
# Somewhat later than the server's own bound, which says more.
ANSWER_S_MAX = STATEMENT_S_MAX + 1.0
FORGOTTEN_S_MAX = 10.0
# Threads of a process that ask at one time.
CONNECTIONS_MAX = 4
# "kixo" in ASCII: the lock that whoever writes holds, in this database.
WRITING = 0x6B69786F
NO_TABLE = {"42P01", "3F000"}
LOCKED = {"55P03", "57014", "40001", "40P01"}
# Their identity is that of a table: one that was restored from a backup is another, even at the same revision.
MARK = text("SELECT revision, CAST(tableoid AS bigint) AS identity FROM state")


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is given up where an answer does not come in time."""

    def wait(self, gen: PQGen[Any], interval: float = 0.1, timeout: float | None = None) -> Any:
        """Runs a generator of the library; raises `psycopg.OperationalError`."""
        try:
            return super().wait(gen, interval, ANSWER_S_MAX if timeout is None else timeout)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                # Its answer may still come, and would be taken for that to another question.
                self.close()
            raise


class PostgreSQL:
    """A registry in a database: a `Store`. Others that write are waited for up to `wait_s` seconds."""

    def __init__(self, place: PostgreSQLPlace, wait_s: float) -> None:
        self._place = place
        self._engine = _open_engine(place, wait_s)
        self._writing_engine = self._engine.execution_options(isolation_level="READ COMMITTED")
        self._asking_engine = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    def __str__(self) -> str:
        return _name(self._place)

    def create(self, set_up: Callable[[Connection], None]) -> None:
        """Makes the tables, unless they are there."""
        with self.writing() as connection:
            if not inspect(connection).has_table("state"):
                set_up(connection)

    def close(self) -> None:
        """See `Store`."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """See `Store`."""
        with _faults(self._place), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """See `Store`."""
        with _faults(self._place), self._writing_engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITING})
            yield connection

    def mark(self) -> Mark:
        """See `Store`."""
        with _faults(self._place), self._asking_engine.connect() as connection:
            found = connection.execute(MARK).one()
            return Mark(found.identity, found.revision)

    def replaced(self) -> bool:
        """See `Store`: a connection leads to whatever is there now."""
        return False


def _open_engine(place: PostgreSQLPlace, wait_s: float) -> Engine:
    options = {
        "statement_timeout": STATEMENT_S_MAX,
        "lock_timeout": max(wait_s, 0.1),
        "idle_in_transaction_session_timeout": FORGOTTEN_S_MAX,
    }

    def connect() -> BoundedConnection:
        return BoundedConnection.connect(
            host=",".join(address.host for address in place.addresses),
            port=",".join(str(address.port) for address in place.addresses),
            user=place.user,
            dbname=place.database,
            # Read anew for each connection, so that a password that was changed is taken up.
            password=secret("REGISTRY_PASSWORD"),
            connect_timeout=CONNECT_S_MAX,
            application_name="kixo",
            options=" ".join(f"-c {name}={round(seconds * 1000)}" for name, seconds in options.items()),
            # A statement that is prepared belongs to a session.
            prepare_threshold=None,
            **dict(place.options),  # type: ignore[arg-type]
        )

    engine = create_engine(
        "postgresql+psycopg://",
        creator=connect,
        poolclass=QueuePool,
        pool_size=CONNECTIONS_MAX,
        max_overflow=0,
        pool_timeout=max(wait_s, 0.1),
        pool_pre_ping=True,
        isolation_level="REPEATABLE READ",
    )
    # `IN (VALUES …)`, which PostgreSQL looks up in a hash, where a list of tuples is compared one by one.
    engine.dialect.tuple_in_values = True
    return engine


@contextmanager
def _faults(place: PostgreSQLPlace) -> Iterator[None]:
    """Turns what PostgreSQL and its driver complain of into an `OperatorError`."""
    try:
        yield
    except DBAPIError as error:
        raise _fault(place, error.orig) from error
    except NoConnection as error:
        raise RegistryLocked(f"Too many ask {_name(place)} at once.", "Try again in a moment.") from error


def _fault(place: PostgreSQLPlace, cause: BaseException | None) -> OperatorError:
    state = getattr(cause, "sqlstate", None) or ""
    if state in LOCKED:
        return RegistryLocked(
            f"Another process holds {_name(place)}.", "Wait for it to end, or stop it, then try again."
        )
    if state in NO_TABLE:
        return DataFolderError(
            f"There is no registry in {_name(place)}.",
            "Make one with 'kixo project create' or 'kixo serve', or correct KIXO_REGISTRY.",
        )
    if isinstance(cause, psycopg.DataError):
        return BadArgument("That has a character in it which the registry cannot keep.", "Leave it out.")
    reason = " ".join(str(cause).split()).rstrip(".?") or "no reason was given"
    return RegistryUnreachable(
        f"{_name(place).capitalize()} cannot be used: {reason}.",
        "Check PostgreSQL and the way to it; until then events are taken with what was known last.",
    )


def _name(place: PostgreSQLPlace) -> str:
    return f"the registry's database {place.database} at {', '.join(map(str, place.addresses))}"
