"""Sorted runs of identities, in memory and in files: where a suspected copy is looked up exactly.

A run is two arrays, the low and the high halves of its identities, sorted by low, then high. A run file is

    16 bytes   "kixo identities", and the format, 1, as a byte
    8 bytes    n, little-endian
    8 bytes    XXH3-64 of the low halves, 8 bytes XXH3-64 of the high halves
    8 n bytes  the low halves, 8 n bytes the high halves, little-endian

A file that is not exactly this is damaged; the index it belongs to is derived from the table and made anew.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64

from kixo.files import sync_folder
from kixo.loader.identities import Identities

MAGIC = b"kixo identities\x01"
HEADER_BYTES = 40
SLICE_IDENTITIES = 1_000_000
# Written out as it comes: gigabytes at once would hold up each sync of the log behind them.
SYNCED_BYTES = 32 * 1024 * 1024


class DamagedRun(ValueError):
    """A run file is not what its header says."""


def make_run(identities: Identities) -> Identities:
    """The identities as a run."""
    return settle(identities.at(np.argsort(identities.low)))


def merge(runs: Sequence[Identities]) -> Identities:
    """One run of several."""
    joined = Identities(*(np.concatenate(halves) for halves in zip(*runs, strict=True)))
    # The stable sort finds the ordered stretches and merges them, at a quarter of the time of sorting.
    return settle(joined.at(np.argsort(joined.low, kind="stable")))


def find(run: Identities, wanted: Identities) -> NDArray[np.bool_]:
    """Which of `wanted` are in the run."""
    if not len(run.low):
        return np.zeros(len(wanted.low), np.bool_)
    places = np.minimum(np.searchsorted(run.low, wanted.low), len(run.low) - 1)
    same_low = run.low[places] == wanted.low
    found: NDArray[np.bool_] = same_low & (run.high[places] == wanted.high)
    # Further identities with the same low half, which hardly ever exist, follow the first.
    for number in np.flatnonzero(same_low & ~found).tolist():
        end = int(np.searchsorted(run.low, wanted.low[number], "right"))
        found[number] = _holds(run.high[places[number] : end], wanted.high[number])
    return found


def _holds(ordered: NDArray[np.uint64], number: np.uint64) -> bool:
    place = int(np.searchsorted(ordered, number))
    return place < len(ordered) and bool(ordered[place] == number)


def settle(run: Identities) -> Identities:
    """A run, of identities that are sorted by their low halves."""
    # A client that makes thousands of equal low halves on purpose must not make every look-up walk over them.
    if np.any(run.low[1:] == run.low[:-1]):
        return run.at(np.lexsort((run.high, run.low)))
    return run


def write_run(path: Path, run: Identities) -> None:
    """Writes a run file, durably."""
    _write(path, len(run.low), [run])


def map_run(path: Path) -> Identities:
    """The run in a file, mapped into memory; raises `DamagedRun` where its length is wrong, and `OSError`."""
    count, _ = _header(path)
    _check_length(path, count)
    if not count:
        return Identities(np.empty(0, np.uint64), np.empty(0, np.uint64))
    numbers = np.memmap(path, "<u8", "r", HEADER_BYTES, (2, count))
    return Identities(numbers[1], numbers[0])


def _check_length(path: Path, count: int) -> None:
    if path.stat().st_size != HEADER_BYTES + 16 * count:
        raise DamagedRun(f"{path} is not as long as it says")


def check_run(path: Path) -> Iterable[NDArray[np.uint64]]:
    """Reads a run file through, yielding its low halves in parts; raises `DamagedRun` at the end where it is."""
    count, checksums = _header(path)
    _check_length(path, count)
    with path.open("rb") as file:
        file.seek(HEADER_BYTES)
        hashes = [xxh3_64(), xxh3_64()]
        for half in range(2):
            for start in range(0, count, SLICE_IDENTITIES):
                part = np.fromfile(file, "<u8", min(SLICE_IDENTITIES, count - start))
                hashes[half].update(part.tobytes())
                if half == 0:
                    yield part
    if tuple(each.digest() for each in hashes) != checksums:
        raise DamagedRun(f"{path} does not have the content that it was written with")


def merge_files(paths: Sequence[Path], into: Path) -> int:
    """Merges run files into one, durably, in bounded memory; returns the number of its identities."""
    runs = [map_run(path) for path in paths]
    count = sum(len(run.low) for run in runs)
    _write(into, count, _merged_slices(runs, count))
    return count


def _merged_slices(runs: Sequence[Identities], count: int) -> Iterable[Identities]:
    # Low halves are evenly spread, so equal ranges of them are slices of about equal size.
    slices = max(1, count // SLICE_IDENTITIES)
    edges = [np.uint64(number * (2**64 // slices)) for number in range(1, slices)]
    cuts = [[0, *np.searchsorted(run.low, edges).tolist(), len(run.low)] for run in runs]
    for number in range(slices):
        yield merge([run.at(slice(cut[number], cut[number + 1])) for run, cut in zip(runs, cuts, strict=True)])


def _write(path: Path, count: int, slices: Iterable[Identities]) -> None:
    beside = path.with_name(path.name + ".tmp")
    hashes = (xxh3_64(), xxh3_64())
    with beside.open("wb") as file:
        place, synced = HEADER_BYTES, 0
        for part in slices:
            for half, (numbers, checksum) in enumerate(zip((part.low, part.high), hashes, strict=True)):
                # As it is in memory: a copy would be made under the lock that loads wait for.
                data = numbers.astype("<u8", copy=False).data
                checksum.update(data)
                file.seek(place + half * 8 * count)
                file.write(data)
            place += 8 * len(part.low)
            if place - synced >= SYNCED_BYTES:
                file.flush()
                os.fdatasync(file.fileno())
                synced = place
        file.seek(0)
        file.write(MAGIC + count.to_bytes(8, "little") + b"".join(each.digest() for each in hashes))
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync_folder(path.parent)


def _header(path: Path) -> tuple[int, tuple[bytes, bytes]]:
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
    if len(header) < HEADER_BYTES or not header.startswith(MAGIC):
        raise DamagedRun(f"{path} is not a file of identities")
    return int.from_bytes(header[16:24], "little"), (header[24:32], header[32:40])
