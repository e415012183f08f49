"""What the tables need of the place they lie in: a folder of files, or a part of a bucket.

Paths are relative to the store and have slashes. What a call has written is durable when it returns, as far as the
place can promise that. `kixo.lake.local` is the form on a file system, `kixo.lake.objects` the one on object storage.

A lake that `has_many_writers` may be written by loaders on other machines at any moment. Nobody can then tell a file
that was left behind from one that will be committed in a moment, except by waiting.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from kixo.lake.report import Report


@dataclass(frozen=True)
class StoredFile:
    """A file in a store: its path, its size, and when it was last needed or written, in seconds since 1970."""

    path: str
    size_bytes: int
    modified_s: float


class Sink(Protocol):
    """A new file that is being written to `target`, which Arrow's writers take; `size_bytes` is known afterwards."""

    @property
    def target(self) -> Any:
        """A path or a binary file."""
        ...

    @property
    def size_bytes(self) -> int:
        """How large the file has become; once it is closed."""
        ...

    def sync(self) -> None:
        """Lets go to the disk what is written so far. Raises `OSError`."""
        ...


class LakeStore(Protocol):
    """A lake, or one folder of it. Every call may raise `OSError`."""

    @property
    def url(self) -> str:
        """Where it is: a path or an `s3://` URL, for people and for the Delta library."""
        ...

    @property
    def argument(self) -> str:
        """What opens it again in a child process (`kixo.lake.opening.reopen`); never a secret."""
        ...

    @property
    def has_many_writers(self) -> bool:
        """Whether others may write while we do."""
        ...

    def inside(self, folder: str) -> "LakeStore":
        """The store of a folder in it, which need not be there."""
        ...

    def exists(self) -> bool:
        """Whether there is anything in it."""
        ...

    def make(self) -> None:
        """Makes the folder where the place knows folders."""
        ...

    def read(self, path: str) -> bytes:
        """The whole file; raises `FileNotFoundError`."""
        ...

    def create(self, path: str, data: bytes) -> None:
        """Puts a new file in place whole or not at all; raises `FileExistsError` where there is one."""
        ...

    def replace(self, path: str, data: bytes) -> None:
        """Puts a whole file in place of what is there: readers see the old bytes or the new ones."""
        ...

    def list(self, folder: str = "") -> Iterator[StoredFile]:
        """The files in a folder, or in all folders."""
        ...

    def delete(self, paths: Iterable[str]) -> None:
        """Deletes files; those that are gone already are passed over."""
        ...

    def write(self, path: str) -> AbstractContextManager[Sink]:
        """A new file, in place and durable at the end of the block; `FileNotFoundError` where the store is gone."""
        ...

    def source(self, path: str) -> Any:
        """A file for Arrow's readers, of which they read what they need."""
        ...

    def whole(self, path: str) -> Any:
        """A file for Arrow's readers that will read all of it."""
        ...

    def retire(self, paths: Iterable[str], now_s: float) -> None:
        """Marks files as needed until now, in seconds since 1970, where the place can keep that."""
        ...

    def is_table(self) -> bool:
        """Whether a Delta table is here."""
        ...

    def open_delta(self, version: int | None = None) -> "DeltaTable":
        """The table that is here, at its latest or the given version."""
        ...

    def address(self, uri: str) -> str:
        """By which name a query opens the file that the Delta library calls `uri`."""
        ...

    def settle(self, paths: Iterable[str]) -> None:
        """Makes durable what the Delta library wrote in one folder."""
        ...

    def mend(self, report: "Report") -> None:
        """Mends what a power loss can leave of the table's log."""
        ...
