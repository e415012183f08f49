"""The file system that a query's DuckDB has on object storage: the files of one snapshot, read in ranges, no more.

DuckDB asks it only for what its own `allowed_paths` let through, which are the same files; each of the two would do.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from fsspec import AbstractFileSystem

from kixo.lake.objects import ObjectLake
from kixo.lake.ranges import RangedFile

# Files are never changed, so the time of change that DuckDB asks for is one and the same.
UNCHANGED = datetime(1970, 1, 1, tzinfo=UTC)


class SnapshotFiles(AbstractFileSystem):  # type: ignore[misc]
    """The files `paths`, as `TableView.paths` names them. `ends` has the size and the last bytes of one."""

    protocol = "s3"
    # Each is for one query: the library would give out an earlier one.
    cachable = False

    def __init__(self, lake: ObjectLake, ends: Any, paths: frozenset[str]) -> None:
        super().__init__()
        self._lake = lake
        self._end_of: Callable[[str], tuple[int, bytes]] = ends.of
        self._paths = {_stripped(path): lake.inner(path) for path in paths}

    def open(self, path: str, mode: str = "rb", **_: Any) -> RangedFile:
        """A file of the snapshot, for reading; raises `FileNotFoundError` for any other."""
        inner = self._inner(path)
        if mode != "rb":
            raise PermissionError("The tables can only be read.")
        size, tail = self._end_of(inner)
        return RangedFile(lambda start, length: self._lake.range(inner, start, length), size, tail)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Name and size."""
        size, _tail = self._end_of(self._inner(path))
        return {"name": _stripped(path), "size": size, "type": "file"}

    def glob(self, path: str, **_: Any) -> list[str]:
        """The one file of that name: a name is never a pattern here."""
        return [_stripped(path)] if self.exists(path) else []

    def exists(self, path: str, **_: Any) -> bool:
        """Whether it is a file of the snapshot."""
        return _stripped(path) in self._paths

    def isfile(self, path: str) -> bool:
        """The same."""
        return self.exists(path)

    def isdir(self, path: str) -> bool:
        """There are no folders."""
        return False

    def modified(self, path: str) -> datetime:
        """Never."""
        return UNCHANGED

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """Nothing is listed."""
        return []

    def _inner(self, path: str) -> str:
        try:
            return self._paths[_stripped(path)]
        except KeyError:
            raise FileNotFoundError("That is no file of the tables.") from None


def _stripped(path: str) -> str:
    return path.removeprefix("s3://")
