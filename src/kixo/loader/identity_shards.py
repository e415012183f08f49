"""The identities that this loader knows: all in one index, or an index for each of its shards of the projects.

A partition of the log, where it is shared, carries the events of some projects, and the shard of the same number has
their identities (`kixo.log.partition_of`). So all copies of an event meet in one shard, whoever loads it.

    index/             all identities, where one loader has the log for itself
    index/<log id>/    a folder for each shard: its number, and a further one where another process still holds that

A folder is a cache of the table: one that is gone, old, or on another machine is made anew or brought up to it.
"""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kixo.files import make_folder, try_lock
from kixo.lake.report import Report
from kixo.lake.table import LakeTable
from kixo.loader.group import WHOLE
from kixo.loader.identities import Identities
from kixo.loader.identity_index import FLUSH_IDENTITIES, IdentityIndex, NewIdentities, open_indexes
from kixo.loader.table_identities import Shard
from kixo.loader.upkeep import IndexUpkeep

# Below this, run files would become many and small.
FLUSH_IDENTITIES_MIN = 250_000
LOCK = "lock"
NONE_NEW = NewIdentities(np.empty(0, np.bool_), Identities(np.empty(0, np.uint64), np.empty(0, np.uint64)))


class NewRows(NamedTuple):
    """Which rows of a load are new (`mask`), and by shard what that adds to it."""

    mask: NDArray[np.bool_]
    shards: dict[int, NewIdentities]


@dataclass(frozen=True)
class IndexPlace:
    """Where indexes lie and what they may take. `division`: the number of shards, None for one index of everything."""

    folder: Path
    log_id: str
    division: int | None
    filter_bytes_max: int
    report: Report
    new_id: Callable[[], str]
    thread: ThreadPoolExecutor


@dataclass(frozen=True)
class _Held:
    index: IdentityIndex
    upkeep: IndexUpkeep
    assignment: int
    lock: int | None


class IdentityShards:
    """The indexes of the shards that this loader holds."""

    def __init__(self, place: IndexPlace) -> None:
        self._place = place
        self._held: dict[int, _Held] = {}

    @property
    def count(self) -> int:
        """Identities known."""
        return sum(held.index.count for held in self._held.values())

    @property
    def fresh(self) -> int:
        """Identities that are in no file yet."""
        return sum(held.index.store.fresh for held in self._held.values())

    @property
    def filter_bytes(self) -> int:
        """The memory of the filters."""
        return sum(held.index.filter_bytes for held in self._held.values())

    def partitions(self, shard: int, all_partitions: Sequence[int]) -> Sequence[int]:
        """The partitions of the log that feed a shard."""
        return all_partitions if self._place.division is None else [shard]

    def hold(
        self, wanted: Mapping[int, int], table: LakeTable, partitions: Sequence[int], go_on: Callable[[], None]
    ) -> None:
        """Holds these shards and no others: lets go of the rest, and brings new ones up to the table.

        `wanted` maps shards to the numbers of their assignment; one with another number is opened anew. `go_on` is
        called meanwhile. Raises `OSError`.
        """
        self.let_go([number for number, held in self._held.items() if wanted.get(number) != held.assignment], table)
        opened = {number: self._make(number, wanted[number]) for number in wanted if number not in self._held}
        try:
            open_indexes({each.index: self.partitions(n, partitions) for n, each in opened.items()}, table, go_on)
        except BaseException:
            _unlock(opened.values())
            raise
        self._held.update(opened)

    def let_go(self, shards: Collection[int], table: LakeTable | None = None) -> None:
        """Writes what is in memory of some shards to disk, so that the next start is quick, and forgets them."""
        gone = [self._held.pop(number) for number in shards if number in self._held]
        for held in gone:
            if table is not None:
                held.index.keep_up(table)
            self._flush(held.index)
        _unlock(gone)

    def drop_outdated(self, table: LakeTable, partitions: Sequence[int]) -> None:
        """Forgets the shards that do not stand for the table as it is; they have to be opened anew."""
        old = [
            number
            for number, held in self._held.items()
            if not held.index.is_at(table, self.partitions(number, partitions))
        ]
        _unlock([self._held.pop(number) for number in old])

    def find_new(self, identities: Identities, partitions: NDArray[np.int32]) -> NewRows:
        """Tells which rows of a load are new, from their identities and the partitions they came by."""
        if self._place.division is None:
            new = self._held[WHOLE].index.find_new(identities)
            return NewRows(new.mask, {WHOLE: new})
        mask = np.zeros(len(partitions), np.bool_)
        shards: dict[int, NewIdentities] = {}
        for number in np.flatnonzero(np.bincount(partitions)).tolist():
            places = np.flatnonzero(partitions == number)
            shards[number] = self._held[number].index.find_new(identities.at(places))
            mask[places] = shards[number].mask
        return NewRows(mask, shards)

    def add(self, new: NewRows, table: LakeTable, positions: Mapping[int, int]) -> None:
        """Takes in what `table` has just committed, together with log `positions`."""
        if self._place.division is None:
            self._held[WHOLE].index.add(new.shards[WHOLE], table, positions)
            return
        for number, position in positions.items():
            self._held[number].index.add(new.shards.get(number, NONE_NEW), table, {number: position})

    def upkeep(self) -> None:
        """Writes and merges the files of the indexes, as is due. Raises `OSError`."""
        for held in self._held.values():
            held.upkeep.step()

    def close(self) -> None:
        """Lets go of all."""
        self.let_go(list(self._held))

    def _make(self, number: int, assignment: int) -> _Held:
        place = self._place
        if place.division is None:
            return self._with(place.folder, None, FLUSH_IDENTITIES, place.filter_bytes_max, assignment, None)
        folder, lock = _claim(place.folder / place.log_id, number)
        flush_identities = max(FLUSH_IDENTITIES_MIN, FLUSH_IDENTITIES // place.division)
        bytes_max = place.filter_bytes_max // place.division
        return self._with(folder, Shard(number, place.division), flush_identities, bytes_max, assignment, lock)

    def _with(
        self, folder: Path, shard: Shard | None, flush: int, bytes_max: int, assignment: int, lock: int | None
    ) -> _Held:
        place = self._place
        index = IdentityIndex(folder, place.log_id, bytes_max, place.report, place.new_id, flush, shard)
        return _Held(index, IndexUpkeep(index, place.thread), assignment, lock)

    def _flush(self, index: IdentityIndex) -> None:
        try:
            index.flush()
        except OSError as error:
            self._place.report.warning(
                "The index of identities could not be written. The next start makes it anew, which takes time.",
                folder=str(self._place.folder),
                error=str(error),
            )


def _claim(parent: Path, number: int) -> tuple[Path, int]:
    """A folder for a shard that no other process holds, and the lock on it."""
    for further in count():
        folder = parent / (f"{number}-{further}" if further else str(number))
        make_folder(folder)
        if (lock := try_lock(folder / LOCK)) is not None:
            return folder, lock
    raise AssertionError("unreachable")


def _unlock(gone: Collection[_Held]) -> None:
    for held in gone:
        if held.lock is not None:
            os.close(held.lock)
