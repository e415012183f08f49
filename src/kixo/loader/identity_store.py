"""All identities of the index, exactly: the last few million in memory, older ones in run files.

Eight runs of about one size are merged into one, so that there are few to look into, and each identity is written
once per eightfold growth. The store keeps no list of its files on disk: the index's manifest does.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kixo.loader.identities import Identities
from kixo.loader.identity_runs import check_run, find, map_run, merge, merge_files, write_run

FAN_OUT = 8


class IdentityStore:
    """The runs of the index in `folder`. `new_id` gives names for files."""

    def __init__(self, folder: Path, new_id: Callable[[], str]) -> None:
        self._folder = folder
        self._new_id = new_id
        self._runs: list[Identities] = []
        self._frozen: list[Identities] = []
        self._mapped: dict[str, Identities] = {}
        self.files: dict[str, int] = {}

    @property
    def fresh(self) -> int:
        """Identities that are in no file yet, and not on their way to one."""
        return sum(len(run.low) for run in self._runs)

    @property
    def count(self) -> int:
        """All identities."""
        return self.fresh + sum(len(run.low) for run in self._frozen) + sum(self.files.values())

    def load(self, name: str) -> Iterator[NDArray[np.uint64]]:
        """Takes in a run file, yielding its low halves; raises `DamagedRun` or `OSError`."""
        path = self._folder / name
        yield from check_run(path)
        self._map(name)

    def take_in(self, run: Identities) -> None:
        """Adds a run, in memory."""
        if len(run.low):
            self._runs.append(run)
        while due := _of_one_size({str(number): len(each.low) for number, each in enumerate(self._runs)}):
            chosen = {int(number) for number in due}
            merged = merge([self._runs[number] for number in sorted(chosen)])
            self._runs = [each for number, each in enumerate(self._runs) if number not in chosen] + [merged]

    def find(self, identities: Identities, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of `places` at which an identity stands that is in the store; quick if they are sorted by `low`."""
        # Newest runs first, because copies mostly come soon.
        known: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        for run in (*reversed(self._runs), *self._frozen, *self._mapped.values()):
            found = find(run, identities.at(places))
            known.append(places[found])
            places = places[~found]
        return np.concatenate(known)

    def freeze(self) -> list[Identities]:
        """All runs in memory, to be written to a file; later ones are kept apart from them until `thaw`."""
        self._frozen, self._runs = self._frozen + self._runs, []
        return self._frozen

    def write(self, runs: Sequence[Identities]) -> str:
        """Writes runs to a new file, durably, and returns its name. May run in another thread. Raises `OSError`."""
        name = self._new_name()
        write_run(self._folder / name, merge(runs))
        return name

    def thaw(self, name: str) -> None:
        """Puts the file in the place of what was frozen."""
        self._map(name)
        self._frozen = []

    def merge_due(self) -> list[str]:
        """The names of run files that should be merged now; empty when none should."""
        return _of_one_size(self.files)

    def merge_files(self, names: Sequence[str]) -> str:
        """Writes a new run file with the content of others, durably; its name. May run in another thread."""
        name = self._new_name()
        merge_files([self._folder / each for each in names], self._folder / name)
        return name

    def exchange(self, names: Sequence[str], merged: str) -> bool:
        """Puts a merged file in the place of those it was made of; False where they are no longer in the store."""
        if not all(name in self.files for name in names):
            return False
        for name in names:
            del self._mapped[name], self.files[name]
        self._map(merged)
        return True

    def delete(self, names: Sequence[str]) -> None:
        """Deletes files that were exchanged, and that no manifest names any more."""
        for name in names:
            (self._folder / name).unlink(missing_ok=True)

    def drop_leftovers(self) -> None:
        """Deletes all files in the folder that are not in the store, those that a thread may be writing included."""
        for path in (*self._folder.glob("*.run"), *self._folder.glob("*.tmp")):
            if path.name not in self.files:
                path.unlink(missing_ok=True)

    def _map(self, name: str) -> None:
        self._mapped[name] = map_run(self._folder / name)
        self.files[name] = len(self._mapped[name].low)

    def _new_name(self) -> str:
        return f"{self._new_id()}.run"


def _of_one_size(counts: Mapping[str, int]) -> list[str]:
    tiers: dict[int, list[str]] = {}
    for name, count in counts.items():
        # Three bits a tier: sizes of one tier differ by less than eight times.
        tier = tiers.setdefault(count.bit_length() // 3, [])
        tier.append(name)
        if len(tier) == FAN_OUT:
            return tier
    return []
