"""Queries: SQL over the lake, read-only, with a bound on memory, time and disk."""

from kixo.query.engine import (
    QueryCaps,
    QueryEngine,
    Result,
    Snapshot,
    lake_snapshot,
    open_query,
    out_of_memory,
    overrun,
)

__all__ = [
    "QueryCaps",
    "QueryEngine",
    "Result",
    "Snapshot",
    "lake_snapshot",
    "open_query",
    "out_of_memory",
    "overrun",
]
