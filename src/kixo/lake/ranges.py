"""A file elsewhere that is read in ranges: what is asked for is fetched, and nothing else.

A Parquet file is read from its end, where its footer says where everything is. So the end comes with the size, by the
one request that opens it, and answers the reads that lie in it.
"""

import io
from collections.abc import Callable

# Most footers fit; of a fresh file, mostly the whole file does.
TAIL_BYTES = 64 * 1024

Fetch = Callable[[int, int], bytes]
"""Fetches so many bytes from a position on. Raises `OSError`."""


class RangedFile(io.RawIOBase):
    """A file of `size` bytes of which the last are `tail`; the others are fetched, a range for each read."""

    def __init__(self, fetch: Fetch, size: int, tail: bytes) -> None:
        self._fetch = fetch
        self._size = size
        self._tail = tail
        self._position = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """The next `size` bytes, fewer only at the end."""
        left = max(0, self._size - self._position)
        length = left if size is None or size < 0 else min(size, left)
        data = self._range(self._position, length)
        self._position += length
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Sets the position and returns it."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def _range(self, start: int, length: int) -> bytes:
        tail_start = self._size - len(self._tail)
        if start >= tail_start:
            return self._tail[start - tail_start : start - tail_start + length]
        return self._fetch(start, length) if length else b""
