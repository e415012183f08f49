"""The registry: projects, their keys, and how every process hears of a change within one poll.

Keys are kept only as SHA-256. Those we make carry 165 random bits, so a salt or a slow hash would add nothing.

Each change adds one to `revision` in the same transaction, and does so first: that row is the lock that lets one
change happen at a time (on PostgreSQL; SQLite locks the whole file), so a check made inside the transaction holds
until its commit.
"""

import string
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random, SystemRandom
from typing import NamedTuple, Self

from msgspec.structs import replace
from sqlalchemy import Connection

from kixo.errors import BadArgument, BadSetting, DataFolderError, OperatorError
from kixo.layout import Layout
from kixo.registry import schema, tables
from kixo.registry.file import create, faults, open_engine
from kixo.registry.tables import KeyRecord, Project
from kixo.settings import Settings
from kixo.snapshot import Snapshot, key_hash
from kixo.timestamp import now_us

WAIT_S = 5.0
# A worker answers requests meanwhile, so it does not wait: it keeps its snapshot and looks again at the next poll.
POLL_WAIT_S = 0.02
RANDOM_LETTERS = string.ascii_lowercase + string.digits


class Refresh(NamedTuple):
    """What came of a look at the registry: whether the snapshot is another, and why none could be had."""

    changed: bool
    fault: OperatorError | None


def open_registry(
    settings: Settings, *, make: bool = False, migrate: bool = True, wait_s: float = WAIT_S
) -> "Registry":
    """The registry of the settings' data folder, with the system's clock and randomness.

    `make` makes a missing one; `migrate` brings one of an older Kixo to today's format, which only those leave out who
    do no more than list.

    Raises `DataFolderError`, `RegistryLocked`, and `BadSetting` where `projects_max` is less than what it holds.
    """
    return Registry(
        Layout(settings.data_dir).registry,
        projects_max=settings.projects_max,
        now_us=now_us,
        randomness=SystemRandom(),
        make=make,
        migrate=migrate,
        wait_s=wait_s,
    )


class Registry:
    """Projects and keys. Opened with a path; closed with `close` or at the end of a `with`.

    Each process opens its own, and forks before it does. Every method raises `RegistryLocked` when another process
    holds the registry for longer than `wait_s` seconds, and `DataFolderError` when the file cannot be used.
    `now_us` tells microseconds since 1970; `randomness` makes the keys, so outside of tests it is a `SystemRandom`.
    What else the registry keeps has modules of its own here, such as `login`: their functions take a registry.
    """

    def __init__(
        self,
        path: Path,
        *,
        projects_max: int,
        now_us: Callable[[], int],
        randomness: Random,
        make: bool = False,
        migrate: bool = True,
        wait_s: float = WAIT_S,
    ) -> None:
        self.path = path
        self.now_us = now_us
        self.randomness = randomness
        self._projects_max = projects_max
        if make and not path.exists():
            create(path, schema.set_up)
        self._identity = self._file_identity()
        self._engine = open_engine(path, wait_s)
        self._writing_engine = self._engine.execution_options(begin="BEGIN IMMEDIATE")
        try:
            self._check(migrate)
        except OperatorError:
            self.close()
            raise

    def close(self) -> None:
        """Lets go of the file."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def create_project(self, name: str = "", id: str | None = None) -> Project:
        """Makes a project, with an id of ours or one taken over; raises `BadArgument`."""
        project_id = f"kx_proj_{self.random_text(20)}" if id is None else id
        tables.check_project(project_id, name)
        with self._changing() as connection:
            if tables.find_project(connection, project_id):
                raise BadArgument(f"There is a project {project_id} already.", "Choose another --id.")
            count = tables.count_projects(connection)
            if count >= self._projects_max:
                raise BadArgument(
                    f"There are {count} projects, and projects_max is {self._projects_max}.", "Raise projects_max."
                )
            project = Project(count + 1, project_id, name, self.now_us())
            tables.insert_project(connection, project)
        return project

    def list_projects(self, limit: int | None = None) -> list[Project]:
        """Every project, or at most so many, oldest first."""
        with self.reading() as connection:
            return tables.all_projects(connection, limit)

    def count_projects(self) -> int:
        """How many projects there are, which is also the highest number."""
        with self.reading() as connection:
            return tables.count_projects(connection)

    def find_project(self, project_id: str) -> Project | None:
        """The project of that id."""
        with self.reading() as connection:
            return tables.find_project(connection, project_id)

    def create_key(self, project_id: str, key: str | None = None) -> tuple[KeyRecord, str]:
        """Makes a key, or takes one over, and returns it in the clear: this once. Raises `BadArgument`."""
        api_key = f"kx_key_{self.random_text(32)}" if key is None else key
        tables.check_key(api_key, project_id)
        record = KeyRecord(f"k_{self.random_text(12)}", project_id, api_key[-4:], self.now_us(), None)
        with self._changing() as connection:
            project = tables.require_project(connection, project_id)
            tables.check_room(connection, project)
            tables.refuse_known_key(connection, api_key)
            tables.insert_key(connection, project, record, key_hash(api_key))
        return record, api_key

    def list_keys(self, project_id: str | None = None) -> list[KeyRecord]:
        """Every key, or those of one project, revoked ones too, oldest first; raises `BadArgument`."""
        with self.reading() as connection:
            project = None if project_id is None else tables.require_project(connection, project_id)
            return tables.all_keys(connection, project)

    def key_numbers(self, project_id: str) -> dict[str, int]:
        """The number of every key of a project, revoked ones too, by the key's id; raises `BadArgument`."""
        with self.reading() as connection:
            return tables.key_numbers(connection, tables.require_project(connection, project_id))

    def revoke_key(self, key: str, project_id: str | None = None) -> KeyRecord:
        """Revokes a key, given by its id or in the clear; a revoked one stays as it is. Raises `BadArgument`."""
        with self._changing() as connection:
            record = tables.find_key(connection, key)
            if record is None or project_id not in (None, record.project_id):
                # The argument is not repeated: it may be a key in the clear.
                raise BadArgument("There is no such key.", "'kixo key list' shows the ids of all keys.")
            if record.revoked_at_us is None:
                record = replace(record, revoked_at_us=self.now_us())
                tables.update_revoked_at(connection, record)
        return record

    def revision(self) -> int:
        """The number of changes so far."""
        with self.reading() as connection:
            return tables.revision(connection)

    def snapshot(self) -> Snapshot:
        """All that is needed to authenticate, as of one moment."""
        with self.reading() as connection:
            return Snapshot(tables.revision(connection), tables.numbers(connection), tables.live_hashes(connection))

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that reads, all of it as of one moment."""
        with faults(self.path), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes what workers need not hear of; no other process writes meanwhile."""
        with faults(self.path), self._writing_engine.begin() as connection:
            yield connection

    def random_text(self, length: int) -> str:
        """Random small letters and digits, 5.17 bits each."""
        return "".join(self.randomness.choices(RANDOM_LETTERS, k=length))

    def replaced(self) -> bool:
        """Whether another file has taken the place of ours, as when a backup was restored."""
        return self._file_identity() != self._identity

    @contextmanager
    def _changing(self) -> Iterator[Connection]:
        with self.writing() as connection:
            tables.count_change(connection)
            yield connection

    def _file_identity(self) -> tuple[int, int]:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            raise DataFolderError(
                f"There is no registry {self.path}.",
                "Make one with 'kixo project create' or 'kixo serve', or correct --data-dir.",
            ) from None
        except OSError as error:
            raise DataFolderError(f"The registry {self.path} cannot be read: {error}.", "Correct --data-dir.") from None
        return status.st_dev, status.st_ino

    def _check(self, migrate: bool) -> None:
        with self.reading() as connection:
            version = schema.schema_version(connection)
            if version > schema.SCHEMA_VERSION:
                raise DataFolderError(
                    f"The registry {self.path} has format {version}, and this Kixo knows formats up to "
                    f"{schema.SCHEMA_VERSION}.",
                    "Use the newer Kixo that wrote it.",
                )
            count = tables.count_projects(connection)
            if count > self._projects_max:
                raise BadSetting(
                    f"projects_max is {self._projects_max}, but there are {count} projects.", "Raise projects_max."
                )
        if migrate and version < schema.SCHEMA_VERSION:
            with self.writing() as connection:
                schema.migrate(connection)


class SnapshotSource:
    """The snapshot that a worker authenticates with, and the kept connection by which it stays new.

    `open_registry` opens the worker's own registry, without making one and with a short wait (`POLL_WAIT_S`). The
    first snapshot has to be had: without one every sender would be told that its key is wrong, and drop its events.
    """

    def __init__(self, open_registry: Callable[[], Registry]) -> None:
        self._open = open_registry
        self._registry = open_registry()
        try:
            self.snapshot = self._registry.snapshot()
        except OperatorError:
            self._registry.close()
            raise

    def close(self) -> None:
        """Lets go of the registry."""
        self._registry.close()

    def refresh(self) -> Refresh:
        """Takes a new snapshot if the registry changed; on a fault the old one stays, and the fault is returned."""
        try:
            if self._registry.replaced():
                self._reopen()
            elif self._registry.revision() == self.snapshot.revision:
                return Refresh(changed=False, fault=None)
            self.snapshot = self._registry.snapshot()
        except OperatorError as fault:
            return Refresh(changed=False, fault=fault)
        return Refresh(changed=True, fault=None)

    def _reopen(self) -> None:
        # In two steps, so that a fault leaves the old one to be looked at again.
        fresh = self._open()
        self._registry.close()
        self._registry = fresh
