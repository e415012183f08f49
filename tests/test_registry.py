import multiprocessing
import os
import shutil
import signal
import sqlite3
import string
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from random import Random, SystemRandom

import pytest

from kixo.errors import BadArgument, BadSetting, DataFolderError, OperatorError, RegistryLocked
from kixo.layout import Layout
from kixo.registry import Registry, open_registry, tables
from kixo.registry.file import RegistryFile, create
from kixo.registry.schema import set_up
from kixo.registry.source import POLL_WAIT_S, Refresh, SnapshotSource
from kixo.settings import Settings
from kixo.snapshot import Sender, Snapshot, key_hash

NOW_US = 1_775_650_000_000_000
UNCHANGED = Refresh(changed=False, fault=None)
spawn = multiprocessing.get_context("spawn")


def opened(path: Path, *, projects_max: int = 100, make: bool = True, wait_s: float = 5.0, seed: int = 7) -> Registry:
    if make:
        create(path, set_up)
    store = RegistryFile(path, wait_s)
    return Registry(store, projects_max=projects_max, now_us=lambda: NOW_US, randomness=Random(seed))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return Layout(tmp_path / "data").registry


@pytest.fixture
def registry(path: Path) -> Iterator[Registry]:
    with opened(path) as registry:
        yield registry


def watched(path: Path) -> SnapshotSource:
    return SnapshotSource(partial(opened, path, make=False, wait_s=POLL_WAIT_S), lambda: NOW_US / 1e6)


def is_drawn_from(text: str, prefix: str, length: int) -> bool:
    drawn = text.removeprefix(prefix)
    return text != drawn and len(drawn) == length and set(drawn) <= set(string.ascii_lowercase + string.digits)


def test_a_project_gets_the_next_number_an_id_and_the_time(registry: Registry) -> None:
    first, second = registry.create_project("First"), registry.create_project()
    assert (first.number, second.number) == (1, 2)
    assert is_drawn_from(first.id, "kx_proj_", 20)
    assert (first.name, second.name, first.created_at_us) == ("First", "", NOW_US)
    assert registry.list_projects() == [first, second]
    assert registry.find_project(second.id) == second
    assert registry.find_project("nobody") is None


def test_a_project_can_bring_its_id_but_only_once(registry: Registry) -> None:
    assert registry.create_project(id="kx_proj_abc123").id == "kx_proj_abc123"
    with pytest.raises(BadArgument, match="already"):
        registry.create_project(id="kx_proj_abc123")
    assert [project.number for project in (*registry.list_projects(), registry.create_project())] == [1, 2]


@pytest.mark.parametrize("project_id", ["", "a b", "ä", "a/b", "a\n", "x" * 129, "'; drop table projects"])
def test_an_id_that_cannot_be_is_refused(registry: Registry, project_id: str) -> None:
    with pytest.raises(BadArgument, match="cannot be a project id"):
        registry.create_project(id=project_id)


@pytest.mark.parametrize("name", ["x" * 201, "two\nlines", "\x1b[2J"])
def test_a_name_that_cannot_be_is_refused(registry: Registry, name: str) -> None:
    with pytest.raises(BadArgument, match="name"):
        registry.create_project(name)


def test_projects_are_bounded(path: Path) -> None:
    with opened(path, projects_max=2) as registry:
        registry.create_project()
        registry.create_project()
        with pytest.raises(BadArgument, match="Raise projects_max"):
            registry.create_project()
    with pytest.raises(BadSetting, match="projects_max is 1, but there are 2"):
        opened(path, projects_max=1)


def test_a_key_is_made_shown_and_found_by_its_project(registry: Registry) -> None:
    project = registry.create_project()
    record, api_key = registry.create_key(project.id)
    assert is_drawn_from(api_key, "kx_key_", 32)
    assert is_drawn_from(record.id, "k_", 12)
    assert (record.project_id, record.hint, record.revoked_at_us) == (project.id, api_key[-4:], None)
    assert registry.list_keys() == [record]
    assert registry.snapshot().authenticate(project.id, api_key) == project.number


def test_the_system_s_randomness_makes_keys_that_differ(tmp_path: Path) -> None:
    with open_registry(Settings(data_dir=tmp_path / "a"), make=True) as registry:
        project = registry.create_project()
        assert len({registry.create_key(project.id)[1] for _ in range(20)}) == 20
        assert isinstance(registry.randomness, SystemRandom)


def test_a_key_is_nowhere_in_the_file(registry: Registry, path: Path) -> None:
    project = registry.create_project()
    _, made = registry.create_key(project.id)
    _, taken_over = registry.create_key(project.id, "kx_key_xyz789")
    everything = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert key_hash(made).hex().encode() in everything
    assert made[7:].encode() not in everything
    assert taken_over.encode() not in everything


def test_only_the_owner_may_read_the_file(registry: Registry, path: Path) -> None:
    registry.create_project()
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}


@pytest.mark.parametrize("api_key", ["short_7", "x" * 256, "has a space", "tab\tinside", "clé_secrète"])
def test_a_key_that_cannot_be_is_refused_and_not_repeated(registry: Registry, api_key: str) -> None:
    project = registry.create_project()
    with pytest.raises(BadArgument, match="cannot be a key") as caught:
        registry.create_key(project.id, api_key)
    assert api_key not in str(caught.value)


@pytest.mark.parametrize("letter", '"\\{}[],:')
def test_a_key_has_none_of_the_letters_that_json_is_made_of(registry: Registry, letter: str) -> None:
    project = registry.create_project()
    with pytest.raises(BadArgument, match="cannot be a key"):
        registry.create_key(project.id, f"kx_key_{letter}xyz")


@pytest.mark.parametrize(
    "api_key",
    [
        *("event_type", "vent_typ", "properties", "timestamp", "bundle_id", "development", "screen_view", "rejected"),
        *("kx_proj_mine", "12345678", "-1.25e+09", "2026-04-08T12", "2026-W15-3T12Z"),
    ],
)
def test_a_key_is_no_part_of_what_else_a_request_is_made_of(registry: Registry, api_key: str) -> None:
    """It is blanked wherever it stands, and would take the rest of the request with it."""
    project = registry.create_project(id="kx_proj_mine_1")
    with pytest.raises(BadArgument, match="would be blanked with it"):
        registry.create_key(project.id, api_key)


@pytest.mark.parametrize("api_key", ["eight_ch", "x" * 255, "!~';--%^`|", "x_event_type", "kx_key_12345678"])
def test_a_key_that_apps_have_is_taken_over(registry: Registry, api_key: str) -> None:
    project = registry.create_project()
    assert registry.create_key(project.id, api_key)[1] == api_key
    assert registry.snapshot().authenticate(project.id, api_key) == 1


def test_a_key_belongs_to_one_project_for_good(registry: Registry) -> None:
    first, second = registry.create_project(), registry.create_project()
    record, api_key = registry.create_key(first.id)
    with pytest.raises(BadArgument, match=f"a key of project {first.id} already"):
        registry.create_key(second.id, api_key)
    registry.revoke_key(record.id)
    with pytest.raises(BadArgument, match="a revoked key"):
        registry.create_key(first.id, api_key)


def test_keys_of_a_project_are_bounded(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "KEYS_PER_PROJECT_MAX", 1)
    project = registry.create_project()
    registry.create_key(project.id)
    with pytest.raises(BadArgument, match="which is the most"):
        registry.create_key(project.id)


def test_keys_are_listed_for_one_project_or_all(registry: Registry) -> None:
    first, second = registry.create_project(), registry.create_project()
    of_second, _ = registry.create_key(second.id)
    of_first, _ = registry.create_key(first.id)
    assert registry.list_keys() == [of_first, of_second]
    assert registry.list_keys(second.id) == [of_second]
    for ask in (registry.list_keys, registry.create_key):
        with pytest.raises(BadArgument, match="no project 'nobody'"):
            ask("nobody")


@pytest.mark.parametrize("by_id", [True, False])
def test_a_key_is_revoked_by_its_id_or_itself_and_the_others_live_on(registry: Registry, by_id: bool) -> None:
    project = registry.create_project()
    record, api_key = registry.create_key(project.id)
    _, other = registry.create_key(project.id)
    revoked = registry.revoke_key(record.id if by_id else api_key)
    assert revoked.revoked_at_us == NOW_US
    assert revoked in registry.list_keys()
    assert registry.snapshot().authenticate(project.id, api_key) is None
    assert registry.snapshot().authenticate(project.id, other) == 1
    assert registry.revoke_key(record.id) == revoked


def test_a_key_that_is_not_there_cannot_be_revoked_and_is_not_repeated(registry: Registry) -> None:
    first, second = registry.create_project(), registry.create_project()
    record, api_key = registry.create_key(first.id)
    for key, project in (("kx_key_unknown", None), (api_key, second.id), (record.id, second.id)):
        with pytest.raises(BadArgument, match="no such key") as caught:
            registry.revoke_key(key, project)
        assert key not in str(caught.value)
    assert registry.revoke_key(api_key, first.id).id == record.id


def test_a_key_that_looks_like_the_id_of_another_does_not_shield_it(registry: Registry) -> None:
    project = registry.create_project()
    record, _ = registry.create_key(project.id)
    registry.create_key(project.id, record.id)
    assert registry.revoke_key(record.id).id == record.id


def test_keys_have_numbers_from_1_without_gaps_over_all_projects(registry: Registry) -> None:
    first, second = registry.create_project(), registry.create_project()
    made = [registry.create_key(project.id) for project in (first, second, first)]
    registry.revoke_key(made[0][0].id)
    made.append(registry.create_key(second.id))
    assert registry.key_numbers(first.id) == {made[0][0].id: 1, made[2][0].id: 3}
    assert registry.key_numbers(second.id) == {made[1][0].id: 2, made[3][0].id: 4}
    snapshot = registry.snapshot()
    assert snapshot.identify(first.id, made[2][1]) == Sender(1, 3, key_hash(made[2][1]))
    assert snapshot.identify(second.id, made[3][1]) == Sender(2, 4, key_hash(made[3][1]))
    assert snapshot.identify(first.id, made[0][1]) is snapshot.identify(first.id, made[1][1]) is None


def test_every_change_adds_one_to_the_revision_and_a_refused_one_nothing(registry: Registry) -> None:
    assert registry.revision() == 0
    project = registry.create_project()
    record, _ = registry.create_key(project.id)
    registry.revoke_key(record.id)
    with pytest.raises(BadArgument):
        registry.create_project(id=project.id)
    assert registry.revision() == registry.snapshot().revision == 3


@pytest.mark.parametrize(
    ("project_id", "api_key"),
    [
        ("nobody", "kx_key_of_a"),
        ("b", "kx_key_of_a"),
        ("a", "kx_key_of_b"),
        ("a", "kx_key_of_a "),
        ("a", "KX_KEY_OF_A"),
        ("a", ""),
        ("", ""),
        ("a", "\ud800"),
        ("a", "\0"),
        ("a", "kx_key_of_a" * 1_000_000),
        ("\ud800", "kx_key_of_a"),
    ],
)
def test_a_pair_that_is_not_one_is_refused(registry: Registry, project_id: str, api_key: str) -> None:
    for name in "ab":
        registry.create_key(registry.create_project(id=name).id, f"kx_key_of_{name}")
    assert registry.snapshot().authenticate("a", "kx_key_of_a") == 1
    assert registry.snapshot().authenticate(project_id, api_key) is None


def test_no_more_of_a_long_key_is_hashed_than_tells_that_it_is_too_long() -> None:
    assert key_hash("x" * 256) == key_hash("x" * 10_000_000) != key_hash("x" * 255)


def test_a_snapshot_of_nothing_lets_nobody_in() -> None:
    assert Snapshot(0, {}, {}).authenticate("", "") is None


def test_another_process_s_registry_is_the_same(registry: Registry, path: Path) -> None:
    project = registry.create_project()
    with opened(path, seed=8) as other:
        _, api_key = other.create_key(project.id)
    assert registry.snapshot().authenticate(project.id, api_key) == 1


def test_a_new_file_is_on_its_own_in_the_folder(registry: Registry, path: Path) -> None:
    registry.create_project()
    registry.close()
    assert [file.name for file in path.parent.iterdir()] == ["registry.sqlite"]


def test_a_plain_copy_of_the_file_is_a_backup_while_it_is_in_use(registry: Registry, path: Path) -> None:
    with closing(watched(path)) as source:
        project = registry.create_project()
        source.refresh()
        _, api_key = registry.create_key(project.id)
        copy = path.with_name("copy.sqlite")
        shutil.copyfile(path, copy)
    with opened(copy) as restored:
        assert restored.snapshot().authenticate(project.id, api_key) == 1


def test_a_missing_registry_is_only_made_when_asked_for(path: Path) -> None:
    with pytest.raises(DataFolderError, match=r"no registry.*kixo serve"):
        opened(path, make=False)
    assert not path.parent.exists()


def test_a_folder_that_cannot_be_made_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file" / "registry.sqlite", tmp_path / "file" / "folder" / "registry.sqlite"):
        with pytest.raises(DataFolderError, match="cannot be"):
            opened(path)


@pytest.mark.parametrize("content", [b"", b"not a database at all" * 100])
def test_a_file_that_is_no_registry_is_left_alone(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(DataFolderError, match=r"not a Kixo registry.*backup"):
        opened(path)
    assert path.read_bytes() == content


def test_a_damaged_file_is_told_from_a_good_one(registry: Registry, path: Path) -> None:
    registry.create_project()
    registry.close()
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(DataFolderError, match="is damaged"):
        opened(path)


def test_a_registry_of_a_newer_version_is_left_alone(registry: Registry, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("update state set schema_version = 3")
    with pytest.raises(DataFolderError, match=r"has format 3, and this Kixo knows formats up to 2.*newer Kixo"):
        opened(path)


def test_a_locked_registry_can_be_read_but_a_change_gives_up(registry: Registry, path: Path) -> None:
    project = registry.create_project()
    with closing(sqlite3.connect(path, isolation_level=None)) as holder, opened(path, wait_s=0) as other:
        holder.execute("BEGIN EXCLUSIVE")
        assert other.list_projects() == [project]
        with pytest.raises(RegistryLocked, match="Another process holds the registry") as caught:
            other.create_project()
        assert caught.value.exit_code == 6
        holder.execute("ROLLBACK")
        assert other.create_project().number == 2


def test_threads_take_turns_and_one_that_waits_too_long_gives_up(registry: Registry, path: Path) -> None:
    registry.create_project()
    with opened(path, wait_s=0) as shared, ThreadPoolExecutor(1) as pool:
        with shared.reading(), pytest.raises(RegistryLocked, match="Too many"):
            pool.submit(shared.list_projects).result()
        assert len(pool.submit(shared.list_projects).result()) == 1


def shut_out(path: Path) -> sqlite3.Connection:
    """A connection that keeps even readers out, as nothing of ours ever does."""
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("PRAGMA locking_mode=EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    holder.execute("COMMIT")
    return holder


def test_a_registry_that_shuts_everybody_out_cannot_be_opened(registry: Registry, path: Path) -> None:
    registry.close()
    with closing(shut_out(path)), pytest.raises(RegistryLocked):
        opened(path, wait_s=0)


def test_a_source_takes_changes_and_says_so(registry: Registry, path: Path) -> None:
    project = registry.create_project()
    with closing(watched(path)) as source:
        before = source.snapshot
        assert source.refresh() == UNCHANGED
        record, api_key = registry.create_key(project.id)
        assert source.refresh() == Refresh(changed=True, fault=None)
        assert source.snapshot.authenticate(project.id, api_key) == 1
        registry.revoke_key(record.id)
        assert source.refresh().changed
        assert source.snapshot.authenticate(project.id, api_key) is None
        assert source.refresh() == UNCHANGED
        assert before.authenticate(project.id, api_key) is None


def test_a_source_needs_a_first_snapshot(path: Path) -> None:
    with pytest.raises(DataFolderError):
        watched(path)


def test_a_source_keeps_what_it_has_while_the_file_is_away(registry: Registry, path: Path) -> None:
    project = registry.create_project()
    _, api_key = registry.create_key(project.id)
    registry.close()
    with closing(watched(path)) as source:
        away = path.rename(path.with_name("away"))
        found = source.refresh()
        assert isinstance(found.fault, DataFolderError)
        assert not found.changed
        assert source.snapshot.authenticate(project.id, api_key) == 1
        away.rename(path)
        assert source.refresh() == UNCHANGED


def test_a_source_keeps_what_it_has_while_it_is_shut_out(registry: Registry, path: Path) -> None:
    project = registry.create_project()
    _, api_key = registry.create_key(project.id)
    registry.close()
    other = path.with_name("other")
    shutil.copyfile(path, other)
    with closing(watched(path)) as source:
        # Put in place of the one that the source has open, which could not be shut out of that.
        other.rename(path)
        with closing(shut_out(path)):
            assert isinstance(source.refresh().fault, RegistryLocked)
            assert source.snapshot.authenticate(project.id, api_key) == 1
        assert source.refresh() == Refresh(changed=True, fault=None)
        assert source.snapshot.authenticate(project.id, api_key) == 1


def test_a_source_notices_that_a_backup_of_the_same_revision_was_restored(registry: Registry, path: Path) -> None:
    project = registry.create_project(id="p")
    backup = path.with_name("backup")
    registry.close()
    shutil.copyfile(path, backup)
    keys = []
    for file, seed in ((path, 1), (backup, 2)):
        with opened(file, seed=seed) as changed:
            keys.append(changed.create_key(project.id)[1])
    with closing(watched(path)) as source:
        assert [source.snapshot.authenticate("p", key) for key in keys] == [1, None]
        backup.rename(path)
        assert source.refresh() == Refresh(changed=True, fault=None)
        assert [source.snapshot.authenticate("p", key) for key in keys] == [None, 1]


def in_process(work: Callable[..., None], *arguments: object) -> int | None:
    process = spawn.Process(target=work, args=arguments)
    process.start()
    process.join(60)
    return process.exitcode


def die_in_the_middle_of_a_change(path: Path) -> None:
    with opened(path)._changing() as connection:
        tables.insert_project(connection, tables.Project(1, "half", "", 0))
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_change_whose_process_is_killed_never_was(registry: Registry, path: Path) -> None:
    assert in_process(die_in_the_middle_of_a_change, path) == -signal.SIGKILL
    assert registry.list_projects() == []
    assert registry.create_project().number == 1


def make_projects(path: Path, seed: int) -> None:
    with opened(path, seed=seed) as registry:
        for _ in range(5):
            registry.create_key(registry.create_project().id)


def test_processes_that_start_on_an_empty_folder_at_once_share_one_registry(path: Path) -> None:
    processes = [spawn.Process(target=make_projects, args=(path, seed)) for seed in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    with opened(path) as registry:
        assert [project.number for project in registry.list_projects()] == list(range(1, 21))
        assert len(registry.snapshot().keys) == 20
        assert registry.revision() == 40
    assert [file.name for file in path.parent.iterdir()] == ["registry.sqlite"]


def test_every_fault_says_what_to_do(path: Path) -> None:
    with pytest.raises(OperatorError) as caught:
        opened(path, make=False)
    assert caught.value.next_step.endswith(".")
