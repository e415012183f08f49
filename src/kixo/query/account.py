"""What the lake says of itself: the queries of `ledger` run, and each difference as a sentence."""

from collections.abc import Iterator
from typing import Any

from kixo.query.engine import QueryEngine
from kixo.query.ledger import Bounds, copies, copy_passes, misplaced, overlaps, row_counts, totals, unbalanced

# A table, and the ledger's column that counts its rows.
COUNTED = (("events", "stored"), ("rejected", "rejected"))


def read_rows(engine: QueryEngine, sql: str) -> list[dict[str, Any]]:
    """All rows of a small result, as dicts by column."""
    rows: list[dict[str, Any]] = engine.run(sql).table().to_pylist()
    return rows


def project_totals(engine: QueryEngine, bounds: Bounds) -> dict[str, dict[str, int]]:
    """By project: the ledger's `received` and `duplicate`, and the rows that are there as `stored` and `rejected`."""
    accounts: dict[str, dict[str, int]] = {}
    for row in read_rows(engine, totals(bounds)):
        accounts[row["project_id"]] = {"received": row["received"], "duplicate": row["duplicate"]}
    for table, column in COUNTED:
        for row in read_rows(engine, row_counts(bounds, table)):
            accounts.setdefault(row["project_id"], {})[column] = row["found"]
    return accounts


def lake_differences(engine: QueryEngine, bounds: Bounds, rows: int, memory_bytes: int) -> Iterator[str]:
    """A sentence for each difference within the lake, which holds `rows` events; memory is in bytes."""
    yield from _ledger_differences(engine, bounds)
    for table, column in COUNTED:
        for row in read_rows(engine, misplaced(bounds, table, column)):
            yield _misplaced(row, table, column)
    yield from _copies(engine, copy_passes(rows, memory_bytes))


def place(partition: int, first: int, end: int) -> str:
    """A range of the log in words; `end` is one past its last offset."""
    return f"partition {partition}, offsets {first} to {end - 1}"


def _ledger_differences(engine: QueryEngine, bounds: Bounds) -> Iterator[str]:
    for row in read_rows(engine, unbalanced(bounds)):
        where = place(row["log_partition"], row["first_offset"], row["end_offset"])
        yield (
            f"The ledger does not add up for {row['project_id']} in {where}: {row['received']} received, but "
            f"{row['stored']} stored, {row['duplicate']} duplicate and {row['rejected']} rejected."
        )
    for row in read_rows(engine, overlaps(bounds)):
        where = place(row["log_partition"], row["first_offset"], row["end_offset"])
        yield f"The ledger counts offsets twice: {where} begins before {row['previous_end']}, where another load ends."


def _misplaced(row: dict[str, Any], table: str, column: str) -> str:
    project, found = row["project_id"], row["found"]
    if row["stop_offset"] is None:
        start = f"partition {row['log_partition']} from offset {row['start_offset']} on"
        return f"{found} rows of `{table}` of {project} in {start} belong to no load of the ledger."
    where = place(row["log_partition"], row["start_offset"], row["stop_offset"])
    return f"`{table}` has {found} rows of {project} in {where}; the ledger says {row['expected']} {column}."


def _copies(engine: QueryEngine, passes: int) -> Iterator[str]:
    for number in range(passes):
        for row in read_rows(engine, copies(passes, number)):
            yield f"`events` has {row['found']} rows of {row['project_id']} with the one identity {row['identity']}."
