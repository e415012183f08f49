"""Which identities the events table holds, over all of its days: exact, whenever a copy comes.

Every identity is in a filter in memory (`kixo.loader.identity_filter`), which answers for all but 0.5 % of new events
that they are new. The others, and the copies, are looked up in sorted runs (`kixo.loader.identity_store`).

The index is derived from the table. Its manifest says what it covers: the table's id and version, and the log
positions that the table had then. On opening, the rows beyond them are taken in; the names of the table's files and
the positions of their rows tell which these are. An index that is missing, damaged or ahead of the table (which then
was restored from a backup) is made anew from the table. The files that the manifest names hold exactly what it
covers: an identity too many would cost an event.

    manifest.json   the coverage, and the names of the run files; replaced as a whole
    *.run           the run files; those that the manifest does not name are leftovers
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from kixo.files import make_folder, write_atomically
from kixo.lake.report import Report
from kixo.lake.table import LakeTable
from kixo.loader.identities import Identities
from kixo.loader.identity_filter import IdentityFilter
from kixo.loader.identity_runs import DamagedRun, make_run, settle
from kixo.loader.identity_store import IdentityStore
from kixo.loader.table_identities import Beyond, Shard, identities_beyond

FORMAT = 1
MANIFEST = "manifest.json"
# 64 MB of memory; after a crash, up to that many rows are read again from the table.
FLUSH_IDENTITIES = 4_000_000


class Coverage(msgspec.Struct, frozen=True):
    """The state of the events table that an index stands for; `positions` by log partition.

    `shard`: which of its rows, None for all of them.
    """

    table_id: str
    log_id: str
    version: int
    positions: dict[int, int]
    shard: Shard | None = None


class Manifest(msgspec.Struct, frozen=True):
    """The content of `manifest.json`; `runs` maps file names to the number of identities in each."""

    format: int
    coverage: Coverage
    runs: dict[str, int]


class NewIdentities(NamedTuple):
    """Which events of a load are new (`mask`), and their identities as a run."""

    mask: NDArray[np.bool_]
    run: Identities


class IdentityIndex:
    """The index in `folder`, for the events table fed by one log; of a `shard` of its projects, or of all.

    `bytes_max` bounds the filter, `new_id` gives names for files, `flush_identities` is when memory goes to a file.
    """

    def __init__(
        self,
        folder: Path,
        log_id: str,
        bytes_max: int,
        report: Report,
        new_id: Callable[[], str],
        flush_identities: int = FLUSH_IDENTITIES,
        shard: Shard | None = None,
    ) -> None:
        self._folder = folder
        self._shard = shard
        self._log_id = log_id
        self._bytes_max = bytes_max
        self._report = report
        self._new_id = new_id
        self._flush_identities = flush_identities
        self._empty()

    @property
    def count(self) -> int:
        """Identities known."""
        return self.store.count

    @property
    def filter_bytes(self) -> int:
        """The memory of the filter."""
        return self._filter.size_bytes

    def open(self, table: LakeTable, partitions: Sequence[int]) -> None:
        """Loads the index and brings it up to the table, whatever state it is in. Raises `OSError`."""
        open_indexes({self: partitions}, table)

    def begin(self, table: LakeTable) -> Beyond:
        """Loads the index, empty where it does not stand for the table; what of the table it lacks comes by `take`."""
        make_folder(self._folder)
        covered = self._load()
        self._anew = covered is None or not _stands_for(covered, table, self._coverage_of(table, {}))
        if covered is None or self._anew:
            if covered is not None or table.files:
                self._report.info(
                    "The index of identities is made anew from the events table.", folder=str(self._folder)
                )
            self._empty()
            covered = self._covered
        self._files_found = len(self.store.files)
        return Beyond(covered.version, covered.positions, self._shard)

    def take(self, identities: Identities) -> None:
        """Takes in identities of rows that the table holds. Raises `OSError`."""
        self._take_in(make_run(identities))
        if self.flush_due:
            self.store.thaw(self.store.write(self.store.freeze()))

    def settle(self, table: LakeTable, partitions: Sequence[int]) -> None:
        """Says that the index stands for the table as it is, fed by these `partitions`. Raises `OSError`."""
        self._covered = self._coverage_of(table, {number: table.position(number) for number in partitions})
        # A manifest that stands for nothing must not outlive this, or it could seem to fit a later state of the table.
        if self._anew or len(self.store.files) > self._files_found:
            self.flush()
        self.store.drop_leftovers()

    def is_at(self, table: LakeTable, partitions: Sequence[int]) -> bool:
        """Whether the index stands for the table as it is, as far as these partitions are concerned."""
        known = self._covered.positions
        return _stands_for(self._covered, table, self._coverage_of(table, {})) and all(
            known.get(number, 0) == table.position(number) for number in partitions
        )

    def keep_up(self, table: LakeTable) -> None:
        """Where others have committed to the table meanwhile, and nothing of this index: says that it covers that."""
        if self.is_at(table, list(self._covered.positions)):
            self._covered = self._coverage_of(table, self._covered.positions)

    def find_new(self, identities: Identities) -> NewIdentities:
        """Tells which identities are new: neither known nor equal to an earlier one of the same load."""
        # Sorted once: equal ones are then neighbours, look-ups go through the runs in order, and what is new is a run.
        order = np.argsort(identities.low)
        ordered = identities.at(order)
        new = np.ones(len(order), np.bool_)
        new[_later_copies(ordered, order)] = False
        new[self.store.find(ordered, np.flatnonzero(self._filter.may_have(ordered.low)))] = False
        mask = np.empty(len(order), np.bool_)
        mask[order] = new
        return NewIdentities(mask, settle(ordered.at(new)))

    def add(self, new: NewIdentities, table: LakeTable, positions: Mapping[int, int]) -> None:
        """Takes in what `table` has just committed, together with log `positions`."""
        self._take_in(new.run)
        self._covered = self._coverage_of(table, {**self._covered.positions, **positions})

    @property
    def flush_due(self) -> bool:
        """Whether so much is in memory that it should go to a file."""
        return self.store.fresh >= self._flush_identities

    def begin_flush(self) -> list[Identities]:
        """What `store.write` is to write, in whatever thread; then comes `end_flush`, with the file's name."""
        self._frozen = self._covered
        return self.store.freeze()

    def end_flush(self, name: str) -> None:
        """Makes a written file part of the index, durably. Raises `OSError`."""
        self.store.thaw(name)
        self._flushed = self._frozen
        self._write_manifest()

    def flush(self) -> None:
        """Writes what is in memory to a file, and the manifest, durably. Raises `OSError`."""
        runs = self.begin_flush()
        if runs:
            self.end_flush(self.store.write(runs))
        else:
            self._flushed = self._covered
            self._write_manifest()

    def exchange(self, names: Sequence[str], merged: str) -> None:
        """Puts a merged run file in the place of those it was made of, which are deleted."""
        if self.store.exchange(names, merged):
            self._write_manifest()
            self.store.delete(names)

    def _empty(self) -> None:
        self.store = IdentityStore(self._folder, self._new_id)
        self._filter = IdentityFilter(0, self._bytes_max)
        self._covered = self._flushed = self._frozen = Coverage("", self._log_id, -1, {}, self._shard)

    def _load(self) -> Coverage | None:
        self._empty()
        try:
            manifest = msgspec.json.decode((self._folder / MANIFEST).read_bytes(), type=Manifest)
            self._filter = IdentityFilter(sum(manifest.runs.values()), self._bytes_max)
            for name in manifest.runs:
                for part in self.store.load(name):
                    self._filter.add(part)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, DamagedRun) as error:
            self._report.warning("The index of identities is damaged.", folder=str(self._folder), error=str(error))
            return None
        whole = manifest.format == FORMAT and manifest.runs == self.store.files
        self._flushed = manifest.coverage
        return manifest.coverage if whole else None

    def _take_in(self, run: Identities) -> None:
        self._filter.add(run.low)
        self.store.take_in(run)

    def _coverage_of(self, table: LakeTable, positions: dict[int, int]) -> Coverage:
        return Coverage(table.id, self._log_id, table.version, positions, self._shard)

    def _write_manifest(self) -> None:
        manifest = Manifest(FORMAT, self._flushed, dict(self.store.files))
        write_atomically(self._folder / MANIFEST, msgspec.json.encode(manifest))


def open_indexes(
    indexes: Mapping[IdentityIndex, Sequence[int]], table: LakeTable, go_on: Callable[[], None] = lambda: None
) -> None:
    """Loads indexes and brings them up to the table, which is read once for all; each with the partitions it covers.

    `go_on` is called every now and then meanwhile. Raises `OSError`.
    """
    opened = list(indexes)
    for place, identities in identities_beyond(table, [index.begin(table) for index in opened], go_on):
        opened[place].take(identities)
    for index, partitions in indexes.items():
        index.settle(table, partitions)


def _later_copies(ordered: Identities, order: NDArray[np.int64]) -> list[int]:
    """The places of identities, ordered by `low`, that stand earlier in the load too; `order` says where they stood."""
    same = np.zeros(len(order) + 1, np.bool_)
    same[1:-1] = ordered.low[1:] == ordered.low[:-1]
    suspects = np.flatnonzero(same[1:] | same[:-1])
    seen: set[tuple[int, int]] = set()
    later: list[int] = []
    for place in suspects[np.argsort(order[suspects])].tolist():
        identity = (int(ordered.low[place]), int(ordered.high[place]))
        if identity in seen:
            later.append(place)
        seen.add(identity)
    return later


def _stands_for(covered: Coverage, table: LakeTable, now: Coverage) -> bool:
    """Whether the table is the one that was covered, fed by the same log, and holds at least what was covered."""
    return (
        (covered.table_id, covered.log_id, covered.shard) == (now.table_id, now.log_id, now.shard)
        and covered.version <= now.version
        and all(position <= table.position(number) for number, position in covered.positions.items())
    )
