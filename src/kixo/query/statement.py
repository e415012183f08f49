"""What may be run: one statement that only reads.

DuckDB lets a file be written from inside a SELECT (`WITH x AS (COPY … TO 'file') FROM x`), and calls that a SELECT. It
allows it at the outermost level only, so every query is run as a subquery; DuckDB then refuses it by itself.
"""

import re

import duckdb

from kixo.errors import QueryFailed
from kixo.query.views import view_names

READ_ONLY = "Queries only read: send one SELECT over " + ", ".join(view_names()) + "."

_EXPLAIN = re.compile(r"\s*explain(\s+analyze)?\s+(?![(\s])", re.IGNORECASE)


def read_only(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """The statement as it is run; raises `QueryFailed` where it is not exactly one that reads."""
    _check_text(sql)
    statement = _only_statement(connection, sql)
    if _kind(statement) == duckdb.StatementType.EXPLAIN:
        return _explained(connection, statement.query)
    _check_reads(statement)
    return f"SELECT * FROM (\n{_without_end(statement.query)}\n)"


def _check_text(sql: str) -> None:
    try:
        sql.encode()
    except UnicodeEncodeError:
        raise QueryFailed("The query is not UTF-8.", "Check the encoding of the terminal or the file.") from None


def _explained(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    found = _EXPLAIN.match(sql)
    if found is None:
        raise QueryFailed("Only EXPLAIN and EXPLAIN ANALYZE are run, without options.", READ_ONLY)
    statement = _only_statement(connection, sql[found.end() :])
    _check_reads(statement)
    return f"EXPLAIN {found[1] or ''} SELECT * FROM (\n{_without_end(statement.query)}\n)"


def _only_statement(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.Statement:
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryFailed(f"The query is not valid SQL: {one_line(error)}.", READ_ONLY) from error
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


def one_line(error: Exception) -> str:
    """DuckDB's message as one line: without its kind, the excerpt of the query, and the last full stop."""
    text = str(error).split("\n\nLINE ")[0]
    # DuckDB looks for a similar name in its own catalogue, which only leads astray.
    text = re.sub(r'\nDid you mean "(?:pg_|duckdb_|sqlite_).*', "", text)
    return " ".join(re.sub(r"^[A-Za-z ]+ Error: ", "", text).split()).rstrip(".!")
