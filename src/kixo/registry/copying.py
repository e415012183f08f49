"""Copying a whole registry into another: all of it in one transaction, so that nobody ever sees a part."""

from sqlalchemy import Connection, delete, func, insert, select, update

from kixo.errors import DataFolderError
from kixo.registry import Registry
from kixo.registry.schema import KEYS, PROJECTS, SCHEMA, STATE

ROWS_AT_ONCE = 1000


def copy_registry(source: Registry, target: Registry) -> int:
    """Makes `target` what `source` is, and returns how many projects it has; raises `DataFolderError`.

    A target with projects or keys that the source does not have is another registry, and refused.
    """
    with source.reading() as reading, target.writing() as writing:
        for table in (PROJECTS, KEYS):
            _refuse_others(reading, writing, table.c.id)
        revision = max(_revision(reading), _revision(writing)) + 1
        for table in reversed(SCHEMA.sorted_tables):
            if table is not STATE:
                writing.execute(delete(table))
        for table in SCHEMA.sorted_tables:
            if table is STATE:
                continue
            for rows in reading.execute(select(table)).mappings().partitions(ROWS_AT_ONCE):
                writing.execute(insert(table), [dict(row) for row in rows])
        # Higher than any that a worker may have seen, so that each takes a new snapshot.
        writing.execute(update(STATE).values(revision=revision))
        return writing.scalar(select(func.count()).select_from(PROJECTS)) or 0


def _refuse_others(reading: Connection, writing: Connection, id_column: object) -> None:
    known = set(reading.scalars(select(id_column)))  # type: ignore[call-overload]
    others = set(writing.scalars(select(id_column))) - known  # type: ignore[call-overload]
    if others:
        raise DataFolderError(
            f"The registry to move to has {len(others)} projects or keys that the old one does not have.",
            "Choose an empty one; a registry is never merged with another.",
        )


def _revision(connection: Connection) -> int:
    return connection.scalar(select(STATE.c.revision)) or 0
