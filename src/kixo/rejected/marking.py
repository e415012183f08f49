"""Where in an event's JSON text the member stands that is wrong."""

import json
import re
from typing import NamedTuple

_BLANK = re.compile(r"[ \t\n\r]*")
# Numbers stay text: there is no need to know them, and Python refuses the longest.
_decoder = json.JSONDecoder(parse_int=str, parse_float=str)


class Marked(NamedTuple):
    """A text in three: before what is wrong, that, and what is after it. Where nothing is wrong, all is before."""

    before: str
    wrong: str
    after: str


def mark(text: str, field: str | None, *, around_max: int, wrong_max: int) -> Marked:
    """The text with the value of a member marked, the last one where it stands twice; all of it for no member.

    What is longer than the bounds is cut, with an ellipsis in its place.
    """
    start, end = (0, len(text)) if field is None else _span(text, field) or (len(text), len(text))
    before = text[:start] if start <= around_max else "…" + text[start - around_max : start]
    if start == end:
        before = _cut(text, around_max)
    return Marked(before, _cut(text[start:end], wrong_max), _cut(text[end:], around_max))


def _cut(text: str, length_max: int) -> str:
    return text if len(text) <= length_max else text[:length_max] + "…"


def _span(text: str, field: str) -> tuple[int, int] | None:
    """Where the value of a member begins and ends; None where there is none, or the text cannot be read so deep."""
    found = None
    try:
        place = _skip(text, 0)
        if text[place : place + 1] != "{":
            return None
        place = _skip(text, place + 1)
        while text[place] != "}":
            name, place = _decoder.raw_decode(text, place)
            place = _skip(text, _skip(text, place) + 1)
            start = place
            _, place = _decoder.raw_decode(text, start)
            if name == field:
                found = start, place
            place = _skip(text, place)
            if text[place] == ",":
                place = _skip(text, place + 1)
    except (ValueError, IndexError, RecursionError):
        return found
    return found


def _skip(text: str, place: int) -> int:
    matched = _BLANK.match(text, place)
    return place if matched is None else matched.end()
