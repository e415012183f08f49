"""Where events wait for their turn: in memory alone, or in a spool that outlives the process (`kixo.client.spool`)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from kixo.client.outbox import Outbox

if TYPE_CHECKING:
    from pathlib import Path


class Load(NamedTuple):
    """Events that were taken to be sent. `receipt` is what the store knows them by, if it keeps them."""

    events: Sequence[bytes]
    receipt: object = None


class Store(Protocol):
    """Events in order, the oldest first. The worker's alone, but for the three counts."""

    @property
    def path(self) -> "Path | None":
        """The file that this process holds, if it holds one. A child of it leaves it alone."""
        ...

    @property
    def entered(self) -> int:
        """Events that came in, from this process and from earlier ones."""
        ...

    @property
    def dropped(self) -> int:
        """Events that were lost because there was no room."""
        ...

    @property
    def displaced(self) -> int:
        """Those of them that had entered."""
        ...

    def open(self) -> None:
        """Finds what earlier processes left. Called before anything is taken."""
        ...

    def waiting(self) -> tuple[int, int]:
        """Events that wait, and their bytes."""
        ...

    def keep(self, now_s: float, *, urgent: bool) -> float | None:
        """Makes safe what is not safe yet, once it is due; the seconds until it is, None: nothing to do."""
        ...

    def take(self, events_max: int, bytes_max: int) -> Load:
        """The oldest events, at most so many but at least one if there is one."""
        ...

    def settle(self, load: Load) -> None:
        """All of the load's events have found their end, and need not be kept."""
        ...

    def close(self, unkept: int) -> None:
        """Ends. What waits is kept or counts as dropped, as do the `unkept` events in the worker's hands."""
        ...

    def before_fork(self) -> None:
        """Nothing may be open when the process is forked."""
        ...

    def after_fork(self) -> None:
        """The parent goes on."""
        ...


class MemoryStore:
    """The outbox, and nothing else."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._abandoned = 0

    @property
    def path(self) -> None:
        """There is none."""

    @property
    def entered(self) -> int:
        """All that were put."""
        return self._outbox.entered

    @property
    def dropped(self) -> int:
        """The outbox's, and what was left at the end."""
        return self._outbox.dropped + self._abandoned

    @property
    def displaced(self) -> int:
        """The outbox's, and what was left at the end."""
        return self._outbox.displaced + self._abandoned

    def open(self) -> None:
        """There is nothing to find."""

    def waiting(self) -> tuple[int, int]:
        """What is in the outbox."""
        return len(self._outbox), self._outbox.bytes

    def keep(self, now_s: float, *, urgent: bool) -> None:
        """There is nothing to do."""

    def take(self, events_max: int, bytes_max: int) -> Load:
        """From the outbox."""
        return Load(self._outbox.take(events_max, bytes_max))

    def settle(self, load: Load) -> None:
        """There is nothing to forget."""

    def close(self, unkept: int) -> None:
        """What waits is lost."""
        self._abandoned = unkept + len(self._outbox.take_all())

    def before_fork(self) -> None:
        """There is nothing to close."""

    def after_fork(self) -> None:
        """There is nothing to open."""
