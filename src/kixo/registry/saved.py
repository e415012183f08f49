"""Saved queries: SQL that somebody gave a name, with the chart that was chosen for its result."""

from msgspec import Struct
from msgspec.structs import asdict, replace
from sqlalchemy import Connection, delete, func, insert, select, update

from kixo.errors import BadArgument
from kixo.registry import Registry
from kixo.registry.schema import NAME_LENGTH_MAX, SAVED_QUERIES

SAVED_QUERIES_MAX = 1000
SQL_LENGTH_MAX = 100_000
CHART_LENGTH_MAX = 2000


class SavedQuery(Struct, frozen=True):
    """A saved query. `chart` is text that the page understands, empty for a table; times are in microseconds."""

    id: str
    name: str
    sql: str
    chart: str
    created_at_us: int
    changed_at_us: int


def save_query(registry: Registry, name: str, sql: str, chart: str = "", id: str | None = None) -> SavedQuery:
    """Saves a new query, or changes the one of that id; raises `BadArgument`."""
    name = name.strip()
    _check(name, sql, chart)
    now_us = registry.now_us()
    with registry.writing() as connection:
        _refuse_known_name(connection, name, id)
        if id is not None:
            query = replace(_require(connection, id), name=name, sql=sql, chart=chart, changed_at_us=now_us)
            connection.execute(update(SAVED_QUERIES).where(SAVED_QUERIES.c.id == id).values(asdict(query)))
            return query
        if (connection.scalar(select(func.count()).select_from(SAVED_QUERIES)) or 0) >= SAVED_QUERIES_MAX:
            raise BadArgument(f"There are {SAVED_QUERIES_MAX} saved queries, which is the most.", "Delete some.")
        query = SavedQuery(f"q_{registry.random_text(12)}", name, sql, chart, now_us, now_us)
        connection.execute(insert(SAVED_QUERIES).values(asdict(query)))
    return query


def list_saved_queries(registry: Registry) -> list[SavedQuery]:
    """Every saved query, by name."""
    with registry.reading() as connection:
        rows = connection.execute(select(SAVED_QUERIES).order_by(SAVED_QUERIES.c.name)).mappings()
        return [SavedQuery(**row) for row in rows]


def find_saved_query(registry: Registry, id: str) -> SavedQuery | None:
    """The saved query of that id."""
    with registry.reading() as connection:
        return _find(connection, id)


def delete_saved_query(registry: Registry, id: str) -> SavedQuery:
    """Deletes a saved query for good, and returns what it was; raises `BadArgument`."""
    with registry.writing() as connection:
        query = _require(connection, id)
        connection.execute(delete(SAVED_QUERIES).where(SAVED_QUERIES.c.id == id))
    return query


def _check(name: str, sql: str, chart: str) -> None:
    if not 1 <= len(name) <= NAME_LENGTH_MAX or not name.isprintable():
        raise BadArgument("That cannot be a query's name.", f"Use 1 to {NAME_LENGTH_MAX} printable characters.")
    if not sql.strip() or len(sql) > SQL_LENGTH_MAX:
        raise BadArgument(f"The query has {len(sql)} characters.", f"Save 1 to {SQL_LENGTH_MAX}.")
    if len(chart) > CHART_LENGTH_MAX:
        raise BadArgument(f"The chart has {len(chart)} characters.", f"Save up to {CHART_LENGTH_MAX}.")


def _refuse_known_name(connection: Connection, name: str, id: str | None) -> None:
    known = connection.scalar(select(SAVED_QUERIES.c.id).where(SAVED_QUERIES.c.name == name))
    if known not in (None, id):
        raise BadArgument(f"There is a saved query {name!r} already.", "Choose another name, or change that one.")


def _require(connection: Connection, id: str) -> SavedQuery:
    query = _find(connection, id)
    if query is None:
        raise BadArgument("There is no such saved query.", "It may have been deleted; load the page again.")
    return query


def _find(connection: Connection, id: str) -> SavedQuery | None:
    row = connection.execute(select(SAVED_QUERIES).where(SAVED_QUERIES.c.id == id)).mappings().one_or_none()
    return None if row is None else SavedQuery(**row)
