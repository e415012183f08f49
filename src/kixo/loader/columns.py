"""Lists of Python values as Arrow columns, cheaply.

Arrow looks at each Python object on its own. A column of text is cheaper as one joined string and the lengths of its
parts, which are the two buffers that Arrow wants. Lengths in characters are lengths in bytes where all is ASCII.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

OFFSET_MAX = 2**31 - 1


def text_column(texts: list[str]) -> pa.Array:
    """Strings, none of them None, as an Arrow string array."""
    joined = "".join(texts)
    if not joined.isascii():
        return pa.array(texts, pa.string())
    return _from_parts(joined.encode(), list(map(len, texts)))


def json_column(parts: list[Any]) -> pa.Array:
    """Bytes-like JSON texts (bytes or `msgspec.Raw`) as an Arrow string array; raises `ValueError` if not UTF-8."""
    joined = b"".join(parts)
    column = _from_parts(joined, list(map(len, parts)))
    if not joined.isascii():
        column.validate(full=True)
    return column


def optional_text_column(texts: list[str | None]) -> pa.Array:
    """Strings or None as an Arrow string array."""
    return pa.array(texts, pa.string()) if None in texts else text_column(texts)  # type: ignore[arg-type]


def repeated_column(values: list[str], counts: NDArray[np.int64]) -> pa.DictionaryArray:
    """Each value `counts` times, as an Arrow dictionary array of strings."""
    places = {value: place for place, value in enumerate(dict.fromkeys(values))}
    codes = np.array([places[value] for value in values], np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(np.repeat(codes, counts)), pa.array(list(places), pa.string()))


def named_column(codes: NDArray[np.int8], names: Sequence[str]) -> pa.DictionaryArray:
    """Numbers of names as an Arrow dictionary array of strings."""
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(names, pa.string()))


def instant_column(microseconds: NDArray[np.int64], absent: NDArray[np.bool_] | None = None) -> pa.Array:
    """Microseconds since 1970 as an Arrow timestamp('us', 'UTC') array; null where `absent`."""
    return pa.array(microseconds, mask=absent).cast(pa.timestamp("us", "UTC"))


def fixed_column(rows: NDArray[np.uint8]) -> pa.Array:
    """An array of shape (n, width) as an Arrow binary array of n values of `width` bytes."""
    count, width = rows.shape
    offsets = np.arange(0, (count + 1) * width, width, dtype=np.int32)
    return pa.Array.from_buffers(pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(rows)])


def _from_parts(joined: bytes, lengths: list[int]) -> pa.StringArray:
    if len(joined) > OFFSET_MAX:
        raise ValueError("a column of one piece of a load has more than 2 GiB")
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(np.array(lengths, np.int32), out=offsets[1:])
    return pa.StringArray.from_buffers(len(lengths), pa.py_buffer(offsets), pa.py_buffer(joined))
