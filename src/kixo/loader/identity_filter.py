"""Which identities have surely not been seen: a blocked Bloom filter that grows.

An identity sets 5 of the 64 bits of one word; if one of them is clear, it was never added. One word for all bits means
one access to memory. At 16 bits of filter for each identity, 0.43 % of new identities look as if seen (measured) and
have to be looked up exactly; that costs time, never truth.

A full filter is joined by another of twice its size, up to a bound in bytes for all; beyond it the last one takes
more than it should, and more identities have to be looked up.
"""

import numpy as np
from numpy.typing import NDArray

BITS_PER_IDENTITY = 16
BITS_SET = 5
WORD_BYTES = 8
FIRST_BYTES = 8 * 1024 * 1024

Numbers = NDArray[np.uint64]


class IdentityFilter:
    """The filter, for `low` halves of identities. Sized for `expected` of them; at most `bytes_max` in all."""

    def __init__(self, expected: int, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._words: list[Numbers] = []
        self._room = 0
        self._grow(max(FIRST_BYTES, 2 * expected * BITS_PER_IDENTITY // 8))

    @property
    def size_bytes(self) -> int:
        """The memory that the filter takes."""
        return sum(words.nbytes for words in self._words)

    def add(self, low: Numbers) -> None:
        """Adds identities."""
        if self._room < len(low):
            self._grow(2 * self._words[-1].nbytes)
        self._room -= len(low)
        words = self._words[-1]
        np.bitwise_or.at(words, _places(low, len(words)), _bits(low))

    def may_have(self, low: Numbers) -> NDArray[np.bool_]:
        """False for each identity that was never added."""
        bits = _bits(low)
        found = np.zeros(len(low), np.bool_)
        for words in self._words:
            found |= (words[_places(low, len(words))] & bits) == bits
        return found

    def _grow(self, size_bytes: int) -> None:
        size_bytes = min(size_bytes, self._bytes_max - self.size_bytes)
        if size_bytes < WORD_BYTES or (self._words and size_bytes < FIRST_BYTES):
            return
        self._words.append(np.zeros(size_bytes // WORD_BYTES, np.uint64))
        self._room = size_bytes * 8 // BITS_PER_IDENTITY


def _places(low: Numbers, words: int) -> NDArray[np.intp]:
    # The upper half chooses the word, the lower half the bits, so that the two are independent.
    return (((low >> np.uint64(32)) * np.uint64(words)) >> np.uint64(32)).astype(np.intp)


def _bits(low: Numbers) -> Numbers:
    bits = np.zeros(len(low), np.uint64)
    for number in range(BITS_SET):
        bits |= np.uint64(1) << ((low >> np.uint64(6 * number)) & np.uint64(63))
    return bits
