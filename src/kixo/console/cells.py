"""The cells of a query's answer as a page shows them: by type, and what is long folded."""

from typing import Any, NamedTuple

from msgspec import DecodeError, json

from kixo.query.answer import Answer, Column

FOLDED_LENGTH = 160
NUMBERS = ("int", "uint", "float", "double", "halffloat", "decimal")
TIMES = ("timestamp", "date")


class Heading(NamedTuple):
    """A column: its name, its type, and its kind: `number`, `time` or `text`."""

    name: str
    type: str
    kind: str


class Cell(NamedTuple):
    """A value: its text, its kind (`number`, `time`, `text`, `null`), and the whole of it where the text is not."""

    text: str
    kind: str
    whole: str = ""


def headings(answer: Answer) -> list[Heading]:
    """The columns of an answer."""
    return [Heading(column.name, column.type, _kind(column)) for column in answer.columns]


def cell_rows(answer: Answer) -> list[list[Cell]]:
    """The rows of an answer."""
    kinds = [_kind(column) for column in answer.columns]
    return [[cell(value, kind) for value, kind in zip(row, kinds, strict=True)] for row in answer.rows]


def cell(value: Any, kind: str) -> Cell:
    """A value of a column of that kind."""
    if value is None:
        return Cell("NULL", "null")
    if kind == "time":
        return Cell(_time(str(value)), kind)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool | list | dict):
        return _text(json.encode(value).decode())
    return Cell(str(value), kind)


def _kind(column: Column) -> str:
    if column.type.startswith(NUMBERS):
        return "number"
    return "time" if column.type.startswith(TIMES) else "text"


def _time(text: str) -> str:
    """Without what is always the same: the letters around the time, and a fraction of nothing."""
    return text.replace("T", " ").removesuffix("Z").removesuffix(".000000")


def _text(value: str) -> Cell:
    whole = _indented(value)
    if whole:
        return Cell(_shortened(value), "text", whole)
    return Cell(value, "text") if len(value) <= FOLDED_LENGTH else Cell(_shortened(value), "text", value)


def _shortened(value: str) -> str:
    return value if len(value) <= FOLDED_LENGTH else value[: FOLDED_LENGTH - 1] + "…"


def _indented(value: str) -> str:
    """JSON that has members or items, over lines; empty for all other text."""
    if len(value) < 3 or value[0] not in "{[":
        return ""
    try:
        return json.format(value, indent=2)
    except DecodeError:
        return ""
