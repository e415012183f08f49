"""Queries: SQL over the lake, read-only, with a bound on memory, time and disk.

The engine is loaded when it is first named: the private port, which leaves queries to processes of their own
(`kixo.query.pool`), never loads DuckDB.
"""

from typing import TYPE_CHECKING

from kixo.query.caps import QueryCaps, out_of_memory, overrun

if TYPE_CHECKING:
    from kixo.query.engine import QueryEngine, Result, Snapshot, lake_snapshot, open_query

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


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from kixo.query import engine

    return getattr(engine, name)
