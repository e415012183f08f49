"""How deep JSON is nested, without recursion, and so for any depth at all.

Works on bodies with numpy: a quote opens or closes a string unless an odd number of backslashes stands before it;
brackets outside strings raise and lower the depth. A piece at a time, since that takes many times a text's memory.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

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
    return max((int(piece.depths.max(initial=0)) for piece in _pieces(text)), default=0)


def count_elements(text: bytes) -> int:
    """How many elements a JSON array has, for a small part of the memory that decoding them would take."""
    if _EMPTY_ARRAY.fullmatch(text):
        return 0
    return 1 + sum(int(np.count_nonzero((piece.data == _COMMA) & (piece.depths == 1))) for piece in _pieces(text))


def flatten_below(text: bytes, depth_kept: int) -> bytes:
    """The text with whatever stands inside brackets of `depth_kept` blanked, its length unchanged."""
    flat = bytearray(text)
    start = 0
    for piece in _pieces(text):
        # The brackets themselves stay and enclose nothing, so that both objects and arrays remain whole. They are the
        # bytes that have the lesser depth on one side.
        before = np.concatenate([np.array([piece.depth_before], np.int32), piece.depths[:-1]])
        deep = np.minimum(piece.depths, before) >= depth_kept
        np.frombuffer(flat, np.uint8, len(deep), start)[deep] = ord(" ")
        start += len(deep)
    return bytes(flat)


class _Piece(NamedTuple):
    """Some bytes of a text, with blanks for those in strings; the depth after each, and before the first."""

    data: npt.NDArray[np.uint8]
    depths: npt.NDArray[np.int32]
    depth_before: int


def _pieces(text: bytes) -> Iterator[_Piece]:
    depth = start = 0
    is_inside = False
    while start < len(text):
        end = _piece_end(text, start)
        data = np.frombuffer(text, np.uint8, end - start, start)
        inside = _in_string(data) ^ is_inside
        depths = _steps(data, ~inside).cumsum(dtype=np.int32) + np.int32(depth)
        yield _Piece(np.where(inside, np.uint8(ord(" ")), data), depths, depth)
        start, depth, is_inside = end, int(depths[-1]), bool(inside[-1])


def _piece_end(text: bytes, start: int) -> int:
    """Where a piece may end: not between a backslash and what it escapes."""
    end = start + PIECE_BYTES
    if end >= len(text):
        return len(text)
    found = _ESCAPED.match(text, end)
    return found.end() if text[end - 1] == _BACKSLASH and found is not None else end


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
