"""Events on disk, so that they outlive the process: a folder with one SQLite file for each process that uses it.

    spool/0.sqlite   of the first process   taken by whoever can lock it, and held until the process ends
    spool/1.sqlite   of the second …

- A row is some events in order, as a JSON array; rows are in order by their id. A row is written once, and deleted when
  each of its events was accepted or rejected.
- SQLite's exclusive lock says whose a file is, and the kernel lets go of it when the process dies. A process that
  opens the folder takes the first free file, and moves what other free files hold to the end of its own. A crash in
  the middle of that leaves copies, which the server knows by their ids. Files stay, if only as empty ones: to delete a
  file that somebody else may be opening would lose events.
- In WAL mode without a sync for each commit, what is written outlives the process at once, `kill -9` included, and a
  loss of power but for the last moments.
- SQLite must not be carried over a fork, not even to be closed. So the file is closed before, and opened again right
  after; the child leaves it alone, and if somebody else takes it in between, he sends what is in it. Rows that were
  read in one opening are not known in the next.
- What is damaged costs as little as can be: a row that is none is deleted, a file that SQLite cannot read is set aside.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from msgspec import DecodeError, Raw, json

FILES_MAX = 1000
# What trying again does not help against.
DAMAGE = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}

_decode = json.Decoder(list[Raw]).decode

_MAKE = "CREATE TABLE IF NOT EXISTS waiting (id INTEGER PRIMARY KEY AUTOINCREMENT, events INTEGER, batch BLOB)"
_ADD = "INSERT INTO waiting (events, batch) VALUES (?, ?)"
# What no client writes would raise where it is read, each time.
_PURGE = "DELETE FROM waiting WHERE typeof(events) <> 'integer' OR events < 0 OR typeof(batch) <> 'blob'"
_SIZE = "SELECT coalesce(sum(events), 0), coalesce(sum(length(batch)), 0) FROM waiting"
_OLDEST = "SELECT id, events, batch FROM waiting WHERE id > ? ORDER BY id"
_FORGET = "DELETE FROM waiting WHERE id <= ?"
_FORGET_ONE = "DELETE FROM waiting WHERE id = ?"

Tell = Callable[[str], object]
"""Told, in a sentence, of what was damaged."""
Fits = Callable[[int, int], bool]
"""Whether so many more events with so many bytes have room."""


class Receipt(NamedTuple):
    """The last row that was read, and in which opening of the file."""

    last: int
    opening: int


class Spool:
    """This process's file. Every method may raise `sqlite3.Error`. One thread at a time.

    `events` and `bytes` are of the rows that nobody took yet. `avoid` is a file to leave alone, locked or not.
    `missing` counts events that rows said they had, and had not; less than nothing where they had more.
    """

    def __init__(self, folder: Path, avoid: Path | None = None, tell: Tell = lambda _: None) -> None:
        self._folder = folder
        self._avoid = avoid
        self._tell = tell
        self.missing = 0
        self._database: sqlite3.Connection | None = None
        self.path: Path | None = None
        self._opening = 0
        self._taken = 0
        self.events = 0
        self.bytes = 0

    @property
    def is_open(self) -> bool:
        """Whether there is a file."""
        return self._database is not None

    def open(self, fits: Fits) -> None:
        """Takes a file, and moves what dead processes left into it, as long as it fits."""
        paths = [self._folder / f"{number}.sqlite" for number in range(FILES_MAX)]
        for path in paths:
            if path == self._avoid:
                continue
            if self._database is None:
                self._take_over(path)
            elif path.exists():
                self._adopt(path, fits)
            else:
                break
        if self._database is None:
            raise sqlite3.OperationalError(f"all {FILES_MAX} files of the spool are in use")

    def _take_over(self, path: Path) -> None:
        database = claim(path, self._tell)
        if database is None:
            return
        try:
            events, size = database.execute(_SIZE).fetchone()
        except sqlite3.DatabaseError as error:
            # Its head was good, and what is behind it is not.
            database.close()
            _set_aside_damaged(path, error, self._tell)
            self._take_over(path)
            return
        self._database, self.path = database, path
        self._opening += 1
        self._taken = 0
        self.events, self.bytes = events, size

    def _adopt(self, path: Path, fits: Fits) -> None:
        orphan = claim(path, self._tell)
        if orphan is None:
            return
        with closing(orphan):
            try:
                found = orphan.execute(_OLDEST, (0,)).fetchall()
            except sqlite3.DatabaseError as error:
                _set_aside_damaged(path, error, self._tell)
                return
            for row, events, batch in found:
                if not fits(events, len(batch)):
                    return
                self._insert([(events, batch)])
                orphan.execute(_FORGET_ONE, (row,))

    def add(self, batches: Iterable[Sequence[bytes]]) -> None:
        """Writes events, each batch as a row, all or none."""
        self._insert([(len(batch), b"[" + b",".join(batch) + b"]") for batch in batches])

    def _insert(self, rows: list[tuple[int, bytes]]) -> None:
        database = self._connection()
        database.execute("BEGIN IMMEDIATE")
        try:
            database.executemany(_ADD, rows)
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
        self.events += sum(events for events, _ in rows)
        self.bytes += sum(len(batch) for _, batch in rows)

    def take(self, events_max: int, bytes_max: int) -> tuple[list[bytes], Receipt]:
        """The oldest events that nobody took: whole rows, at least one where there is a good one."""
        taken: list[bytes] = []
        try:
            damaged = self._read_rows(taken, events_max, bytes_max)
            self._connection().executemany(_FORGET_ONE, damaged)
        except sqlite3.DatabaseError:
            # What was read is good; whoever asks next comes upon the error again, and has nothing in hand then.
            if not taken:
                raise
        return taken, Receipt(self._taken, self._opening)

    def _read_rows(self, taken: list[bytes], events_max: int, bytes_max: int) -> list[tuple[int]]:
        """Puts the events of the next rows into `taken`; returns the ids of rows that hold none."""
        damaged: list[tuple[int]] = []
        size = 0
        with closing(self._connection().execute(_OLDEST, (self._taken,))) as rows:
            for row, events, batch in rows:
                size += len(batch)
                if taken and (len(taken) + events > events_max or size > bytes_max):
                    break
                found = _events_of(batch)
                taken += found
                self.missing += events - len(found)
                self._pass(row, events, len(batch))
                if not found:
                    damaged.append((row,))
        return damaged

    def drop_oldest(self) -> int:
        """Deletes the oldest row that nobody took; returns how many events it had, 0: there was none."""
        found = self._connection().execute(_OLDEST + " LIMIT 1", (self._taken,)).fetchone()
        if found is None:
            return 0
        row, events, batch = found
        self._connection().execute(_FORGET_ONE, (row,))
        self._pass(row, events, len(batch))
        return int(events)

    def _pass(self, row: int, events: int, size: int) -> None:
        self._taken = row
        self.events -= events
        self.bytes -= size

    def forget(self, receipt: Receipt) -> None:
        """Deletes all rows up to the receipt's. Those of an earlier opening stay, and are taken again."""
        if receipt.opening == self._opening:
            self._connection().execute(_FORGET, (receipt.last,))

    def set_aside(self) -> int:
        """Gives the file up and another name; returns how many events nobody took from it."""
        lost = self.events
        if self.path is not None:
            self.path.rename(free_name(self.path))
        self.close()
        self.events = self.bytes = 0
        return lost

    def close(self) -> None:
        """Lets go of the file."""
        database, self._database = self._database, None
        if database is not None:
            database.close()

    def _connection(self) -> sqlite3.Connection:
        if self._database is None:
            raise sqlite3.OperationalError("the spool is closed")
        return self._database


def _events_of(batch: bytes) -> list[bytes]:
    """The events of a row; none where it is damaged."""
    try:
        return list(map(bytes, _decode(batch)))
    except (DecodeError, RecursionError):
        return []


def _set_aside_damaged(path: Path, error: sqlite3.DatabaseError, tell: Tell) -> None:
    """Gives a file another name that can never be read again, so that it is in nobody's way; raises any other error."""
    if kind_of(error) not in DAMAGE:
        raise error
    aside = free_name(path)
    path.rename(aside)
    tell(f"A file of the spool is damaged ({error}) and was set aside as {aside.name}.")


def claim(path: Path, tell: Tell = lambda _: None) -> sqlite3.Connection | None:
    """The file, made if need be and locked until it is closed; None where another process has it.

    A file that is not a database any more is set aside, beside its place.
    """
    database = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        for statement in (
            "PRAGMA locking_mode = EXCLUSIVE",
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = NORMAL",
        ):
            database.execute(statement)
        database.execute("BEGIN EXCLUSIVE")
        database.execute(_MAKE)
        purged = database.execute(_PURGE).rowcount
        database.execute("COMMIT")
    except sqlite3.DatabaseError as error:
        database.close()
        if kind_of(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return None
        _set_aside_damaged(path, error, tell)
        return claim(path, tell)
    if purged > 0:
        tell(f"{purged} damaged rows of a file of the spool were deleted.")
    return database


def kind_of(error: sqlite3.Error) -> int:
    """SQLite's code of an error, without what further tells kinds of one error apart; 0 for an error of our own."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def free_name(path: Path) -> Path:
    """A name beside the file that nothing has yet."""
    names = (path.with_name(f"{path.name}.damaged-{number}") for number in range(FILES_MAX))
    return next(name for name in names if not name.exists())
