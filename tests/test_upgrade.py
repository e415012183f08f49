"""A data folder that an earlier release wrote, opened by the present code; `scripts/make_format_fixture.py` made it."""

import json
import multiprocessing
import sqlite3
import tarfile
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from kixo.registry import open_registry
from kixo.registry.schema import migrate
from kixo.settings import Settings
from tests.conftest import PATIENCE_S, Server, event, running
from tests.test_server import kixo, query, wait_until

FIXTURES = sorted((Path(__file__).parent / "data").glob("format-*.tar.xz"))


@pytest.fixture(params=FIXTURES, ids=lambda path: path.name)
def released(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with `data`, as the release left it, and `expected.json`."""
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


@pytest.fixture
def expected(released: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((released / "expected.json").read_bytes())
    return facts


def send(server: Server, body: str) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/batch", content=body, timeout=PATIENCE_S)


def own_body(expected: dict[str, Any], **members: object) -> str:
    """A request of the project that the release made, with a new event."""
    names = {"bundle_id": "com.example.released", "platform": "web", "batch": [event(event_id="new")]}
    return json.dumps({"project_id": expected["project"], "api_key": expected["key"], **names, **members})


def stored(folder: Path) -> Counter[str]:
    return Counter(str(row["event_name"]) for row in query(folder, "SELECT event_name FROM events"))


def test_a_released_folder_is_loaded_to_its_end_with_each_event_once(released: Path, expected: dict[str, Any]) -> None:
    folder, wanted = released / "data", Counter(expected["events"])
    assert sum(stored(folder).values()) < wanted.total(), "some of its events wait in the log"
    with running(folder, {}, loader=True) as server:
        wait_until(lambda: stored(folder) == wanted)
        assert server.metric("kixo_log_cut_bytes_total") > 0
        assert server.metric("kixo_log_corrupt_bytes_total") == 0
    assert query(folder, "SELECT count(*) AS n FROM rejected") == [{"n": expected["rejected"]}]
    assert query(folder, "SELECT sum(duplicate) AS n FROM loads") == [{"n": expected["copies"]}]
    assert [path.read_bytes() for path in (folder / "lake" / "quarantine").iterdir()] == [b"no JSON"]
    assert kixo("audit", "--data-dir", folder).returncode == 0


def test_copies_of_what_the_release_stored_are_known(released: Path, expected: dict[str, Any]) -> None:
    folder, wanted = released / "data", Counter(expected["events"])
    with running(folder, {}, loader=True) as server:
        assert send(server, expected["old_body"]).status_code == 200
        assert send(server, own_body(expected)).status_code == 200
        wait_until(lambda: stored(folder) == wanted + Counter(["/pricing"]))
    copies = expected["copies"] + len(json.loads(expected["old_body"])["batch"])
    assert query(folder, "SELECT sum(duplicate) AS n FROM loads") == [{"n": copies}]
    assert kixo("audit", "--data-dir", folder).returncode == 0


def test_keys_of_the_release_work_and_those_it_revoked_do_not(released: Path, expected: dict[str, Any]) -> None:
    folder = released / "data"
    with running(folder, {}) as server:
        assert send(server, own_body(expected)).status_code == 200
        assert send(server, own_body(expected, api_key=expected["revoked_key"])).status_code == 401
    listed = kixo("key", "list", expected["project"], "--json", "--data-dir", folder).stdout.splitlines()
    assert len(listed) == 2
    assert kixo("key", "revoke", expected["key"], "--data-dir", folder).returncode == 0


def test_questions_can_be_asked_before_the_server_is_started(released: Path, expected: dict[str, Any]) -> None:
    folder = released / "data"
    assert stored(folder) <= Counter(expected["events"])
    audited = kixo("audit", "--json", "--data-dir", folder)
    assert audited.returncode == 0, audited.stdout
    pending = sum(project["pending"] for project in json.loads(audited.stdout)["projects"])
    assert pending > 0
    tailed = kixo("tail", "--from-start", "--limit", 4, "--json", "--data-dir", folder)
    assert len(tailed.stdout.splitlines()) == 4


def version(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "registry.sqlite")) as connection:
        return int(connection.execute("SELECT schema_version FROM state").fetchone()[0])


def made_anew(folder: Path) -> list[str]:
    """The tables of a registry of today, as statements."""
    open_registry(Settings(data_dir=folder), make=True).close()
    return statements(folder)


def statements(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "registry.sqlite")) as connection:
        return [row[0] for row in connection.execute("SELECT sql FROM sqlite_master ORDER BY name") if row[0]]


def test_a_list_leaves_the_registry_of_the_release_as_it_is(released: Path) -> None:
    folder = released / "data"
    for command in (["project", "list"], ["key", "list"]):
        assert kixo(*command, "--data-dir", folder).returncode == 0
    assert version(folder) == 1


def test_whoever_writes_the_registry_of_the_release_brings_it_to_today_s_format(
    released: Path, expected: dict[str, Any], tmp_path: Path
) -> None:
    folder = released / "data"
    with open_registry(Settings(data_dir=folder), migrate=False) as registry:
        revision, projects, keys = registry.revision(), registry.list_projects(), registry.list_keys()
    assert kixo("token", "create", "--data-dir", folder).returncode == 0
    assert version(folder) == 2
    assert statements(folder) == made_anew(tmp_path / "new")
    with open_registry(Settings(data_dir=folder)) as registry:
        assert registry.list_projects() == projects
        assert registry.list_keys() == keys
        assert registry.revision() == revision + 1
        numbers = [number for project in projects for number in registry.key_numbers(project.id).values()]
        assert sorted(numbers) == list(range(1, len(keys) + 1))
        assert registry.snapshot().authenticate(expected["project"], expected["key"]) is not None


def open_at_once(folder: Path) -> None:
    open_registry(Settings(data_dir=folder)).close()


def test_processes_that_find_the_registry_of_the_release_at_once_bring_it_there_once(released: Path) -> None:
    folder = released / "data"
    with open_registry(Settings(data_dir=folder), migrate=False) as registry:
        revision = registry.revision()
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=open_at_once, args=(folder,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    with open_registry(Settings(data_dir=folder)) as registry:
        assert registry.revision() == revision + 1


def test_a_migration_that_is_cut_short_leaves_the_registry_as_it_was(released: Path) -> None:
    folder = released / "data"
    before = statements(folder)
    with (
        open_registry(Settings(data_dir=folder), migrate=False) as registry,
        pytest.raises(KeyboardInterrupt),
        registry.writing() as connection,
    ):
        migrate(connection)
        raise KeyboardInterrupt
    assert (version(folder), statements(folder)) == (1, before)


def test_there_is_a_folder_of_every_release_whose_format_is_read() -> None:
    assert [path.name for path in FIXTURES] == ["format-0.1.0.tar.xz"]
