"""What of a refused request may be kept: enough to see what is wrong, and never a letter of a key.

A request that cannot be read can hold a key anywhere and in any spelling: cut off, escaped, percent-encoded, under
another name. So nothing is blanked here because it looks like a key. It is the other way round: of a broken body only
what JSON itself is made of and a fixed list of words are kept, all else becomes stars. A key has no blank and none of
`" \\ { } [ ] , :` in it and is no such word (`kixo.registry.tables`), so it lies within what becomes stars; so does
each part of it that an escape sets apart. A value that a message repeats is kept only where it is too short for a key,
a number or a time, or such a word.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from kixo.event import ENVIRONMENTS, EVENT_TYPES, PLATFORMS, BatchRequest, Event
from kixo.snapshot import KEY_LENGTH_MIN

BEFORE_BYTES, AFTER_BYTES = 60, 30

_MEDIA_TYPES = (
    "application/json",
    "application/jsonl",
    "application/octet-stream",
    "application/x-ndjson",
    "application/x-www-form-urlencoded",
    "application/xml",
    "multipart/form-data",
    "text/csv",
    "text/html",
    "text/plain",
    "text/xml",
)
_MEMBERS = (*BatchRequest.__struct_fields__, *Event.__struct_fields__)
_LITERALS = ("true", "false", "null", "True", "False", "None", "NaN")
_WORDS = frozenset(word.encode() for word in (*_MEMBERS, *PLATFORMS, *ENVIRONMENTS, *EVENT_TYPES, *_LITERALS))
_VALUES = frozenset((*PLATFORMS, *ENVIRONMENTS, *_MEDIA_TYPES))
# Single quotes stand here for JSON written by hand; a key may have some.
_RUN = re.compile(rb"[^\s{}\[\]:,\"\\']+")
_TOKEN = re.compile(rb"[^\s{}\[\]:,\"\\*]+")
_NUMBER_OR_TIME = re.compile(r"[0-9eEtTwWzZ+.: -]*")
_STAR = b"*"


class Excerpt(NamedTuple):
    """A few bytes of a body as text, with stars for what is not kept; `at` is where in it the broken byte stands."""

    text: str
    at: int


def excerpt(body: bytes, position: int, is_key: Callable[[str], bool]) -> Excerpt | None:
    """What stands around the broken byte of a body; None where a live key, of which `is_key` knows, would show."""
    start, end = max(0, position - BEFORE_BYTES), min(len(body), position + AFTER_BYTES)
    window = body[start:end]

    def mask(found: re.Match[bytes]) -> bytes:
        is_cut = (found.start() == 0 and start > 0) or (found.end() == len(window) and end < len(body))
        return found[0] if found[0] in _WORDS and not is_cut else _STAR * len(found[0])

    text = _RUN.sub(mask, window)
    at = position - start
    if window[at : at + 1].isascii() and not window[at : at + 1].isalnum():
        text = text[:at] + window[at : at + 1] + text[at + 1 :]
    if any(len(token) >= KEY_LENGTH_MIN and is_key(token.decode("ascii", "replace")) for token in _TOKEN.findall(text)):
        return None
    return Excerpt(text.decode("ascii", "replace"), at)


def kept_value(value: str) -> str:
    """A value of a request as it may be kept in a message: itself, or stars."""
    bare = value.strip('"')
    if len(bare) < KEY_LENGTH_MIN or _NUMBER_OR_TIME.fullmatch(bare):
        return value
    head = bare.partition(";")[0].strip().lower()
    return head if head in _VALUES else "***"
