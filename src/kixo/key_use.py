"""What each key is used for: requests answered, events accepted, and the last time, per worker in a file under `run/`.

    byte 0      header: magic, keys there is room for
    byte 4096   slot of key 0, of key 1, …, each of 4 words of 64 bits, little-endian:
                requests, events accepted, last used (microseconds since 1970), 0

Counting is three writes to memory, without a lock because each file has one writer, and survives the death of its
process. A request counts once it is answered 200, or 400 with all of its events rejected. The file is sparse, and
blocks are claimed before their first write. Keys beyond the room are not counted. Readers sum over all workers.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from kixo.mapped_file import open_mapped, open_to_read

KEYS_MAX = 1 << 20
HEADER = Struct("<16sQ").pack(b"kixo key use 1\n", KEYS_MAX)
SLOTS_AT, BLOCK_BYTES = 4096, 4096
SLOT = Struct("<QQQQ")
WORDS = SLOT.size // 8
SIZE = SLOTS_AT + KEYS_MAX * SLOT.size
# Slots of a block, as a power of 2.
BLOCK_SHIFT = (BLOCK_BYTES // SLOT.size).bit_length() - 1
REQUESTS, EVENTS, LAST_USED = 0, 1, 2

Count = Callable[[int, int, int], None]
"""Counts a request: the key's number, the events accepted, the time in microseconds since 1970."""


class KeyUse(NamedTuple):
    """What a key was used for; `last_used_us` is in microseconds since 1970, None where it never was."""

    requests: int
    events: int
    last_used_us: int | None


class KeyUseFile:
    """The writing end of one worker's file; raises `OSError` where it cannot be had."""

    def __init__(self, path: Path) -> None:
        self._map = open_mapped(path, HEADER, SIZE, sparse=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._words = memoryview(self._map)[SLOTS_AT:].cast("Q")

    def close(self) -> None:
        """Lets go of the memory; the file keeps the counts."""
        self._words.release()
        self._map.close()
        os.close(self._descriptor)

    def counter(self) -> Count:
        """A function that counts, with all it needs at hand: for the path where a microsecond counts."""
        words, claimed, claim = self._words, bytearray(KEYS_MAX >> BLOCK_SHIFT), self._claim

        def count(key: int, events: int, at_us: int) -> None:
            if key >= KEYS_MAX or not (claimed[key >> BLOCK_SHIFT] or claim(claimed, key >> BLOCK_SHIFT)):
                return
            slot = key * WORDS
            words[slot] += 1
            words[slot + EVENTS] += events
            words[slot + LAST_USED] = at_us

        return count

    def _claim(self, claimed: bytearray, block: int) -> bool:
        try:
            os.posix_fallocate(self._descriptor, SLOTS_AT + block * BLOCK_BYTES, BLOCK_BYTES)
        except OSError:
            # The disk is full. The key is counted again when there is room.
            return False
        claimed[block] = 1
        return True


def count_nothing(_key: int, _events: int, _at_us: int) -> None:
    """A `Count` for where there is no file."""


def read_key_use(folder: Path, numbers: Iterable[int]) -> dict[int, KeyUse]:
    """What the keys of these numbers were used for, over all workers; raises `OSError`."""
    wanted = [number for number in numbers if 0 <= number < KEYS_MAX]
    uses = dict.fromkeys(wanted, KeyUse(0, 0, None))
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        descriptor = open_to_read(path, HEADER, SIZE)
        if descriptor is None:
            continue
        try:
            for number in uses:
                uses[number] = _sum(uses[number], os.pread(descriptor, SLOT.size, SLOTS_AT + number * SLOT.size))
        finally:
            os.close(descriptor)
    return uses


def _sum(use: KeyUse, slot: bytes) -> KeyUse:
    requests, events, last_used_us, _ = SLOT.unpack(slot)
    latest_us = max(use.last_used_us or 0, last_used_us) or None
    return KeyUse(use.requests + requests, use.events + events, latest_us)
