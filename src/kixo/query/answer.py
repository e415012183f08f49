"""A query's answer for pages and scripts: bounded in rows and bytes, in values that JSON has.

    {"columns": [{"name": "n", "type": "int64"}], "rows": [[1], [2]], "truncated": false, "seconds": 0.031}

Values are as in JSON lines (`kixo.query.write`): instants are text in ISO
8601, binary is hexadecimal, what no number can say (NaN, infinity) is null. Types are Arrow's names.
"""

from typing import Any

from msgspec import Struct, json


class Column(Struct, frozen=True):
    """A column of an answer: its name, and its type as Arrow calls it."""

    name: str
    type: str


class Answer(Struct, frozen=True):
    """The first rows of a query. `truncated` tells of more; `seconds` is how long it took, to the last row."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    truncated: bool
    seconds: float

    def names(self) -> list[str]:
        """The names of the columns."""
        return [column.name for column in self.columns]

    def dicts(self) -> list[dict[str, Any]]:
        """The rows by column."""
        names = self.names()
        return [dict(zip(names, row, strict=True)) for row in self.rows]

    def column(self, name: str) -> list[Any]:
        """The values of one column; raises `ValueError` where there is none."""
        place = self.names().index(name)
        return [row[place] for row in self.rows]


def decode_answer(data: bytes) -> Answer:
    """An answer from its JSON."""
    return json.decode(data, type=Answer)
