"""A lake on a file system: files and their names are fsynced before a call returns. One process writes it."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from kixo.files import make_folder, sync_file, sync_folder, write_atomically
from kixo.lake.durable import create_durably
from kixo.lake.report import Report
from kixo.lake.store import LakeStore, Sink, StoredFile

if TYPE_CHECKING:
    from deltalake import DeltaTable

LOG_FOLDER = "_delta_log"


def lake_at(where: LakeStore | Path) -> LakeStore:
    """The store that is meant: a path means a folder."""
    return LocalLake(where) if isinstance(where, Path) else where


class LocalSink:
    """A file that is being written by its path."""

    def __init__(self, path: Path) -> None:
        self.target = path

    @property
    def size_bytes(self) -> int:
        """The size of the file."""
        return self.target.stat().st_size

    def sync(self) -> None:
        """Syncs what is written so far."""
        sync_file(self.target)


class LocalLake:
    """The lake, or a folder of it, in `folder`."""

    def __init__(self, folder: Path, *, has_many_writers: bool = False) -> None:
        self.folder = folder
        self.has_many_writers = has_many_writers

    @property
    def url(self) -> str:
        """The path."""
        return str(self.folder)

    @property
    def argument(self) -> str:
        """The path."""
        return str(self.folder.absolute())

    def inside(self, folder: str) -> "LocalLake":
        """A folder in it."""
        return LocalLake(self.folder / folder, has_many_writers=self.has_many_writers)

    def exists(self) -> bool:
        """Whether the folder is there."""
        return self.folder.is_dir()

    def make(self) -> None:
        """Makes the folder, durably."""
        make_folder(self.folder)

    def read(self, path: str) -> bytes:
        """The whole file."""
        return (self.folder / path).read_bytes()

    def create(self, path: str, data: bytes) -> None:
        """Links a synced file into place, which fails where another writer was faster."""
        create_durably(self.folder / path, data)

    def replace(self, path: str, data: bytes) -> None:
        """Renames a synced file into place; makes the folder where it is not there."""
        make_folder(self.folder)
        write_atomically(self.folder / path, data)

    def list(self, folder: str = "") -> Iterator[StoredFile]:
        """The files of a folder, or of all; of one that is not there, none."""
        folders = [self.folder / folder] if folder else self.folder.iterdir()
        for each in folders:
            if each.is_dir():
                yield from map(self._stored, each.iterdir())

    def delete(self, paths: Iterable[str]) -> None:
        """Unlinks each."""
        for path in paths:
            (self.folder / path).unlink(missing_ok=True)

    @contextmanager
    def write(self, path: str) -> Iterator[Sink]:
        """Syncs the file at the end of the block, and its name."""
        target = self.folder / path
        if not self.folder.is_dir():
            # Making it anew would leave two halves of a table when its folder, moved away or unmounted, comes back.
            raise FileNotFoundError(f"the table's folder {self.folder} is gone")
        if not target.parent.is_dir():
            make_folder(target.parent)
        sink = LocalSink(target)
        yield sink
        sink.sync()
        sync_folder(target.parent)

    def source(self, path: str) -> Path:
        """Its path."""
        return self.folder / path

    whole = source

    def retire(self, paths: Iterable[str], now_s: float) -> None:
        """Sets their time of modification."""
        for path in paths:
            os.utime(self.folder / path, (now_s, now_s))

    def is_table(self) -> bool:
        """Whether it has the log of a table, with something in it."""
        return any((self.folder / LOG_FOLDER).glob("[0-9]*"))

    def open_delta(self, version: int | None = None) -> "DeltaTable":
        """The table in the folder."""
        from deltalake import DeltaTable

        return DeltaTable(self.folder.resolve(), version=version)

    def settle(self, paths: Iterable[str]) -> None:
        """Syncs files of one folder that another wrote, and their names."""
        files = [self.folder / path for path in paths]
        for file in files:
            sync_file(file)
        sync_folder(files[0].parent)

    def mend(self, report: Report) -> None:
        """Moves aside what is torn."""
        from kixo.lake.repair import repair

        repair(self.folder, report, alone=not self.has_many_writers)

    def address(self, uri: str) -> str:
        """The path."""
        # What it gives is a URI even where it looks like a path: a space in it reads %20.
        path = unquote(uri.removeprefix("file://"))
        return path if path.startswith("/") else str(self.folder.resolve() / path)

    def _stored(self, path: Path) -> StoredFile:
        status = path.stat()
        return StoredFile(f"{path.parent.name}/{path.name}", status.st_size, status.st_mtime)
