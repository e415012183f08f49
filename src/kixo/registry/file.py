"""The registry's SQLite file: how it comes to be, how it is opened, and what its faults mean to a person.

The file is in WAL mode, so a reader is never held up by a writer, nor by one that was stopped in the middle.
`synchronous=FULL` makes each commit wait for the disk. `wal_autocheckpoint=1` folds the WAL into the file at every
commit (changes are rare), so a plain copy of the file is a backup. A new file is built under another name and linked
into place: nobody ever sees half a registry, and of two processes that make one at the same time, one wins.
"""

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection

from kixo.errors import DataFolderError, OperatorError, RegistryLocked
from kixo.files import make_folder, sync_folder
from kixo.registry import tables
from kixo.registry.store import Mark

LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
DAMAGED = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR}


class RegistryFile:
    """A registry in an existing file: a `Store`. A locked file is waited for up to `wait_s` seconds.

    Raises `DataFolderError` where there is none.
    """

    def __init__(self, path: Path, wait_s: float) -> None:
        self._path = path
        self._identity = self._file_identity()
        self._engine = open_engine(path, wait_s)
        self._writing_engine = self._engine.execution_options(begin="BEGIN IMMEDIATE")

    def __str__(self) -> str:
        return str(self._path)

    def close(self) -> None:
        """See `Store`."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """See `Store`."""
        with faults(self._path), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """See `Store`."""
        with faults(self._path), self._writing_engine.begin() as connection:
            yield connection

    def mark(self) -> Mark:
        """See `Store`."""
        with self.reading() as connection:
            return Mark(self._identity, tables.revision(connection))

    def replaced(self) -> bool:
        """See `Store`."""
        return self._file_identity() != self._identity

    def _file_identity(self) -> tuple[int, int]:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            raise DataFolderError(
                f"There is no registry {self._path}.",
                "Make one with 'kixo project create' or 'kixo serve', or correct --data-dir.",
            ) from None
        except OSError as error:
            raise DataFolderError(
                f"The registry {self._path} cannot be read: {error}.", "Correct --data-dir."
            ) from None
        return status.st_dev, status.st_ino


def create(path: Path, set_up: Callable[[Connection], None]) -> None:
    """Makes a registry at `path` with the tables that `set_up` makes, unless there is one; raises `OperatorError`."""
    if path.exists():
        return
    with faults(path):
        make_folder(path.parent, 0o700)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".registry-")
        try:
            _fill(Path(name), set_up)
            os.fsync(descriptor)
            _link(Path(name), path)
        finally:
            os.close(descriptor)
            Path(name).unlink()


def open_engine(path: Path, wait_s: float) -> Engine:
    """An engine on the existing file, with one kept connection; a locked file is waited for up to `wait_s` seconds.

    Transactions begin as SQLite's `BEGIN`, or as what the execution option `begin` says.
    """

    def connect() -> sqlite3.Connection:
        address = f"{path.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(address, uri=True, timeout=wait_s, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA wal_autocheckpoint=1")
        return connection

    # Threads take turns with the one connection, each within the same time.
    engine = create_engine(
        "sqlite://", creator=connect, poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=max(wait_s, 0.1)
    )
    event.listen(engine, "begin", _begin)
    return engine


@contextmanager
def faults(path: Path) -> Iterator[None]:
    """Turns what SQLite and the file system complain of into `RegistryLocked` and `DataFolderError`."""
    try:
        yield
    except DBAPIError as error:
        raise _fault(path, error.orig) from error
    except NoConnection as error:
        raise RegistryLocked(f"Too many ask the registry {path} at once.", "Try again in a moment.") from error
    except (sqlite3.Error, OSError) as error:
        raise _fault(path, error) from error


def _fault(path: Path, cause: BaseException | None) -> OperatorError:
    reason = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    if reason in LOCKED:
        return RegistryLocked(
            f"Another process holds the registry {path}.", "Wait for it to end, or stop it, then try again."
        )
    if reason in DAMAGED:
        return DataFolderError(
            f"{path} is damaged or is not a Kixo registry ({cause}).", "Restore it from a backup, or move it away."
        )
    return DataFolderError(
        f"The registry {path} cannot be used: {cause}.", "Check the folder, its permissions and the free disk space."
    )


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))


def _fill(path: Path, set_up: Callable[[Connection], None]) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    engine = open_engine(path, 0)
    try:
        with engine.begin() as transaction:
            set_up(transaction)
    finally:
        engine.dispose()


def _link(fresh: Path, path: Path) -> None:
    try:
        os.link(fresh, path)
    except FileExistsError:
        return
    sync_folder(path.parent)
