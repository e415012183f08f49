"""The data folder: one server at a time, and never one that is older than the data.

kixo.json        the format of the folder
registry.sqlite  projects and keys
log/             accepted requests that are not in the tables yet
lake/            the tables
index/           the identities of the events in the tables, derived from them
run/             what only matters while a server runs: lock, addresses, counters
"""

import fcntl
import json
import os
from pathlib import Path

from kixo.errors import DataFolderError
from kixo.files import write_atomically

FORMAT = 1


class DataFolder:
    """The data folder, held by this process until it is closed. Raises `DataFolderError`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = -1
        _check_name(path)
        try:
            (path / "run").mkdir(parents=True, exist_ok=True)
            check_format(path)
            self._lock = _lock(path)
            if not (path / "kixo.json").exists():
                write_atomically(path / "kixo.json", json.dumps({"format": FORMAT}).encode())
            (path / "run" / "server.json").unlink(missing_ok=True)
        except OSError as error:
            raise DataFolderError(
                f"The data folder {path} cannot be used: {error.strerror}.",
                "Choose another --data-dir, or mend its permissions and disk.",
            ) from error

    def close(self) -> None:
        """Lets go of the folder."""
        (self._path / "run" / "server.json").unlink(missing_ok=True)
        os.close(self._lock)

    def announce(self, facts: dict[str, object]) -> None:
        """Writes `run/server.json`, by which other programs find the running server."""
        write_atomically(self._path / "run" / "server.json", json.dumps(facts).encode())


def _check_name(path: Path) -> None:
    """The table library takes paths for URLs and patterns, and fails on these characters without a word."""
    odd = sorted(set(str(path.resolve())) & set("[]%*?"))
    if odd:
        raise DataFolderError(
            f"The path of the data folder {path} has {' '.join(odd)} in it, which the tables cannot have.",
            "Choose another --data-dir.",
        )


def check_format(path: Path) -> None:
    """Raises `DataFolderError` where a newer Kixo wrote the folder, or `kixo.json` is damaged."""
    try:
        found = int(json.loads((path / "kixo.json").read_bytes())["format"])
    except (FileNotFoundError, NotADirectoryError):
        return
    except (ValueError, KeyError, TypeError) as error:
        raise DataFolderError(
            f"{path / 'kixo.json'} is damaged.", f'Restore it, or write {{"format": {FORMAT}}} into it.'
        ) from error
    if found > FORMAT:
        raise DataFolderError(
            f"The data folder {path} has format {found}, and this Kixo knows up to {FORMAT}.", "Install a newer Kixo."
        )


def _lock(path: Path) -> int:
    lock = os.open(path / "run" / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise DataFolderError(
            f"Another Kixo server uses the data folder {path}.", "Stop it, or choose another --data-dir."
        ) from error
    return lock
