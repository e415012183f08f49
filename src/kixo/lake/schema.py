"""The tables of the lake: their columns, their partitioning, and a sentence for each.

Types are those that every reader of Delta tables knows: no unsigned integers, no dictionaries, instants in UTC with
microseconds. They stand here by Arrow's names, so that the private port can show them without loading Arrow.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

DAY, INSTANT, TEXT, BYTES, INTEGER, LONG = "date32[day]", "timestamp[us, tz=UTC]", "string", "binary", "int32", "int64"
PARTITION_COLUMN = "date"


@dataclass(frozen=True)
class Column:
    """A column: its name, the name of its Arrow type, whether it may be null, and what it holds."""

    name: str
    type: str
    nullable: bool
    sentence: str


@dataclass(frozen=True)
class Table:
    """A table: its name, what a row is, and its columns in order. All tables are partitioned by `date`."""

    name: str
    sentence: str
    columns: tuple[Column, ...]

    @property
    def schema(self) -> "pa.Schema":
        """The Arrow schema, partition column included."""
        return _arrow_schema(self.columns)

    @property
    def file_schema(self) -> "pa.Schema":
        """The Arrow schema of the table's files: the partition column is in their path, not in them."""
        return _arrow_schema(tuple(c for c in self.columns if c.name != PARTITION_COLUMN))


def _arrow_schema(columns: tuple[Column, ...]) -> "pa.Schema":
    import pyarrow as pa

    instant = pa.timestamp("us", "UTC")
    types = {c.type: instant if c.type == INSTANT else pa.type_for_alias(c.type) for c in columns}
    return pa.schema([pa.field(c.name, types[c.type], c.nullable) for c in columns])


_DATE = Column("date", DAY, False, "The UTC day of `timestamp`; 1970-01-01 for events older than the horizon.")
_POSITION = (
    Column("log_partition", INTEGER, False, "The log partition the request was written to."),
    Column("log_offset", LONG, False, "The request's offset in that partition."),
)

EVENTS = Table(
    "events",
    "One row per event, each exactly once.",
    (
        _DATE,
        Column("project_id", TEXT, False, "The project."),
        Column("environment", TEXT, False, "production, staging or development."),
        Column("bundle_id", TEXT, False, "The app's bundle identifier."),
        Column("platform", TEXT, False, "ios, android or web."),
        Column("event_type", TEXT, False, "The event's type."),
        Column("event_name", TEXT, False, "The event's name."),
        Column("device_id", TEXT, False, "The device."),
        Column("session_id", TEXT, False, "The session, as the client names it."),
        Column("timestamp", INSTANT, False, "When it happened, corrected for the device's clock."),
        Column("client_timestamp", INSTANT, False, "When it happened by the device's clock, as sent."),
        Column("sent_at", INSTANT, True, "When the batch was sent by the device's clock."),
        Column("received_at", INSTANT, False, "When the request's headers arrived."),
        Column("clock_rule", TEXT, False, "Which rule turned `client_timestamp` into `timestamp`."),
        Column("event_id", TEXT, True, "The identity that the client gave, if it gave one."),
        Column("identity", BYTES, False, "The 16 bytes by which copies are known."),
        Column("properties", TEXT, False, "The properties, JSON text as sent."),
        *_POSITION,
        Column("log_index", INTEGER, False, "The event's place in its request's batch, from 0."),
    ),
)

REJECTED = Table(
    "rejected",
    "One row per event that was not taken, with the reason.",
    (
        Column("date", DAY, False, "The UTC day of `received_at`."),
        Column("project_id", TEXT, False, "The project."),
        Column("environment", TEXT, False, "production, staging or development."),
        Column("bundle_id", TEXT, False, "The app's bundle identifier."),
        Column("platform", TEXT, False, "ios, android or web."),
        Column("sent_at", INSTANT, True, "When the batch was sent by the device's clock."),
        Column("received_at", INSTANT, False, "When the request's headers arrived."),
        Column("field", TEXT, True, "The member that is wrong; null: the event itself."),
        Column("code", TEXT, False, "The stable reason."),
        Column("message", TEXT, False, "What is wrong, the limit and the value, and what to do."),
        Column("event", TEXT, False, "The event's JSON text as sent."),
        *_POSITION,
        Column("log_index", INTEGER, False, "The event's place in its request's batch, from 0."),
    ),
)

LOADS = Table(
    "loads",
    "The ledger: for each load, partition and project, what came in and what became of it.",
    (
        Column("date", DAY, False, "The UTC day of `loaded_at`."),
        Column("loaded_at", INSTANT, False, "When the load was committed."),
        Column("log_id", TEXT, False, "The log that was read."),
        Column("log_partition", INTEGER, False, "The partition of it."),
        Column("first_offset", LONG, False, "The first offset of the load."),
        Column("end_offset", LONG, False, "The position after the load: one past its last offset."),
        Column("project_id", TEXT, False, "The project."),
        Column("received", LONG, False, "Events in the log: stored + duplicate + rejected."),
        Column("stored", LONG, False, "Events that became rows of `events`."),
        Column("duplicate", LONG, False, "Copies of events that were there already."),
        Column("rejected", LONG, False, "Events that became rows of `rejected`."),
    ),
)

TABLES = (EVENTS, REJECTED, LOADS)
