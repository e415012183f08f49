"""What keys are used for: counts over workers, restarts and files that are lost."""

import os
from contextlib import closing
from pathlib import Path

import pytest

from kixo.key_use import KEYS_MAX, SLOTS_AT, KeyUse, KeyUseFile, read_key_use
from kixo.registry import open_registry
from kixo.settings import Settings
from tests.conftest import Project, event, running
from tests.test_server import wait_until

NEVER = KeyUse(0, 0, None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "key-use"


def count(folder: Path, *uses: tuple[int, int, int], place: str = "worker-0") -> None:
    """Opens a worker's file, counts, and closes it, as a worker does from start to end."""
    with closing(KeyUseFile(folder / place)) as file:
        add = file.counter()
        for use in uses:
            add(*use)


def test_a_key_that_was_never_used_has_no_last_time(folder: Path) -> None:
    assert read_key_use(folder, [1]) == {1: NEVER}
    count(folder, (2, 5, 100))
    assert read_key_use(folder, [1, 2]) == {1: NEVER, 2: KeyUse(1, 5, 100)}


def test_counts_survive_a_restart_and_are_summed_over_workers(folder: Path) -> None:
    count(folder, (1, 5, 100), (1, 0, 200), (KEYS_MAX - 1, 7, 300))
    count(folder, (1, 1, 150))
    count(folder, (1, 10, 120), place="worker-1")
    assert read_key_use(folder, [1, KEYS_MAX - 1]) == {1: KeyUse(4, 16, 150), KEYS_MAX - 1: KeyUse(1, 7, 300)}


def test_a_key_beyond_the_room_is_not_counted(folder: Path) -> None:
    count(folder, (KEYS_MAX, 5, 100), (1, 1, 1))
    assert read_key_use(folder, [KEYS_MAX, 1]) == {1: KeyUse(1, 1, 1)}


@pytest.mark.parametrize("damage", ["short", "other layout", "gone"])
def test_a_file_that_is_of_no_use_counts_as_none_and_is_made_anew(folder: Path, damage: str) -> None:
    count(folder, (1, 5, 100))
    path = folder / "worker-0"
    if damage == "short":
        os.truncate(path, SLOTS_AT + 100)
    elif damage == "gone":
        path.unlink()
    else:
        with path.open("r+b") as file:
            os.pwrite(file.fileno(), b"kixo key use 9", 0)
    assert read_key_use(folder, [1]) == {1: NEVER}
    count(folder, (1, 2, 200))
    assert read_key_use(folder, [1]) == {1: KeyUse(1, 2, 200)}


def test_on_a_full_disk_nothing_is_counted_and_nothing_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with closing(KeyUseFile(folder / "worker-0")) as file:
        add = file.counter()
        with monkeypatch.context() as full:
            full.setattr(os, "posix_fallocate", no_room)
            add(1, 5, 100)
        add(1, 1, 200)
    assert read_key_use(folder, [1]) == {1: KeyUse(1, 1, 200)}


def test_little_used_it_takes_little_room(folder: Path) -> None:
    count(folder, (1, 1, 1), (KEYS_MAX - 1, 1, 1))
    assert (folder / "worker-0").stat().st_blocks * 512 <= 64 * 1024


def test_a_server_counts_what_was_taken_by_the_key_it_came_with(tmp_path: Path) -> None:
    with running(tmp_path, {}, workers=2) as server:
        project = server.project()
        with open_registry(Settings(data_dir=tmp_path)) as registry:
            other = Project(project.id, registry.create_key(project.id)[1])
            numbers = registry.key_numbers(project.id)
        wait_until(lambda: server.http.post("/v1/batch", json=other.batch()).status_code == 200)
        for batch in ([event(), event()], [event(), 7], [7], []):
            server.http.post("/v1/batch", json=project.batch(*batch))
        for refused in (project.body(platform="amiga"), project.body(*[7] * 1001), b"{"):
            assert server.http.post("/v1/batch", content=refused).status_code >= 400
        server.http.post("/v1/batch?dry_run=true", json=project.batch(event()))
        uses = sorted(use[:2] for use in read_key_use(tmp_path / "run" / "key-use", numbers.values()).values())
        assert uses == [(1, 0), (4, 3)]
