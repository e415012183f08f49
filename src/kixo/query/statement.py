"""What may be run: one statement that only reads.

DuckDB lets a file be written from inside a SELECT (`WITH x AS (COPY … TO 'file') FROM x`), and calls that a SELECT. It
allows it at the outermost level only, so every query is run as a subquery; DuckDB then refuses it by itself.
"""

import re
from typing import NamedTuple

import duckdb

from kixo.errors import QueryFailed
from kixo.query.mistakes import character, mistake
from kixo.query.views import view_names

READ_ONLY = "Queries only read: send one SELECT over " + ", ".join(view_names()) + "."

EXPLAIN = "EXPLAIN"
_EXPLAIN = re.compile(r"\s*explain(\s+analyze)?\s+(?![(\s])", re.IGNORECASE)


class Statement(NamedTuple):
    """A query `sql` and the text as which it is run, which holds the whole of `asked` as a subquery."""

    sql: str
    asked: str
    text: str

    def explained(self) -> "Statement":
        """As it is run where only its plan is wanted."""
        return self if self.text.startswith(EXPLAIN) else self._replace(text=f"{EXPLAIN} {self.text}")

    def position(self, place: int) -> int | None:
        """The character of the query at a byte of the text that is run, where the two have it in common."""
        sql, asked = self.sql.encode(), self.asked.encode()
        inside = place - self.text.encode().index(asked)
        return character(self.sql, sql.find(asked) + inside) if 0 <= inside <= len(asked) and asked in sql else None


def read_only(connection: duckdb.DuckDBPyConnection, sql: str) -> Statement:
    """The statement and how it is run; raises `QueryFailed` where it is not exactly one that reads."""
    _check_text(sql)
    statement = _only_statement(connection, sql)
    if _kind(statement) == duckdb.StatementType.EXPLAIN:
        return _explained(connection, sql, statement.query)
    _check_reads(statement)
    return _as_subquery(sql, statement, "")


def _check_text(sql: str) -> None:
    try:
        sql.encode()
    except UnicodeEncodeError:
        raise QueryFailed("The query is not UTF-8.", "Check the encoding of the terminal or the file.") from None


def _explained(connection: duckdb.DuckDBPyConnection, sql: str, explain: str) -> Statement:
    found = _EXPLAIN.match(explain)
    if found is None:
        raise QueryFailed("Only EXPLAIN and EXPLAIN ANALYZE are run, without options.", READ_ONLY)
    statement = _only_statement(connection, explain[found.end() :])
    _check_reads(statement)
    return _as_subquery(sql, statement, f"{EXPLAIN} {found[1] or ''} ")


def _as_subquery(sql: str, statement: duckdb.Statement, before: str) -> Statement:
    asked = _without_end(statement.query)
    return Statement(sql, asked, f"{before}SELECT * FROM (\n{asked}\n)")


def _only_statement(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.Statement:
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        sentence, place = mistake(error)
        position = None if place is None else character(sql, place)
        raise QueryFailed(f"The query is not valid SQL: {sentence}.", READ_ONLY, position) from error
    if len(statements) != 1:
        raise QueryFailed(f"There are {len(statements)} statements, and one is run at a time.", READ_ONLY)
    return statements[0]


def _kind(statement: duckdb.Statement) -> duckdb.StatementType:
    try:
        return statement.type
    except ValueError:
        # The library has no name for some kinds, such as UPDATE EXTENSIONS. None of those reads.
        raise QueryFailed("The statement is of a kind that is not run.", READ_ONLY) from None


def _check_reads(statement: duckdb.Statement) -> None:
    kind = _kind(statement)
    if kind == duckdb.StatementType.MULTI:
        raise QueryFailed("A PIVOT has to name its values here.", "Write PIVOT … ON column IN (value, …).")
    if kind != duckdb.StatementType.SELECT:
        raise QueryFailed(f"The statement is {_article(kind.name)}, which is not run.", READ_ONLY)
    if statement.named_parameters:
        raise QueryFailed("The query has parameters, and nothing gives them values.", "Write the values into it.")


def _article(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def _without_end(sql: str) -> str:
    """The text up to the semicolon that ends it; the tokenizer counts in bytes of UTF-8."""
    data = sql.encode()
    for place, kind in duckdb.tokenize(sql):
        if kind == duckdb.token_type.operator and data[place : place + 1] == b";":
            return data[:place].decode()
    return sql
