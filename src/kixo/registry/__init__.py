"""The registry: projects, their keys, and how every process hears of a change within one poll.

Keys are kept only as SHA-256. Those we make carry 165 random bits, so a salt or a slow hash would add nothing.

Each change adds one to `revision` in the same transaction, and does so first: that row is the lock that lets one
change happen at a time (on PostgreSQL; SQLite locks the whole file), so a check made inside the transaction holds
until its commit.
"""

import string
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from random import Random, SystemRandom
from typing import Self

from msgspec.structs import replace
from sqlalchemy import Connection

from kixo.errors import BadArgument, BadSetting, DataFolderError, OperatorError
from kixo.layout import Layout
from kixo.places import distributed, registry_place
from kixo.registry import schema, tables
from kixo.registry.file import RegistryFile, create
from kixo.registry.store import Mark, Store
from kixo.registry.tables import KeyRecord, Project
from kixo.settings import Settings
from kixo.snapshot import Snapshot, key_hash
from kixo.timestamp import now_us

WAIT_S = 5.0
RANDOM_LETTERS = string.ascii_lowercase + string.digits


def open_registry(
    settings: Settings, *, make: bool = False, migrate: bool = True, wait_s: float = WAIT_S
) -> "Registry":
    """The registry that the settings name, with the system's clock and randomness.

    `make` makes a missing one; `migrate` brings one of an older Kixo to today's format, which only those leave out who
    do no more than list.

    Raises `DataFolderError`, `RegistryLocked`, `RegistryUnreachable`, and `BadSetting` where `projects_max` is less
    than what it holds.
    """
    return Registry(
        _open_store(settings, make, wait_s),
        projects_max=settings.projects_max,
        now_us=now_us,
        randomness=SystemRandom(),
        migrate=migrate,
    )


def _open_store(settings: Settings, make: bool, wait_s: float) -> Store:
    place = registry_place(settings.registry)
    if place is None:
        path = Layout(settings.data_dir).registry
        if make:
            create(path, schema.set_up)
        return RegistryFile(path, wait_s)
    with distributed("registry"):
        from kixo.registry.postgresql import PostgreSQL
    store = PostgreSQL(place, wait_s)
    if make:
        store.create(schema.set_up)
    return store


class Registry:
    """Projects and keys in a store, which it closes with `close` or at the end of a `with`.

    Each process opens its own, and forks before it does. Every method raises `RegistryLocked` when another process
    holds the registry for longer than it waits, and another `OperatorError` when the store cannot be used.
    `now_us` tells microseconds since 1970; `randomness` makes the keys, so outside of tests it is a `SystemRandom`.
    What else the registry keeps has modules of its own here, such as `login`: their functions take a registry.
    """

    def __init__(
        self,
        store: Store,
        *,
        projects_max: int,
        now_us: Callable[[], int],
        randomness: Random,
        migrate: bool = True,
    ) -> None:
        self.now_us = now_us
        self.randomness = randomness
        self._store = store
        self._projects_max = projects_max
        try:
            self._check(migrate)
        except OperatorError:
            self.close()
            raise

    def close(self) -> None:
        """Lets go of the store."""
        self._store.close()

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

    def mark(self) -> Mark:
        """Which registry it is and its revision: another one means that a new snapshot is needed."""
        return self._store.mark()

    def reading(self) -> AbstractContextManager[Connection]:
        """A transaction that reads, all of it as of one moment."""
        return self._store.reading()

    def writing(self) -> AbstractContextManager[Connection]:
        """A transaction that writes what workers need not hear of; no other process writes meanwhile."""
        return self._store.writing()

    def random_text(self, length: int) -> str:
        """Random small letters and digits, 5.17 bits each."""
        return "".join(self.randomness.choices(RANDOM_LETTERS, k=length))

    def replaced(self) -> bool:
        """Whether another store has taken the place of ours, as when a backup of the file was restored."""
        return self._store.replaced()

    @contextmanager
    def _changing(self) -> Iterator[Connection]:
        with self.writing() as connection:
            tables.count_change(connection)
            yield connection

    def _check(self, migrate: bool) -> None:
        with self.reading() as connection:
            version = schema.schema_version(connection)
            if version > schema.SCHEMA_VERSION:
                raise DataFolderError(
                    f"The registry {self._store} has format {version}, and this Kixo knows formats up to "
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
