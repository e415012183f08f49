"""What DuckDB says is wrong with a query: as one sentence, and where in the text.

DuckDB writes an error as JSON after its kind where it is told to (`errors_as_json`), with the byte at which it shows.
Errors while rows are read come through Arrow, as text; what DuckDB has no place for is text as well.
"""

import re
from typing import NamedTuple

from msgspec import DecodeError, ValidationError, convert, json


class Mistake(NamedTuple):
    """An error in one line, without a full stop, and the byte of the text that DuckDB saw, where it names one."""

    sentence: str
    place: int | None


def mistake(error: Exception) -> Mistake:
    """What an error of DuckDB says."""
    text = re.sub(r"^[A-Za-z ]+ Error: ", "", str(error))
    facts = _facts(text)
    return Mistake(_one_line(str(facts.get("exception_message", text))), _place(facts.get("position")))


def character(sql: str, place: int) -> int | None:
    """The character of a query at a byte of it; None where there is no such byte."""
    data = sql.encode("utf-8", "surrogatepass")
    return len(data[:place].decode("utf-8", "ignore")) if 0 <= place <= len(data) else None


def _facts(text: str) -> dict[str, object]:
    try:
        return convert(json.decode(text), dict[str, object])
    except (DecodeError, ValidationError):
        return {}


def _place(value: object) -> int | None:
    return int(value) if isinstance(value, str) and value.isdecimal() else None


def _one_line(text: str) -> str:
    """Without the excerpt of the query and the last full stop."""
    text = text.partition("\n\nLINE ")[0]
    # DuckDB looks for a similar name in its own catalogue, which only leads astray.
    text = re.sub(r'\nDid you mean "(?:pg_|duckdb_|sqlite_).*', "", text)
    return " ".join(text.split()).rstrip(".!")
