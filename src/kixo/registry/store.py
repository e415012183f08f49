"""Where a registry is kept: what a file and a database server have in common."""

from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from sqlalchemy import Connection


class Mark(NamedTuple):
    """Which store it is, and its revision: two equal ones mean that nothing has changed."""

    identity: object
    revision: int


class Store(Protocol):
    """An opened registry without its rules. `str` of it names it to people.

    Every method raises `RegistryLocked` where somebody else holds it for too long, and another `OperatorError` where it
    cannot be used.
    """

    def reading(self) -> AbstractContextManager[Connection]:
        """A transaction that reads, all of it as of one moment."""
        ...

    def writing(self) -> AbstractContextManager[Connection]:
        """A transaction that writes; there is no other meanwhile, and it sees what those before it wrote."""
        ...

    def mark(self) -> Mark:
        """Which store and revision it is; asked several times a second, so it costs little."""
        ...

    def replaced(self) -> bool:
        """Whether another store has taken the place of the one that is open, which has to be opened anew."""
        ...

    def close(self) -> None:
        """Lets go of it."""
        ...
