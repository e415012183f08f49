"""Making the tables: empty, with their columns, partitioned by date."""

import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from deltalake import Schema

from kixo.lake.commit import LOG_FOLDER, log_entry
from kixo.lake.format import check_format, write_format
from kixo.lake.local import lake_at
from kixo.lake.schema import PARTITION_COLUMN, TABLES, Table
from kixo.lake.store import LakeStore

# The Delta protocol that we write. A table that asks for more (deletion vectors, column mapping) would be spoiled.
READER_VERSION, WRITER_VERSION = 1, 2
# We write checkpoints, clean the log and delete files ourselves, so that all is durable and bounded. Checkpoints name
# each file that went within the last property's time; a day of them would make every checkpoint slower.
PROPERTIES = {
    "delta.enableExpiredLogCleanup": "false",
    "delta.logRetentionDuration": "interval 1 days",
    "delta.deletedFileRetentionDuration": "interval 10 minutes",
}


def create_tables(lake: LakeStore | Path) -> None:
    """Makes the tables that are not there; raises `DataFolderError` where the lake is of a newer version."""
    store = lake_at(lake)
    store.make()
    check_format(store)
    write_format(store)
    for table in TABLES:
        create_table(store.inside(table.name), table)


def create_table(store: LakeStore, table: Table) -> bool:
    """Makes one empty table in `store`, durably, and tells whether it was not there."""
    store.inside(LOG_FOLDER).make()
    entries = [file for file in store.list(LOG_FOLDER) if file.path.removeprefix(f"{LOG_FOLDER}/")[:20].isdigit()]
    if any(file.size_bytes for file in entries):
        return False
    # A crash while other programs, or earlier versions, wrote the first entry leaves it empty.
    store.delete(file.path for file in entries)
    try:
        store.create(log_entry(0), _first_entry(table, time.time_ns() // 1_000_000))
    except FileExistsError:
        # Another server made it just now.
        return False
    return True


def _first_entry(table: Table, time_ms: int) -> bytes:
    lines: list[dict[str, Any]] = [
        {"commitInfo": {"timestamp": time_ms, "operation": "CREATE TABLE", "operationParameters": {}, "kixoLines": 3}},
        {"protocol": {"minReaderVersion": READER_VERSION, "minWriterVersion": WRITER_VERSION}},
        {"metaData": _metadata(table, time_ms)},
    ]
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def _metadata(table: Table, time_ms: int) -> dict[str, Any]:
    return {
        "id": str(uuid4()),
        "description": table.sentence,
        "format": {"provider": "parquet", "options": {}},
        "schemaString": Schema.from_arrow(table.schema).to_json(),
        "partitionColumns": [PARTITION_COLUMN],
        "createdTime": time_ms,
        "configuration": PROPERTIES,
    }
