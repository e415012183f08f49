"""How deep JSON is nested, without recursion, and so for any depth at all.

Works on whole bodies with numpy: a quote opens or closes a string unless an odd number of backslashes stands before
it; brackets outside strings raise and lower the depth.
"""

import re
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from kixo.event import PROPERTIES_DEPTH_MAX

T = TypeVar("T")

# Room for the deepest properties that are allowed, inside an event, a batch and an envelope; far below what the
# decoder can recurse into.
DEPTH_KEPT = PROPERTIES_DEPTH_MAX + 50
_QUOTE, _BACKSLASH = ord('"'), ord("\\")
_COMMA = ord(",")
_EMPTY_ARRAY = re.compile(rb"\[\s*\]")
_ESCAPED = re.compile(rb"\\*.", re.DOTALL)
# So much is looked at in one go, where all at once would cost many times the memory of the text.
PIECE_BYTES = 1024 * 1024


def at_any_depth(decode: Callable[[bytes], T]) -> Callable[[bytes], T]:
    """A decoder that reads what the given one is too deep for, without what lies deeper than `DEPTH_KEPT`.

    How deep a decoder can go depends on who calls it, so a reader of the log needs this for what ingest could read.
    """

    def read(text: bytes) -> T:
        try:
            return decode(text)
        except RecursionError:
            return decode(flatten_below(text, DEPTH_KEPT))

    return read


def depth_of(text: bytes) -> int:
    """The deepest nesting in a JSON text; `{}` has depth 1."""
    return int(_depths(np.frombuffer(text, np.uint8)).max(initial=0))


def count_elements(text: bytes) -> int:
    """How many elements a JSON array has, for a small part of the memory that decoding them would take."""
    if _EMPTY_ARRAY.fullmatch(text):
        return 0
    commas = depth = start = 0
    is_inside = False
    while start < len(text):
        end = _piece_end(text, start)
        data = np.frombuffer(text, np.uint8, end - start, start)
        inside = _in_string(data) ^ is_inside
        depths = _steps(data, ~inside).cumsum(dtype=np.int32) + depth
        commas += int(np.count_nonzero((data == _COMMA) & ~inside & (depths == 1)))
        start, depth, is_inside = end, int(depths[-1]), bool(inside[-1])
    return commas + 1


def _piece_end(text: bytes, start: int) -> int:
    """Where a piece may end: not between a backslash and what it escapes."""
    end = start + PIECE_BYTES
    if end >= len(text):
        return len(text)
    found = _ESCAPED.match(text, end)
    return found.end() if text[end - 1] == _BACKSLASH and found is not None else end


def flatten_below(text: bytes, depth_kept: int) -> bytes:
    """The text with whatever stands inside brackets of `depth_kept` blanked, its length unchanged."""
    data = np.frombuffer(text, np.uint8)
    # The brackets themselves stay and enclose nothing, so that both objects and arrays remain whole. They are the
    # bytes that have the lesser depth on one side.
    depths = _depths(data)
    before = np.concatenate([np.zeros(1, np.int32), depths[:-1]])
    return np.where(np.minimum(depths, before) >= depth_kept, np.uint8(ord(" ")), data).tobytes()


def _depths(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    """The depth after each byte."""
    return np.cumsum(_steps(data, ~_in_string(data)), dtype=np.int32)


def _steps(data: npt.NDArray[np.uint8], outside: npt.NDArray[np.bool_]) -> npt.NDArray[np.int8]:
    """1 where a bracket opens, -1 where one closes."""
    opening = ((data == ord("{")) | (data == ord("["))) & outside
    closing = ((data == ord("}")) | (data == ord("]"))) & outside
    steps: npt.NDArray[np.int8] = opening.astype(np.int8) - closing.astype(np.int8)
    return steps


def _in_string(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    quotes = np.flatnonzero(data == _QUOTE)
    backslashes = data == _BACKSLASH
    if backslashes.any():
        # The length of the run of backslashes that ends just before each byte.
        places = np.arange(len(data), dtype=np.int32)
        last_other = np.maximum.accumulate(np.where(backslashes, -1, places))
        run = np.where(quotes > 0, quotes - 1 - last_other[quotes - 1], 0)
        quotes = quotes[run % 2 == 0]
    toggles = np.zeros(len(data), np.int8)
    toggles[quotes] = 1
    inside: npt.NDArray[np.bool_] = np.cumsum(toggles, dtype=np.int32) % 2 == 1
    return inside
