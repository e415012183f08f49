"""The record of loads: how far the tables have come, and which of the newest events were copies.

Whoever watches events arrive learns here, as soon as a load is committed, what became of them: an event before the
position of its partition is in the table, unless it is among the copies. The loader writes it after each load:

    byte 0      header: magic, capacity of the ring
    byte 64     writing   odd while a load is being written down
                count     copies so far, the number of the next one
                first     the number of the first one that the ring may still hold
                log id    16 bytes
    byte 4096   257 positions: of partitions 0 to 255, which are workers', and of that of replays
    byte 8192   ring: copy n stands at n modulo capacity: offset i64, partition i32, index i32

- Numbers are 64-bit little-endian. Those of copies begin with the microseconds at which the file was made, so one
  that is made anew goes on where no number of the old one can be.
- A reader takes `writing`, the content, and `writing` again: equal and even, and the content is whole.
- Loads that were committed and not written down (a crash in between, a file that was lost) show as one copy that is
  missed. So do copies that the ring no longer holds.
"""

import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from struct import Struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kixo.log import REPLAYS
from kixo.mapped_file import open_mapped, open_to_read

CAPACITY = 16_384
WORKERS_MAX = 256
PARTITIONS = (*range(WORKERS_MAX), REPLAYS)
"""The partitions of which positions are kept, each at its place in this order."""

COPY = np.dtype([("offset", "<i8"), ("partition", "<i4"), ("index", "<i4")])
HEADER = Struct("<16sQ").pack(b"kixo loads 2\n", CAPACITY)
STATE = Struct("<QQQ16s")
STATE_AT, POSITIONS_AT, RING_AT = 64, 4096, 8192
SIZE = RING_AT + CAPACITY * COPY.itemsize
WRITING, COUNT, FIRST = 0, 1, 2

Copies = NDArray[np.void]
"""An array of `COPY`: where in the log the copies of a load stand."""


EventPlace = tuple[int, int, int]
"""Where an event stands: the log partition, the request's offset in it, and its place in the batch, from 0."""


class Loaded(NamedTuple):
    """What the loader has done.

    `positions` are those of the log `log_id` by partition: what stands before has been loaded. `copies` are those since
    the reader last looked, in the order in which they were found, and `missed` counts those that it can no longer be
    told of. `next` is what the reader gives the next time.
    """

    log_id: str
    positions: dict[int, int]
    copies: list[EventPlace]
    missed: int
    next: int


class LoadRecord:
    """The writing end. Open with the path, the log's id, and the positions that the tables have; raises `OSError`."""

    def __init__(self, path: Path, log_id: str, positions: Mapping[int, int], now_us: int) -> None:
        self._map: mmap.mmap = open_mapped(path, HEADER, SIZE)
        self._state = np.frombuffer(self._map, "<u8", 3, STATE_AT)
        self._log_id = np.frombuffer(self._map, np.uint8, 16, STATE_AT + self._state.nbytes)
        self._positions = np.frombuffer(self._map, "<i8", len(PARTITIONS), POSITIONS_AT)
        self._ring = np.frombuffer(self._map, COPY, CAPACITY, RING_AT)
        if self._state[COUNT] == 0:
            self._state[COUNT:] = now_us
        # A process that was killed in the middle has left it odd.
        self._state[WRITING] += self._state[WRITING] % 2
        is_behind = any(self._positions[place] < position for place, position in _placed(positions))
        if self._log_id.tobytes().hex() != log_id or is_behind:
            self._begin(log_id, positions)

    def _begin(self, log_id: str, positions: Mapping[int, int]) -> None:
        """Goes on from the tables: what was loaded without a word here may have had copies."""
        self._state[WRITING] += 1
        if self._log_id.tobytes().hex() != log_id:
            self._positions[:] = 0
            self._log_id[:] = np.frombuffer(bytes.fromhex(log_id), np.uint8)
        self._state[COUNT:] = self._state[COUNT] + 1
        self._write_positions(positions)
        self._state[WRITING] += 1

    def close(self) -> None:
        """Lets go of the memory; the file keeps what is in it."""
        self._state = self._positions = np.empty(0, np.int64)
        self._log_id = np.empty(0, np.uint8)
        self._ring = np.empty(0, COPY)
        self._map.close()

    def note(self, positions: Mapping[int, int], copies: Copies) -> None:
        """Writes down a load: the positions after it, and its copies."""
        state, count = self._state, int(self._state[COUNT])
        kept = copies[-CAPACITY:]
        end = count + len(copies)
        state[WRITING] += 1
        self._ring[np.arange(end - len(kept), end) % CAPACITY] = kept
        state[FIRST] = max(int(state[FIRST]), end - CAPACITY)
        state[COUNT] = end
        self._write_positions(positions)
        state[WRITING] += 1

    def _write_positions(self, positions: Mapping[int, int]) -> None:
        for place, position in _placed(positions):
            self._positions[place] = position


def _placed(positions: Mapping[int, int]) -> list[tuple[int, int]]:
    """Where in the file each position stands, and the position."""
    return [(place, positions[number]) for place, number in enumerate(PARTITIONS) if number in positions]


def read_loads(path: Path, since: int | None = None) -> Loaded | None:
    """What the loader has done since; all that is still known for None, nothing new for a number of `Loaded.next`.

    None where there is no record, or where it was being written at each of a few looks: look again a little later.
    Raises `OSError`.
    """
    descriptor = open_to_read(path, HEADER, SIZE)
    if descriptor is None:
        return None
    try:
        return next((found for _ in range(3) if (found := _read(descriptor, since)) is not None), None)
    finally:
        os.close(descriptor)


def _read(descriptor: int, since: int | None) -> Loaded | None:
    writing, count, first, log_id = STATE.unpack(os.pread(descriptor, STATE.size, STATE_AT))
    positions = np.frombuffer(os.pread(descriptor, 8 * len(PARTITIONS), POSITIONS_AT), "<i8")
    start = first if since is None else max(first, min(since, count))
    copies = _copies(descriptor, start, count) if start < count else []
    if writing % 2 or STATE.unpack(os.pread(descriptor, STATE.size, STATE_AT))[WRITING] != writing:
        return None
    known = {PARTITIONS[place]: int(positions[place]) for place in np.flatnonzero(positions)}
    return Loaded(log_id.hex(), known, copies, start - min(start if since is None else since, start), count)


def _copies(descriptor: int, start: int, end: int) -> list[EventPlace]:
    ring = np.frombuffer(os.pread(descriptor, CAPACITY * COPY.itemsize, RING_AT), COPY)
    found = ring[np.arange(start, end) % CAPACITY]
    return list(zip(found["partition"].tolist(), found["offset"].tolist(), found["index"].tolist(), strict=True))
