"""The tables of the lake: their columns, their partitioning, and a sentence for each.

Types are those that every reader of Delta tables knows: no unsigned integers, no dictionaries, instants in UTC with
microseconds.
"""

from dataclasses import dataclass

import pyarrow as pa

INSTANT = pa.timestamp("us", "UTC")
PARTITION_COLUMN = "date"


@dataclass(frozen=True)
class Column:
    """A column: its name, Arrow type, whether it may be null, and what it holds."""

    name: str
    type: pa.DataType
    nullable: bool
    sentence: str


@dataclass(frozen=True)
class Table:
    """A table: its name, what a row is, and its columns in order. All tables are partitioned by `date`."""

    name: str
    sentence: str
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema, partition column included."""
        return pa.schema([pa.field(c.name, c.type, c.nullable) for c in self.columns])

    @property
    def file_schema(self) -> pa.Schema:
        """The Arrow schema of the table's files: the partition column is in their path, not in them."""
        return pa.schema([pa.field(c.name, c.type, c.nullable) for c in self.columns if c.name != PARTITION_COLUMN])


_DATE = Column("date", pa.date32(), False, "The UTC day of `timestamp`; 1970-01-01 for events older than the horizon.")
_POSITION = (
    Column("log_partition", pa.int32(), False, "The log partition the request was written to."),
    Column("log_offset", pa.int64(), False, "The request's offset in that partition."),
)

EVENTS = Table(
    "events",
    "One row per event, each exactly once.",
    (
        _DATE,
        Column("project_id", pa.string(), False, "The project."),
        Column("environment", pa.string(), False, "production, staging or development."),
        Column("bundle_id", pa.string(), False, "The app's bundle identifier."),
        Column("platform", pa.string(), False, "ios, android or web."),
        Column("event_type", pa.string(), False, "The event's type."),
        Column("event_name", pa.string(), False, "The event's name."),
        Column("device_id", pa.string(), False, "The device."),
        Column("session_id", pa.string(), False, "The session, as the client names it."),
        Column("timestamp", INSTANT, False, "When it happened, corrected for the device's clock."),
        Column("client_timestamp", INSTANT, False, "When it happened by the device's clock, as sent."),
        Column("sent_at", INSTANT, True, "When the batch was sent by the device's clock."),
        Column("received_at", INSTANT, False, "When the request's headers arrived."),
        Column("clock_rule", pa.string(), False, "Which rule turned `client_timestamp` into `timestamp`."),
        Column("event_id", pa.string(), True, "The identity that the client gave, if it gave one."),
        Column("identity", pa.binary(), False, "The 16 bytes by which copies are known."),
        Column("properties", pa.string(), False, "The properties, JSON text as sent."),
        *_POSITION,
        Column("log_index", pa.int32(), False, "The event's place in its request's batch, from 0."),
    ),
)

REJECTED = Table(
    "rejected",
    "One row per event that was not taken, with the reason.",
    (
        Column("date", pa.date32(), False, "The UTC day of `received_at`."),
        Column("project_id", pa.string(), False, "The project."),
        Column("environment", pa.string(), False, "production, staging or development."),
        Column("bundle_id", pa.string(), False, "The app's bundle identifier."),
        Column("platform", pa.string(), False, "ios, android or web."),
        Column("sent_at", INSTANT, True, "When the batch was sent by the device's clock."),
        Column("received_at", INSTANT, False, "When the request's headers arrived."),
        Column("field", pa.string(), True, "The member that is wrong; null: the event itself."),
        Column("code", pa.string(), False, "The stable reason."),
        Column("message", pa.string(), False, "What is wrong, the limit and the value, and what to do."),
        Column("event", pa.string(), False, "The event's JSON text as sent."),
        *_POSITION,
        Column("log_index", pa.int32(), False, "The event's place in its request's batch, from 0."),
    ),
)

LOADS = Table(
    "loads",
    "The ledger: for each load, partition and project, what came in and what became of it.",
    (
        Column("date", pa.date32(), False, "The UTC day of `loaded_at`."),
        Column("loaded_at", INSTANT, False, "When the load was committed."),
        Column("log_id", pa.string(), False, "The log that was read."),
        Column("log_partition", pa.int32(), False, "The partition of it."),
        Column("first_offset", pa.int64(), False, "The first offset of the load."),
        Column("end_offset", pa.int64(), False, "The position after the load: one past its last offset."),
        Column("project_id", pa.string(), False, "The project."),
        Column("received", pa.int64(), False, "Events in the log: stored + duplicate + rejected."),
        Column("stored", pa.int64(), False, "Events that became rows of `events`."),
        Column("duplicate", pa.int64(), False, "Copies of events that were there already."),
        Column("rejected", pa.int64(), False, "Events that became rows of `rejected`."),
    ),
)

TABLES = (EVENTS, REJECTED, LOADS)
