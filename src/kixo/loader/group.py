"""The loaders that share a log, as one of them sees it: which partitions are its own now, and what it does for all.

Whose a partition is may change at any moment, and a loader that stood still may learn of it late. So nothing depends
on what a loader believes: a commit names the positions that it builds on, and of two loaders of one partition only one
gets through (`LakeTable.commit`).
"""

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

WHOLE = 0
"""The number of the one shard where the identities are not divided."""


class LoaderGroup(Protocol):
    """One loader's place among those that share a log."""

    @property
    def division(self) -> int | None:
        """Into how many shards the identities are divided; None where they are not, and one loader has them all."""
        ...

    @property
    def leads(self) -> bool:
        """Whether this loader is the one that merges, checkpoints and cleans the tables."""
        ...

    def shards(self, let_go: Callable[[Collection[int]], None]) -> Mapping[int, int]:
        """The shards that are this loader's from now on, each with a number that is another if it was away meanwhile.

        `let_go` is told of shards before anybody else can get them. Raises `OSError`.
        """
        ...

    def keep_place(self) -> None:
        """Shows the others that this loader lives, in the middle of something that takes long. Raises `OSError`."""
        ...

    def awaits(self, partition: int, position: int, end: int) -> bool:
        """Whether frames from `position` on and before `end` are still to come, though none can be read just now."""
        ...


class Alone:
    """A loader that has the log for itself."""

    division: int | None = None
    leads = True

    def shards(self, _let_go: Callable[[Collection[int]], None]) -> Mapping[int, int]:
        """The one shard."""
        return {WHOLE: 0}

    def keep_place(self) -> None:
        """There is nobody to show it to."""

    def awaits(self, _partition: int, _position: int, _end: int) -> bool:
        """What is in the log can be read."""
        return False
