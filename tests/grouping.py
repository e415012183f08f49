"""Loaders that share a log and a lake: each with an index of its own, as on machines of their own."""

from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from kixo.lake.local import LocalLake
from kixo.lake.store import LakeStore
from kixo.loader.loader import Loader, Surroundings
from kixo.log import Frame, partition_of
from kixo.metric_file import MetricFile
from kixo.settings import Settings
from tests.loading import Clock, MemoryLog, Reports, rows_of

PARTITIONS = 4


class Member:
    """One loader's view of the group: it has what it was given, and sees of it what it has looked at."""

    division: int | None = PARTITIONS

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._given: dict[int, int] = {}
        self._seen: dict[int, int] = {}
        self.released: dict[int, int] = {}
        # Frames of these partitions are on their way.
        self.away: set[int] = set()

    @property
    def log_id(self) -> str:
        return self._log.log_id

    @property
    def leads(self) -> bool:
        return 0 in self._seen

    def give(self, *partitions: int, assignment: int) -> None:
        """Gives partitions; those that it had keep the number of their assignment."""
        self._given = {number: self._given.get(number, assignment) for number in partitions}

    def shards(self, let_go: Callable[[Collection[int]], None]) -> Mapping[int, int]:
        let_go([number for number, assignment in self._seen.items() if self._given.get(number) != assignment])
        self._seen = dict(self._given)
        return self._seen

    def keep_place(self) -> None: ...

    def awaits(self, partition: int, position: int, end: int) -> bool:
        return partition in self.away and position < end

    def partitions(self) -> list[int]:
        return sorted(self._seen)

    def read(self, partition: int, position: int, bytes_max: int) -> list[Frame]:
        return [] if partition in self.away else self._log.read(partition, position, bytes_max)

    def backlog_bytes(self, partition: int, position: int) -> int:
        return self._log.backlog_bytes(partition, position)

    def end_position(self, partition: int) -> int:
        return self._log.end_position(partition)

    def release(self, partition: int, position: int) -> int:
        self.released[partition] = position
        return 0

    def close(self) -> None: ...


class Group:
    """A log of some partitions, a lake, and loaders that share both."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.lake = folder / "lake"
        self.store: LakeStore = LocalLake(self.lake, has_many_writers=True)
        self.log = MemoryLog(frames={number: [] for number in range(PARTITIONS)})
        self.reports = Reports()
        self.clock = Clock()
        self.settings = Settings(**settings)
        self.members: dict[str, Member] = {}
        self._assignments = count(1)
        self._ids: Iterator[int] = count()

    def give(self, **partitions: Collection[int]) -> None:
        """Gives each member these partitions; those who are not named keep what they have, as if cut off."""
        assignment = next(self._assignments)
        for name, numbers in partitions.items():
            self.members.setdefault(name, Member(self.log)).give(*numbers, assignment=assignment)

    def loader(self, name: str, step: Callable[[str], None] = lambda _: None) -> Loader:
        """A new loader for a member, opened, with the index that the member's earlier loaders left."""
        member = self.members[name]
        member._seen = {}
        loader = Loader(
            Surroundings(
                self.store,
                self.folder / f"index of {name}",
                member,
                self.settings,
                self.clock,
                MetricFile(self.folder / f"metrics of {name}"),
                self.reports,
                lambda: f"{next(self._ids):08d}",
                step,
                lambda: self.clock() / 1e6,
                group=member,
            )
        )
        loader.open()
        return loader

    def append(self, frame: Frame, project: str = "p") -> None:
        """Puts a frame where its project belongs."""
        self.log.append(frame, partition_of(project, PARTITIONS))

    def rows(self, table: str, columns: str, order: str = "ALL") -> list[tuple[Any, ...]]:
        return rows_of(self.lake, table, columns, order)


def load_all(loader: Loader) -> None:
    """Loads until the loader's partitions have nothing more."""
    while loader.run_once().bytes:
        pass


def project_in(partition: int, number: int = 0) -> str:
    """A project whose events come to a partition."""
    return [name for name in map(str, range(1000)) if partition_of(name, PARTITIONS) == partition][number]
