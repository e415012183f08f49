"""Measures the index of identities: time per event, memory, disk, and the time to start, as it grows.

.venv/bin/python scripts/measure_index.py [millions of identities]
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from kixo.lake.table import LakeTable, open_tables
from kixo.loader.identities import Identities
from kixo.loader.identity_index import IdentityIndex
from kixo.loader.upkeep import IndexUpkeep

LOAD = 100_000
MILLION = 1_000_000
FILTER_BYTES_MAX = 1 << 30


class Silence:
    """A report to nobody."""

    def info(self, event: str, **members: Any) -> None: ...

    warning = error = info


def random_identities(generator: np.random.Generator) -> Identities:
    return Identities(*(generator.integers(0, 2**64, LOAD, np.uint64) for _ in range(2)))


def grow(index: IdentityIndex, table: LakeTable, millions: int, thread: ThreadPoolExecutor) -> None:
    print("millions  new ns/event  copies ns/event  filter MB  disk MB  run files  longest flush ms")
    generator, upkeep = np.random.default_rng(1), IndexUpkeep(index, thread)
    first = random_identities(generator)
    index.add(index.find_new(first), table, {})
    spent, longest = 0.0, 0.0
    for number in range(1, millions * MILLION // LOAD):
        identities = random_identities(generator)
        started = time.thread_time()
        index.add(index.find_new(identities), table, {})
        spent += time.thread_time() - started
        flushing = time.perf_counter()
        upkeep.step()
        longest = max(longest, time.perf_counter() - flushing)
        if (number + 1) * LOAD % (millions * MILLION // 8) == 0:
            events = millions * MILLION // 8
            show(index, table, (number + 1) * LOAD, spent / events, copies_s(index, first), longest)
            spent, longest = 0.0, 0.0


def copies_s(index: IdentityIndex, identities: Identities) -> float:
    started = time.thread_time()
    assert not index.find_new(identities).mask.any()
    return (time.thread_time() - started) / LOAD


def show(index: IdentityIndex, table: LakeTable, held: int, new_s: float, copy_s: float, flush_s: float) -> None:
    disk = sum(path.stat().st_size for path in (Path(table.store.url).parent / "index").iterdir())
    print(
        f"{held / MILLION:8.1f} {new_s * 1e9:13.0f} {copy_s * 1e9:16.0f} {index.filter_bytes / MILLION:10.0f} "
        f"{disk / MILLION:8.0f} {len(index.store.files):10} {flush_s * 1000:17.0f}",
        flush=True,
    )


def main() -> None:
    millions = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    with TemporaryDirectory() as name, ThreadPoolExecutor(1) as thread:
        folder, names = Path(name), count()
        table = open_tables(folder, "0" * 32, 100, Silence(), create=True)["events"]

        def opened() -> IdentityIndex:
            index = IdentityIndex(folder / "index", "0" * 32, FILTER_BYTES_MAX, Silence(), lambda: str(next(names)))
            index.open(table, [])
            return index

        index = opened()
        grow(index, table, millions, thread)
        index.flush()
        started = time.perf_counter()
        again = opened()
        seconds = time.perf_counter() - started
        print(f"start with {again.count / MILLION:.1f} M: {seconds:.2f} s, {seconds / millions:.4f} s per million")


if __name__ == "__main__":
    main()
