"""What any registry does, wherever it is kept: one contract, run on the file and on PostgreSQL."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Protocol

import pytest
from sqlalchemy import Connection, text

from kixo.errors import BadArgument, BadSetting, DataFolderError, KixoError, RegistryLocked, RegistryUnreachable
from kixo.layout import Layout
from kixo.places import Address, registry_place
from kixo.registry import Registry, schema, tables
from kixo.registry import postgresql as postgresql_registry
from kixo.registry.file import RegistryFile, create
from kixo.registry.login import (
    create_login_token,
    has_session_secret,
    renew_session_secret,
    session_secret,
    use_login_token,
)
from kixo.registry.postgresql import PostgreSQL
from kixo.registry.replays import find_replays, list_replays, record_replays
from kixo.registry.saved import delete_saved_query, find_saved_query, list_saved_queries, save_query
from kixo.registry.source import KeptSnapshot, Refresh, SnapshotSource
from kixo.registry.tokens import create_read_token, find_live_read_token, list_read_tokens, revoke_read_token
from kixo.snapshot import Sender, key_hash
from tests.cable import Cable
from tests.services import PostgreSQL as PostgreSQLService

NOW_US = 1_775_650_000_000_000
UNCHANGED = Refresh(changed=False, fault=None)


class Opener(Protocol):
    """Opens the same registry, as another process or node would."""

    def __call__(self, *, make: bool = True, wait_s: float = 5.0, projects_max: int = 100) -> Registry: ...


Seeds = Iterator[int]


def opened(store: "RegistryFile | PostgreSQL", seed: int, projects_max: int) -> Registry:
    return Registry(store, projects_max=projects_max, now_us=lambda: NOW_US, randomness=Random(seed))


def at_once(*works: Callable[[], object]) -> list[object]:
    """Does these in as many threads, which begin together; what each gave or raised of ours."""
    barrier = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> object:
        barrier.wait(30)
        try:
            return work()
        except KixoError as error:
            return error

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))


class RegistryContract:
    """Gives the tests; a form gives the fixture `opener`."""

    @pytest.fixture
    def registry(self, opener: Opener) -> Iterator[Registry]:
        with opener() as registry:
            yield registry

    @pytest.fixture
    def other(self, opener: Opener, registry: Registry) -> Iterator[Registry]:
        """The same registry, on another node."""
        with opener(make=False) as other:
            yield other

    def test_a_missing_registry_is_only_made_when_asked_for(self, opener: Opener) -> None:
        with pytest.raises(DataFolderError, match="There is no registry"):
            opener(make=False)
        opener().close()
        opener(make=False).close()

    def test_several_that_make_it_at_once_have_the_same_one(self, opener: Opener) -> None:
        def make() -> str:
            with opener() as registry:
                return registry.create_project().id

        ids = at_once(*[make] * 4)
        with opener() as registry:
            assert {project.id for project in registry.list_projects()} == set(ids)

    def test_projects_are_numbered_found_and_bounded(self, opener: Opener, registry: Registry) -> None:
        first, second = registry.create_project("First", "Zebra"), registry.create_project("", "ant")
        assert registry.list_projects() == [first, second]
        assert registry.list_projects(1) == [first]
        assert (first.number, second.number, registry.count_projects()) == (1, 2, 2)
        assert registry.find_project("ant") == second
        assert registry.find_project("ANT") is None
        with pytest.raises(BadArgument, match="already"):
            registry.create_project(id="ant")
        with opener(projects_max=2) as full, pytest.raises(BadArgument, match="Raise projects_max"):
            full.create_project()
        with pytest.raises(BadSetting, match="projects_max is 1, but there are 2"):
            opener(projects_max=1)

    def test_keys_are_made_listed_numbered_and_revoked(self, registry: Registry, other: Registry) -> None:
        first, second = registry.create_project(), registry.create_project()
        (one, key), (two, _), (three, _) = (registry.create_key(each.id) for each in (first, second, first))
        assert other.list_keys() == [*sorted([one, three], key=lambda key: key.id), two]
        assert other.key_numbers(first.id) == {one.id: 1, three.id: 3}
        with pytest.raises(BadArgument, match="a key of project"):
            other.create_key(second.id, key)
        with pytest.raises(BadArgument, match="no such key"):
            other.revoke_key(key, second.id)
        assert other.revoke_key(key).revoked_at_us == NOW_US
        assert registry.revoke_key(one.id).revoked_at_us == NOW_US
        assert {sender.key for sender in registry.snapshot().keys.values()} == {2, 3}
        with pytest.raises(BadArgument, match="a revoked key"):
            registry.create_key(first.id, key)
        with pytest.raises(BadArgument, match="no project 'nobody'"):
            registry.list_keys("nobody")

    def test_a_snapshot_knows_who_sends(self, registry: Registry, other: Registry) -> None:
        project = registry.create_project()
        _, key = registry.create_key(project.id)
        assert other.snapshot().identify(project.id, key) == Sender(1, 1, key_hash(key))
        assert other.snapshot().revision == registry.revision() == 2

    def test_a_refused_change_leaves_nothing_and_a_change_is_marked(self, registry: Registry, other: Registry) -> None:
        registry.create_project(id="a")
        before = other.mark()
        with pytest.raises(BadArgument):
            registry.create_project(id="a")
        assert other.mark() == before
        registry.create_project(id="b")
        assert other.mark() != before

    def test_changes_of_two_nodes_at_once_come_one_after_the_other(self, registry: Registry, other: Registry) -> None:
        project = registry.create_project()

        def change(node: Registry) -> int:
            for _ in range(10):
                record, _ = node.create_key(node.create_project().id)
                node.create_key(project.id)
                node.revoke_key(record.id)
            return 10

        assert at_once(partial(change, registry), partial(change, other)) == [10, 10]
        assert [each.number for each in registry.list_projects()] == list(range(1, 22))
        keys = registry.list_keys()
        numbers = [n for each in registry.list_projects() for n in registry.key_numbers(each.id).values()]
        assert sorted(numbers) == list(range(1, 41))
        assert sum(key.revoked_at_us is None for key in keys) == len(registry.snapshot().keys) == 20
        assert registry.revision() == 81

    def test_of_two_nodes_that_make_the_same_project_one_is_told(self, registry: Registry, other: Registry) -> None:
        for number in range(5):
            found = at_once(*(partial(node.create_project, id=f"p{number}") for node in (registry, other)))
            assert sum(isinstance(each, BadArgument) for each in found) == 1
        assert registry.count_projects() == 5

    def test_of_two_nodes_that_take_over_the_same_key_one_is_told(self, registry: Registry, other: Registry) -> None:
        first, second = registry.create_project(), registry.create_project()
        found = at_once(
            partial(registry.create_key, first.id, "kx_key_the_same"),
            partial(other.create_key, second.id, "kx_key_the_same"),
        )
        assert sum(isinstance(each, BadArgument) for each in found) == 1
        assert len(registry.list_keys()) == 1

    def test_what_is_read_is_of_one_moment(self, registry: Registry, other: Registry) -> None:
        registry.create_project()
        with registry.reading() as connection:
            assert tables.count_projects(connection) == 1
            other.create_project()
            assert tables.count_projects(connection) == 1
        assert registry.count_projects() == 2

    def test_whoever_waits_too_long_for_another_gives_up(self, opener: Opener, registry: Registry) -> None:
        with opener(wait_s=0.1) as hasty:
            with registry.writing(), pytest.raises(RegistryLocked, match="Another process holds"):
                hasty.create_project()
            assert hasty.create_project().number == 1

    def test_a_read_does_not_wait_for_a_change(self, opener: Opener, registry: Registry) -> None:
        registry.create_project()
        with opener(wait_s=0.1) as other, registry.writing() as connection:
            tables.count_change(connection)
            assert other.revision() == other.mark().revision == other.snapshot().revision == 1

    @pytest.mark.parametrize("odd", ["a\0b", "\0"])
    def test_what_cannot_be_kept_is_no_crash(self, registry: Registry, odd: str) -> None:
        for ask in (registry.find_project, partial(find_saved_query, registry)):
            try:
                assert ask(odd) is None
            except BadArgument as error:
                assert "cannot keep" in error.message
        assert registry.count_projects() == 0

    def test_a_login_token_lets_one_in_whatever_node_it_comes_to(self, registry: Registry, other: Registry) -> None:
        token, late = create_login_token(registry, 60), create_login_token(registry, 0)
        found = at_once(*(partial(use_login_token, node, token) for node in [registry, other] * 3))
        assert sorted(map(bool, found)) == [False] * 5 + [True]
        assert not use_login_token(other, late)

    def test_all_nodes_sign_with_the_same_secret(self, registry: Registry, other: Registry) -> None:
        assert not has_session_secret(registry)
        first, second = at_once(partial(session_secret, registry), partial(session_secret, other))
        assert first == second == session_secret(registry)
        renew_session_secret(other)
        assert session_secret(registry) == session_secret(other) != first

    def test_read_tokens_live_until_they_are_revoked(self, registry: Registry, other: Registry) -> None:
        record, token = create_read_token(registry, "nightly")
        assert find_live_read_token(other, token) == record
        assert list_read_tokens(other) == [record]
        assert revoke_read_token(other, token).revoked_at_us == NOW_US
        assert find_live_read_token(registry, token) is None
        with pytest.raises(BadArgument, match="no such read token"):
            revoke_read_token(registry, "kx_read_unknown")

    def test_saved_queries_are_kept_in_the_order_of_their_letters(self, registry: Registry, other: Registry) -> None:
        names = ["b", "A", "a", "_", "B", "é", "1", "a b", "ab"]
        made = [save_query(registry, name, f"SELECT '{name}'", "line") for name in names]
        assert [query.name for query in list_saved_queries(other)] == sorted(names)
        changed = save_query(other, "C", "SELECT 2", id=made[0].id)
        assert find_saved_query(registry, made[0].id) == changed
        with pytest.raises(BadArgument, match="already"):
            save_query(registry, "A", "SELECT 3")
        assert delete_saved_query(other, made[1].id) == made[1]
        assert find_saved_query(registry, made[1].id) is None

    def test_replays_are_known_by_their_place(self, registry: Registry, other: Registry) -> None:
        places = [(0, 2**40 + n, n % 7) for n in range(3000)]
        record_replays(registry, "log", [(place, "accepted") for place in places])
        record_replays(other, "log", [(places[0], "too_deep")])
        found = find_replays(registry, "log", places)
        assert len(found) == 3000
        assert found[places[0]].outcome == "too_deep"
        assert [replay.place for replay in list_replays(other, "log")] == places
        assert list_replays(other, "another") == []

    def test_a_change_on_one_node_is_seen_by_the_snapshots_of_all(self, opener: Opener, registry: Registry) -> None:
        project = registry.create_project()
        with ExitStack() as stack:
            sources = [SnapshotSource(partial(opener, make=False), lambda: NOW_US / 1e6) for _ in range(2)]
            for source in sources:
                stack.callback(source.close)
                assert source.refresh() == UNCHANGED
            record, key = registry.create_key(project.id)
            for source in sources:
                assert source.refresh() == Refresh(changed=True, fault=None)
                assert source.snapshot.authenticate(project.id, key) == 1
            registry.revoke_key(record.id)
            for source in sources:
                assert source.refresh().changed
                assert source.snapshot.authenticate(project.id, key) is None
                assert source.refresh() == UNCHANGED

    def test_a_registry_of_a_newer_version_is_left_alone(self, opener: Opener, registry: Registry) -> None:
        with registry.writing() as connection:
            connection.execute(text("UPDATE state SET schema_version = 99"))
        with pytest.raises(DataFolderError, match=r"has format 99.*newer Kixo"):
            opener()

    def test_of_several_that_find_an_older_version_one_migrates_it(
        self, opener: Opener, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def add_a_column(connection: Connection) -> None:
            connection.execute(text("ALTER TABLE projects ADD COLUMN added INTEGER"))
            connection.execute(text("UPDATE state SET schema_version = 2, revision = revision + 1"))

        monkeypatch.setattr(schema, "MIGRATIONS", {1: add_a_column})
        with registry.writing() as connection:
            connection.execute(text("UPDATE state SET schema_version = 1"))
        found = at_once(*[lambda: opener(make=False).close()] * 4)
        assert found == [None] * 4
        assert registry.revision() == 1


class TestRegistryFile(RegistryContract):
    """The registry of one machine."""

    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        path, seeds = Layout(tmp_path / "data").registry, iter(range(1000))

        def open_file(*, make: bool = True, wait_s: float = 5.0, projects_max: int = 100) -> Registry:
            if make:
                create(path, schema.set_up)
            return opened(RegistryFile(path, wait_s), next(seeds), projects_max)

        return open_file


class TestPostgreSQL(RegistryContract):
    """The registry of several machines."""

    @pytest.fixture
    def opener(self, postgresql: PostgreSQLService, monkeypatch: pytest.MonkeyPatch) -> Opener:
        monkeypatch.setenv("KIXO_REGISTRY_PASSWORD", postgresql.password)
        place, seeds = registry_place(postgresql.url()), iter(range(1000))
        assert place is not None

        def open_database(*, make: bool = True, wait_s: float = 5.0, projects_max: int = 100) -> Registry:
            store = PostgreSQL(place, wait_s)
            if make:
                store.create(schema.set_up)
            return opened(store, next(seeds), projects_max)

        return open_database

    def test_a_registry_that_was_restored_is_another_at_the_same_revision(
        self, opener: Opener, registry: Registry
    ) -> None:
        before = registry.mark()
        with registry.writing() as connection:
            connection.execute(text("DROP TABLE state"))
            schema.STATE.create(connection)
            connection.execute(text("INSERT INTO state VALUES (2, 0)"))
        assert registry.mark().revision == before.revision
        assert registry.mark() != before


class TestPostgreSQLAway:
    """What goes on while the server is not there, or does not answer."""

    @pytest.fixture
    def cable(self, postgresql: PostgreSQLService) -> Iterator[Cable]:
        with Cable(postgresql.program.host, postgresql.program.port) as cable:
            yield cable

    @pytest.fixture
    def opener(
        self, postgresql: PostgreSQLService, cable: Cable, monkeypatch: pytest.MonkeyPatch
    ) -> Callable[[], Registry]:
        monkeypatch.setenv("KIXO_REGISTRY_PASSWORD", postgresql.password)
        monkeypatch.setattr(postgresql_registry, "ANSWER_S_MAX", 0.5)
        monkeypatch.setattr(postgresql_registry, "CONNECT_S_MAX", 2)
        there = registry_place(postgresql.url())
        assert there is not None
        with closing(PostgreSQL(there, 5.0)) as store:
            store.create(schema.set_up)
        place = replace(there, addresses=(Address("127.0.0.1", cable.port),))
        return lambda: opened(PostgreSQL(place, 5.0), 7, 100)

    @pytest.mark.parametrize("how", ["cut", "stall"])
    def test_a_worker_goes_on_with_what_it_knew_also_one_that_starts_meanwhile(
        self, opener: Callable[[], Registry], cable: Cable, tmp_path: Path, how: str
    ) -> None:
        path = tmp_path / "registry-snapshot"
        with opener() as registry:
            project = registry.create_project()
            record, key = registry.create_key(project.id)
        now_s = [time.time()]
        kept = KeptSnapshot(path, "postgresql://here")
        with closing(SnapshotSource(opener, lambda: now_s[0], kept)) as source:
            assert source.refresh() == UNCHANGED
            (cable.cut if how == "cut" else cable.stall)()
            now_s[0] += 60
            fault = source.refresh().fault
            assert isinstance(fault, RegistryUnreachable)
            assert "cannot be used" in fault.message
            assert source.snapshot.authenticate(project.id, key) == 1
            assert source.age_s() >= 60
        with closing(SnapshotSource(opener, lambda: now_s[0], kept)) as source:
            assert source.snapshot.authenticate(project.id, key) == 1
            assert source.age_s() >= 59
            (cable.mend if how == "cut" else cable.flow)()
            with opener() as registry:
                registry.revoke_key(record.id)
            assert source.refresh() == Refresh(changed=True, fault=None)
            assert source.snapshot.authenticate(project.id, key) is None
            assert source.age_s() == 0

    def test_the_file_is_for_its_owner_and_holds_no_key(self, opener: Callable[[], Registry], tmp_path: Path) -> None:
        path = tmp_path / "registry-snapshot"
        with opener() as registry:
            _, key = registry.create_key(registry.create_project().id)
        SnapshotSource(opener, time.time, KeptSnapshot(path, "postgresql://here")).close()
        assert path.stat().st_mode & 0o777 == 0o600
        assert key[7:].encode() not in path.read_bytes()

    @pytest.mark.parametrize("what", ["none", "cut short", "of another registry"])
    def test_without_a_file_that_can_be_trusted_a_worker_does_not_start(
        self, opener: Callable[[], Registry], cable: Cable, tmp_path: Path, what: str
    ) -> None:
        path = tmp_path / "registry-snapshot"
        SnapshotSource(opener, time.time, KeptSnapshot(path, "postgresql://here")).close()
        if what == "none":
            path.unlink()
        elif what == "cut short":
            path.write_bytes(path.read_bytes()[:-1])
        name = "postgresql://there" if what == "of another registry" else "postgresql://here"
        cable.cut()
        with pytest.raises(RegistryUnreachable):
            SnapshotSource(opener, time.time, KeptSnapshot(path, name))
