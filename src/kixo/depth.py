"""How deep JSON is nested, without recursion, and so for any depth at all.

Works on whole bodies with numpy: a quote opens or closes a string unless an odd number of backslashes stands before
it; brackets outside strings raise and lower the depth.
"""

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
    outside = ~_in_string(data)
    opening = ((data == ord("{")) | (data == ord("["))) & outside
    closing = ((data == ord("}")) | (data == ord("]"))) & outside
    return np.cumsum(opening.astype(np.int8) - closing.astype(np.int8), dtype=np.int32)


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
