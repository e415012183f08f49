"""The tables of the registry as they stand in its file, and how an older file becomes one of today.

Version 2 added the number of a key and the tables of the console. A migration is one transaction, so a file is always
of one version as a whole; and of several processes that find an older file, one migrates it.
"""

from collections.abc import Callable

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    func,
    insert,
    inspect,
    select,
    table,
    text,
    update,
)

SCHEMA_VERSION = 2
NAME_LENGTH_MAX = 200


def _text(length: int) -> String:
    """Text that is compared and sorted byte by byte, whatever the language of a database."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


SCHEMA = MetaData()
STATE = Table(
    "state",
    SCHEMA,
    Column("schema_version", Integer, nullable=False),
    Column("revision", BigInteger, nullable=False),
)
PROJECTS = Table(
    "projects",
    SCHEMA,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("id", _text(128), nullable=False, unique=True),
    Column("name", _text(NAME_LENGTH_MAX), nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
)
KEYS = Table(
    "keys",
    SCHEMA,
    Column("id", _text(32), primary_key=True),
    Column("number", Integer, nullable=False, unique=True),
    Column("project_number", ForeignKey("projects.number"), nullable=False, index=True),
    Column("hash", _text(64), nullable=False, unique=True),
    Column("hint", _text(4), nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("revoked_at_us", BigInteger),
)
# One row, made on first need: what sessions of the console are signed with.
SESSION_SECRETS = Table("session_secrets", SCHEMA, Column("secret", _text(64), primary_key=True))
LOGIN_TOKENS = Table(
    "login_tokens",
    SCHEMA,
    Column("hash", _text(64), primary_key=True),
    Column("expires_at_us", BigInteger, nullable=False),
)
READ_TOKENS = Table(
    "read_tokens",
    SCHEMA,
    Column("id", _text(32), primary_key=True),
    Column("hash", _text(64), nullable=False, unique=True),
    Column("hint", _text(4), nullable=False),
    Column("name", _text(NAME_LENGTH_MAX), nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("revoked_at_us", BigInteger),
)
SAVED_QUERIES = Table(
    "saved_queries",
    SCHEMA,
    Column("id", _text(32), primary_key=True),
    Column("name", _text(NAME_LENGTH_MAX), nullable=False, unique=True),
    Column("sql", Text, nullable=False),
    Column("chart", Text, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("changed_at_us", BigInteger, nullable=False),
)
REPLAYS = Table(
    "replays",
    SCHEMA,
    Column("log_id", _text(32), primary_key=True),
    Column("log_partition", Integer, primary_key=True),
    Column("log_offset", BigInteger, primary_key=True),
    Column("log_index", Integer, primary_key=True),
    Column("replayed_at_us", BigInteger, nullable=False),
    Column("outcome", _text(NAME_LENGTH_MAX), nullable=False),
)


def set_up(connection: Connection) -> None:
    """Makes the tables of a new registry."""
    SCHEMA.create_all(connection)
    connection.execute(insert(STATE).values(schema_version=SCHEMA_VERSION, revision=0))


def schema_version(connection: Connection) -> int:
    """The version of the registry's tables; 0 where there is none."""
    return connection.scalar(select(STATE.c.schema_version)) or 0


def migrate(connection: Connection) -> None:
    """Brings an older registry to today's version, step by step, within the transaction that the caller has begun.

    Its changes are counted, so that workers take a new snapshot.
    """
    # Another process may have been faster while this one waited for the lock.
    while (step := MIGRATIONS.get(schema_version(connection))) is not None:
        step(connection)


def _from_1(connection: Connection) -> None:
    for index in inspect(connection).get_indexes("keys"):
        connection.execute(text(f"DROP INDEX {index['name']}"))
    connection.execute(text("ALTER TABLE keys RENAME TO keys_1"))
    SCHEMA.create_all(connection)
    # Keys get their numbers in the order in which they were made.
    columns = [column for column in KEYS.c if column.name != "number"]
    old = table("keys_1", *(Column(column.name, column.type) for column in columns))
    number = func.row_number().over(order_by=(old.c.created_at_us, old.c.id))
    names = [column.name for column in columns]
    connection.execute(insert(KEYS).from_select([*names, "number"], select(*(old.c[name] for name in names), number)))
    connection.execute(text("DROP TABLE keys_1"))
    connection.execute(update(STATE).values(schema_version=2, revision=STATE.c.revision + 1))


# From each older version to the next. No registry in PostgreSQL was ever of version 1.
MIGRATIONS: dict[int, Callable[[Connection], None]] = {1: _from_1}
